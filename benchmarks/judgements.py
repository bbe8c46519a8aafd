"""Searches abstracts with questions that people judged: Cranfield's 1,400 documents and 225 queries.

    python benchmarks/judgements.py DATA/text/cranfield
    python benchmarks/judgements.py DATA/text/cranfield --quick

Trained on the documents alone: `ranking` on pairs of title and abstract, `simcse-ngrams` on both as one text. No query
and no judgement is seen in training, and nothing was tuned: recipes have their own settings. Judged by
`likeness evaluate RUN documents.csv --queries queries.csv --qrels FILE`, beside BM25 and TF-IDF of words.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import grid

SCORES = ("ndcg@10", "mrr", "map", "recall@100")
GIVEN: dict[str, dict[str, Any]] = {"ranking": {"epochs": 20}, "simcse-ngrams": {"epochs": 20}}
QUICK = {"epochs": 2}


def opened(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read()


def within(name: str, text: str) -> list[str]:
    """What stands between tags of a name, blanks collapsed; the file is no well-formed XML."""
    return [" ".join(found.split()) for found in re.findall(f"<{name}>(.*?)</{name}>", text, re.DOTALL)]


def files(data: Path, work: Path) -> dict[str, str]:
    """Documents whole, documents as title and abstract, queries, judgements."""
    text = opened(data / "cran.all.1400.xml.gz")
    numbers, titles, bodies = (within(name, text) for name in ("docno", "title", "text"))
    rest = [body.removeprefix(title).strip() for title, body in zip(titles, bodies, strict=True)]
    asked = within("title", opened(data / "cran.qry.xml.gz"))
    both = [row for row, (title, body) in enumerate(zip(titles, rest, strict=True)) if title and body]
    pairs = {"title": [titles[row] for row in both], "abstract": [rest[row] for row in both]}
    queries = {"id": [str(n) for n in range(1, len(asked) + 1)], "text": asked}  # judgements go by their order
    qrels = work / "qrels.txt"
    qrels.write_text(opened(data / "cranqrel.trec.txt.gz"))
    return {
        "ranking": grid.written(work / "title-abstract.csv", pairs),
        "simcse-ngrams": grid.written(work / "documents.csv", {"id": numbers, "text": bodies}),
        "queries": grid.written(work / "queries.csv", queries),
        "qrels": str(qrels),
    }


def done(job: grid.Job, work: Path) -> list[grid.Row]:
    """Train, then what the command line says."""
    run, seconds = grid.trained(job, work)
    documents, queries, qrels = job.asked
    words = ["evaluate", str(run.path), documents, "--queries", queries, "--qrels", qrels, "--json", "--device", "cpu"]
    words += ["--baseline", "tfidf-char"]
    told = subprocess.run([sys.executable, "-m", "likeness", *words], stdout=subprocess.PIPE, check=True)
    scores = json.loads(told.stdout)["scores"]
    return grid.rows(job, {name: scores[name] for name in SCORES}, run, seconds)


def main() -> None:
    parser = grid.asking(__doc__, "the folder with cran.all.1400.xml.gz, cran.qry.xml.gz and cranqrel.trec.txt.gz")
    call = grid.told(parser)
    made = files(call.data, call.work)
    asked = made["simcse-ngrams"], made["queries"], made["qrels"]
    columns = {"ranking": {"columns": {"title": "title", "abstract": "abstract"}}, "simcse-ngrams": {}}
    jobs = []
    for seed in range(call.seeds):
        for recipe, usual in GIVEN.items():
            given = {**(QUICK if call.quick else usual), **columns[recipe]}
            jobs.append(grid.Job(recipe, recipe, seed, made[recipe], asked, given))
    name = "judgements" + ("-quick" if call.quick else "")
    grid.kept(name, jobs, partial(done, work=call.work), SCORES, {"command": grid.command()})


if __name__ == "__main__":
    main()
