"""Hold-outs: items kept out of training to score on, chosen by their ids so that new files do not reshuffle them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ..errors import Failed, WrongCall
from .base import Source

TRAIN = "train"
SHARE, MOST = 10, 1000  # one in ten is held out, but at most so many
Rows = np.ndarray  # (N,) int64 row numbers, ascending


def hold_out(source: Source, count: int | None, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows to keep out. Items of one `group` stay on one side.

    count: items to keep out, or fewer where groups are large; None: a tenth, at most 1,000; 0: none.
           Where the source has a split `train`, all other splits are kept out, and these alone unless a count is
           given; with them go items to train on of a group that other splits have too

    Raises:
        WrongCall: `count` leaves nothing to train on.
        Failed: there are too few items, or too few groups.
    """
    items = len(source)
    if count == 0:
        return np.arange(items), np.arange(0)
    train = _train_split(source)
    if train is not None:
        kept = train if count is None else train[hold_out(source.only(train), count, seed)[0]]
        kept = _apart(source, kept)
        return kept, np.setdiff1d(np.arange(items), kept)
    if items < 2:
        raise Failed(f"{source.name} holds 1 item; learning by contrast takes at least 2")
    wanted = max(min(items // SHARE, MOST), 1) if count is None else count
    if wanted >= items:
        raise WrongCall(f"holdout={wanted} of {items:,} items leaves nothing to train on; give a smaller number")
    held = np.zeros(items, dtype=bool)
    for rows in _chosen(source, wanted, seed):
        held[rows] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _train_split(source: Source) -> Rows | None:
    """Rows of the split `train`, where there are others too."""
    train = in_train(source)
    return np.flatnonzero(train) if train is not None and train.any() and not train.all() else None


def in_train(source: Source) -> np.ndarray | None:
    """(N,) whether each item is of the split `train`, in whatever case; None where the source has no splits."""
    if "split" not in source.table.column_names:
        return None
    splits = source.column("split")
    train: np.ndarray = np.array([name.lower() == TRAIN for name in [*splits.names, "unknown"]])[splits.codes]
    return train


def _apart(source: Source, kept: Rows) -> Rows:
    """The kept rows whose groups have no other rows.

    Raises:
        Failed: there are none.
    """
    if "group" not in source.table.column_names:
        return kept
    codes = source.column("group").codes
    outside = np.delete(codes, kept)
    apart = kept[~np.isin(codes[kept], outside[outside >= 0])]
    if not len(apart):
        why = "every item to train on is of a group that other splits have too"
        raise Failed(f"{source.name}: {why}; leave out the column split or group, or train on all with holdout=0")
    return apart


def _chosen(source: Source, wanted: int, seed: int) -> list[Rows]:
    """Groups of rows to keep out, whole ones, in an order told by their names."""
    groups = _groups(source)
    if len(groups) < 2:
        raise Failed(f"{source.name}: all items are of one group, so none can be kept out; train with holdout=0")
    order = sorted(groups, key=lambda name: (_number(name, seed), name))
    chosen: list[Rows] = []
    left = wanted
    for name in order:
        if len(groups[name]) <= left:
            chosen.append(groups[name])
            left -= len(groups[name])
    return chosen or [groups[min(order, key=lambda name: len(groups[name]))]]


def _groups(source: Source) -> dict[str, Rows]:
    """Name -> rows. An item of no group is a group of its own."""
    if "group" not in source.table.column_names:
        return {f"item {id}": np.array([row]) for row, id in enumerate(source.ids)}
    labels = source.column("group")
    alone = {f"item {source.ids[row]}": np.array([row]) for row in np.flatnonzero(labels.codes < 0).tolist()}
    order = np.argsort(labels.codes, kind="stable")
    ends = np.searchsorted(labels.codes[order], np.arange(len(labels.names) + 1))
    parts = {f"group {name}": order[ends[n] : ends[n + 1]] for n, name in enumerate(labels.names)}
    return alone | {name: rows for name, rows in parts.items() if len(rows)}


def _number(name: str, seed: int) -> int:
    """64 bits told by a name and the seed, alike on every machine."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little")


def write(path: Path, ids: Sequence[str]) -> None:
    """`holdout.json`: the ids kept out of training."""
    path.write_text(json.dumps({"ids": list(ids)}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[str]:
    """The ids that `write` wrote.

    Raises:
        Failed: the file is broken.
    """
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))["ids"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failed(f"{path} is no list of held-out items: {' '.join(str(error).split())}") from None
    return [str(id) for id in ids]


def rows_of(source: Source, ids: Sequence[str]) -> tuple[Rows, Rows]:
    """Rows of a source that are not, and that are, among the ids; ids that it lacks are passed over."""
    held = np.isin(np.asarray(source.ids, dtype=object), np.asarray(list(ids), dtype=object)) if len(ids) else None
    mask = np.zeros(len(source), dtype=bool) if held is None else held
    return np.flatnonzero(~mask), np.flatnonzero(mask)
