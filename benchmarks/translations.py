"""Finds the translation of a sentence among 2,295: two columns of a table as two towers, beside sentence-transformers.

    pip install sentence-transformers
    python benchmarks/translations.py DATA/text/stsb
    python benchmarks/translations.py DATA/text/stsb --quick

STS-Benchmark in English and in German, row by row. Trained on the training pairs, asked about the test pairs whose
English sentence is not among those; both sides are searched for in each other, by `likeness evaluate`'s rules. The peer
is sentence-transformers' StaticEmbedding with its symmetric ranking loss, on the same pairs, with a tokenizer learned
from them, for as many CPU seconds as ours took (its tokenizer's are not counted). The settings of both were chosen on
the development pairs, `--ask dev`.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grid
import numpy as np
import pyarrow.parquet as pq

import likeness
from likeness.scoring import Question, score

SIDES = ("en", "de")
SCORES = ("en>de r@1", "de>en r@1", "en>de r@10", "de>en r@10")
PEER = "StaticEmbedding"
SETTINGS = {"vocabulary": 30_000, "dim": 512, "batch": 512, "rate": 0.2, "scale": 10.0}
QUICK = 2  # epochs

Pairs = Sequence[tuple[str, str]]


def pairs(folder: Path, split: str) -> list[tuple[str, str]]:
    """(English, German), each once."""
    english, german = (pq.read_table(folder / f"{side}_{split}.parquet") for side in SIDES)
    columns = ("sentence1", "sentence2")
    every = (zip(english[name].to_pylist(), german[name].to_pylist(), strict=True) for name in columns)
    return list(dict.fromkeys(pair for both in every for pair in both))


def tables(folder: Path, split: str, work: Path) -> tuple[str, str]:
    """The training pairs, and those of a split whose English is new, each English sentence once."""
    known = pairs(folder, "train")
    seen = {english for english, _ in known}
    asked = {english: german for english, german in reversed(pairs(folder, split)) if english not in seen}
    train = grid.written(work / "stsb-train.csv", dict(zip(SIDES, zip(*known, strict=True), strict=True)))
    return train, grid.written(work / f"stsb-{split}.csv", {"en": [*asked], "de": [*asked.values()]})


def read(path: str) -> list[tuple[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [(row["en"], row["de"]) for row in csv.DictReader(file)]


def peer(known: Pairs, seconds: float, seed: int, settings: Mapping[str, Any] = SETTINGS) -> Any:
    """A SentenceTransformer trained for so many CPU seconds; its rate rises over a tenth of them and falls to 0."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(seed)
    words = tokenizer([text for pair in known for text in pair], settings["vocabulary"])
    model = SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=settings["dim"])], device="cpu")
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    loss = MultipleNegativesRankingLoss(model, scale=settings["scale"], **both)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["rate"], weight_decay=0.0)
    began = time.process_time()
    for batch in batches(known, settings["batch"], seed):
        done = (time.process_time() - began) / seconds
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = settings["rate"] * min(done / 0.1, (1 - done) / 0.9)
        sides = [model.preprocess(list(side)) for side in zip(*batch, strict=True)]
        optimizer.zero_grad()
        loss(sides, None).backward()
        optimizer.step()
    return model


def tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """WordPiece, learned from the texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=["[UNK]"]))
    return made


def batches(known: Pairs, size: int, seed: int) -> Iterator[Pairs]:
    """Without end, in a new order each time round."""
    drawn = random.Random(seed)
    while True:
        order = drawn.sample(known, len(known))
        yield from (order[start : start + size] for start in range(0, len(order) - size + 1, size))


def judged(model: Any, asked: Pairs) -> dict[str, Any]:
    """score -> columns of a report, by the rules that ours is judged by."""
    texts = dict(zip(SIDES, zip(*asked, strict=True), strict=True))
    sides = {side: np.asarray(model.encode(list(each), batch_size=256)) for side, each in texts.items()}
    found: dict[str, Any] = likeness.evaluate(sides, contents=texts)["scores"]
    return found


def done(job: grid.Job, work: Path) -> list[grid.Row]:
    """Ours with what stands beside it, then the peer for as long."""
    run, seconds = grid.trained(job, work)
    source, test = likeness.read(job.source), likeness.read(job.asked[-1])
    question = Question(baselines=("tfidf-char",))
    scores = score(run.path, source, test, question, device="cpu", workers=1).report["scores"]
    rows = grid.rows(job, {name: scores[name] for name in SCORES}, run, seconds)
    theirs = judged(peer(read(job.source), seconds, job.seed), read(job.asked[-1]))
    found = {name: grid.plain(theirs[name]["encoder"]) for name in SCORES}
    return [*rows, {"row": PEER, "seed": job.seed, "key": f"{PEER}-{job.key}", "scores": found, "seconds": seconds}]


def main() -> None:
    parser = grid.asking(__doc__, "the folder with en_train.parquet, de_train.parquet, ...")
    parser.add_argument("--epochs", type=float, default=25)
    parser.add_argument("--ask", default="test", choices=("test", "dev"))
    call = grid.told(parser)
    train, asked = tables(call.data, call.ask, call.work)
    given = {"epochs": QUICK if call.quick else call.epochs, "columns": {"en": "en", "de": "de"}}
    jobs = [grid.Job("ranking", "ranking", seed, train, (train, asked), given) for seed in range(call.seeds)]
    name = "-".join(["translations", *(["dev"] if call.ask == "dev" else []), *(["quick"] if call.quick else [])])
    said = {"command": grid.command(), "train": len(read(train)), "asked": len(read(asked)), "peer": SETTINGS}
    grid.kept(name, jobs, lambda job: done(job, call.work), SCORES, said)


if __name__ == "__main__":
    main()
