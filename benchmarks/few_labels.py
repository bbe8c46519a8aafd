"""A few labels a class: accuracy on BANKING77 (77 intents) and TREC (the 6 coarse types of question).

    python benchmarks/few_labels.py DATA/text
    python benchmarks/few_labels.py DATA/text --quick

`simcse-ngrams`, with its own settings, is trained on the training texts without their labels. Then logistic regression
is fitted to 1, 5 and 10 labels a class, on the encoder's vectors, on those of the encoder before training and on TF-IDF
of words: means over 20 draws of the labels. `all` has every label. Nothing was tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grid
import pyarrow.parquet as pq

import likeness
from likeness.evaluations import FewLabels, LinearProbe, judge
from likeness.scoring import Split, raw_spaces

SETS = {"banking77": "category", "trec": "coarse"}
LABELS, DRAWS = (1, 5, 10), 20
SCORES = {**{f"few_shot_{n}": f"{n} a class" for n in LABELS}, "linear": "all"}
GIVEN = {"epochs": 20}
QUICK = {"epochs": 1}


def files(data: Path, name: str, work: Path) -> tuple[str, str]:
    """Training and test texts with one label each."""
    made = []
    for part in ("train", "test"):
        table = pq.read_table(data / name / f"{part}.parquet")
        columns = {"text": table["text"].to_pylist(), "label": table[SETS[name]].to_pylist()}
        made.append(grid.written(work / f"{name}-{part}.csv", columns))
    return made[0], made[1]


def done(job: grid.Job, work: Path) -> list[grid.Row]:
    """Train without labels, then judge with few of them and with all."""
    run, seconds = grid.trained(job, work)
    source, test = likeness.read(job.source), likeness.read(job.asked[-1])
    first = likeness.load(run.path, untrained=True)
    spaces = {
        "encoder": (run.space, run.encoder.embed(test)),
        "untrained": (first.embed(source), first.embed(test)),
        "raw": raw_spaces(Split(source, test, ""), first.modality, first.role, 1),
    }
    scores = judge(spaces, [FewLabels(labels=LABELS, draws=DRAWS), LinearProbe()])["scores"]
    found: Mapping[str, Any] = {called: scores[name] for name, called in SCORES.items()}
    return grid.rows(job, found, run, seconds)


def main() -> None:
    parser = grid.asking(__doc__, "the folder with banking77/ and trec/")
    call = grid.told(parser)
    for name in SETS:
        train, test = files(call.data, name, call.work)
        given = QUICK if call.quick else GIVEN
        jobs = [
            grid.Job("simcse-ngrams", "simcse-ngrams", seed, train, (train, test), given) for seed in range(call.seeds)
        ]
        print(name)
        place = f"labels-{name}" + ("-quick" if call.quick else "")
        grid.kept(place, jobs, partial(done, work=call.work), [*SCORES.values()], {"command": grid.command()})


if __name__ == "__main__":
    main()
