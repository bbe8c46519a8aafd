"""How alike are two sentences? Encoders that saw no score, judged by people's: Spearman's correlation of the cosines.

    python benchmarks/sentences.py DATA/text
    python benchmarks/sentences.py DATA/text --quick

Trained on 34,025 sentences of Wikipedia and those of SNLI with human counterfactual edits (`simcse-ngrams`, `simcse`),
or on the latter's pairs with their labels of entailment (`entailment`); no score is read. Beside them the same encoders
before training and TF-IDF, fitted once on the same sentences and once on the training sentences of the set that asks.
Settings were chosen on the development parts, `--ask dev`; the tests are STS-B's and SICK's.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grid
import pyarrow.parquet as pq

import likeness
from likeness.scoring import Question, score

SICK = {"sentence1": "sentence_A", "sentence2": "sentence_B", "score": "relatedness_score"}
ASKED: dict[str, dict[str, tuple[str, str]]] = {  # part -> score -> what fits a baseline of its own, what asks
    "test": {
        "STS-B": ("stsb/en_train.parquet", "stsb/en_test.parquet"),
        "SICK": ("sick/train.parquet", "sick/test.parquet"),
    },
    "dev": {
        "STS-B": ("stsb/en_train.parquet", "stsb/en_dev.parquet"),
        "SICK": ("sick/train.parquet", "sick/dev.parquet"),
    },
}
LINES, PAIRS = "sentences.txt", "nli.parquet"


@dataclass(frozen=True)
class Way:
    """One row: a recipe, what it is trained on, and its settings."""

    recipe: str
    source: str
    given: Mapping[str, Any]


WAYS = {
    "simcse-ngrams": Way("simcse-ngrams", LINES, {"epochs": 2, "batch": 256}),
    "simcse": Way("simcse", LINES, {"epochs": 1, "batch": 128, "dim": 128, "depth": 2}),
    "entailment": Way(
        "simcse-supervised",
        PAIRS,
        {
            "epochs": 20,
            "batch": 256,
            "encoder": {"kind": "NgramBag", "dropout": 0.3},
            "learning_rate": 0.01,
            "columns": {"label": "gold_label"},
        },
    ),
}
QUICK = {"steps": 20, "epochs": None}


def sources(data: Path, work: Path) -> dict[str, str]:
    """What is trained on: lines of text, and pairs with their label of entailment."""
    pairs = pq.read_table(data / "nli_cad/train.parquet")
    with gzip.open(data / "wiki_sentences.txt.gz", "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    lines += [*pairs["sentence1"].to_pylist(), *pairs["sentence2"].to_pylist()]
    (work / LINES).write_text("\n".join(dict.fromkeys(" ".join(line.split()) for line in lines)), encoding="utf-8")
    pq.write_table(pairs.select(["sentence1", "sentence2", "gold_label"]), work / PAIRS)
    return {name: str(work / name) for name in (LINES, PAIRS)}


def read(path: str) -> Any:
    return likeness.read(path, columns=SICK if "sick" in path else None)


def done(job: grid.Job, data: Path, lines: str, part: str, work: Path) -> list[grid.Row]:
    """Train and ask both sets, beside TF-IDF of each set's own training sentences; once also of what was trained on."""
    run, seconds = grid.trained(job, work)
    own, other = (asked(run, data, part, None), asked(run, data, part, lines) if job.seed == 0 else {})
    scores = {name: {column: line[column] for column in ("encoder", "untrained")} for name, line in own.items()}
    rows = grid.rows(job, scores, run, seconds)
    for what, found in (("the set's own", own), ("sentences.txt", other)):
        for column in ("raw", "tfidf-char") if found else ():
            kept = {name: grid.plain(line[column]) for name, line in found.items()}
            row = {"row": f"{grid.NAMES[column]}, fitted on {what}", "seed": None, "scores": kept}
            rows.append({**row, "key": f"{what}-{column}-{job.data}"})
    return rows


def asked(run: likeness.Run, data: Path, part: str, lines: str | None) -> dict[str, Mapping[str, Any]]:
    """Set -> column -> Spearman. lines: what TF-IDF is fitted on; None: the set's own training sentences"""
    found = {}
    for name, (fitting, asking) in ASKED[part].items():
        source, test = likeness.read(lines) if lines else read(str(data / fitting)), read(str(data / asking))
        question = Question(baselines=("tfidf-char",))
        scores = score(run.path, source, test, question, device="cpu", workers=1).report["scores"]
        found[name] = scores["spearman"]
    return found


def main() -> None:
    parser = grid.asking(__doc__, "the folder with wiki_sentences.txt.gz, nli_cad/, stsb/ and sick/")
    parser.add_argument("--ask", default="test", choices=("test", "dev"))
    parser.add_argument("--rows", nargs="*", default=list(WAYS), choices=list(WAYS))
    call = grid.told(parser)
    files = sources(call.data, call.work)
    asked = files[LINES], *(str(call.data / path) for pair in ASKED[call.ask].values() for path in pair)
    jobs = []
    for seed in range(call.seeds):
        for row in call.rows:
            way = WAYS[row]
            given = {**way.given, **(QUICK if call.quick else {})}
            jobs.append(grid.Job(row, way.recipe, seed, files[way.source], asked, given))
    name = "-".join(["sentences", *(["dev"] if call.ask == "dev" else []), *(["quick"] if call.quick else [])])
    said = {"command": grid.command(), "score": "Spearman"}
    grid.kept(name, jobs, lambda job: done(job, call.data, files[LINES], call.ask, call.work), [*ASKED["test"]], said)


if __name__ == "__main__":
    main()
