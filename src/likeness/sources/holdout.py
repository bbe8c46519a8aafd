"""Hold-outs: items kept out of training to score on, chosen by their ids so that new files do not reshuffle them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Failed, WrongCall
from .base import Source
from .names import Names

TRAIN = "train"
SHARE, MOST = 10, 1000  # one in ten is held out, but at most so many
NUMBER = 8  # bytes of the hash that chooses
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
    held = _chosen(_groups(source, seed), wanted, source.name)
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


@dataclass(frozen=True)
class Groups:
    """What is kept out whole or not at all: groups, and items of none.

    of:      (N,) the group of each item
    sizes:   (G,) how many items each has
    numbers: (G,) uint64, told by their names and the seed, alike on every machine: who goes first
    """

    of: np.ndarray
    sizes: np.ndarray
    numbers: np.ndarray


def _groups(source: Source, seed: int) -> Groups:
    ids = source.ids
    if "group" not in source.table.column_names:
        return Groups(np.arange(len(ids)), np.ones(len(ids), dtype=np.int64), _numbers("item ", ids, seed))
    labels = source.column("group")
    used, of = np.unique(labels.codes, return_inverse=True)
    alone, named = np.flatnonzero(labels.codes < 0), used[used >= 0]
    of = of - (len(used) - len(named))  # those of no group are first, if there are any
    of[alone] = len(named) + np.arange(len(alone))
    numbers = [
        _numbers("group ", Names.of(labels.names[code] for code in named), seed),
        _numbers("item ", ids.take(alone), seed),
    ]
    return Groups(of, np.bincount(of), np.concatenate(numbers))


def _numbers(kind: str, names: Names, seed: int) -> np.ndarray:
    """(N,) uint64 a keyed hash of each name; 0.5 s for a million."""
    begun = blake2b(kind.encode(), digest_size=NUMBER, key=seed.to_bytes(NUMBER, "little"))
    digests = bytearray()
    for name in chain.from_iterable(names.parts()):
        each = begun.copy()
        each.update(name)
        digests += each.digest()
    return np.frombuffer(digests, dtype="<u8")


def _chosen(groups: Groups, wanted: int, name: str) -> np.ndarray:
    """(N,) whether each item is kept out: groups in the order of their numbers, those that still fit."""
    if len(groups.sizes) < 2:
        raise Failed(f"{name}: all items are of one group, so none can be kept out; train with holdout=0")
    order = np.argsort(groups.numbers, kind="stable")
    chosen, left = [], wanted
    for group, size in zip(order.tolist(), groups.sizes[order].tolist(), strict=True):
        if size <= left:
            chosen.append(group)
            left -= size
        if not left:
            break
    held = np.zeros(len(order), dtype=bool)
    held[chosen or order[np.argmin(groups.sizes[order])]] = True
    out: np.ndarray = held[groups.of]
    return out


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
    asked = pa.array([id.encode("utf-8", "surrogatepass") for id in ids], pa.large_binary())  # any text JSON can hold
    held = pc.is_in(source.ids.array, value_set=asked).to_numpy(zero_copy_only=False)
    return np.flatnonzero(~held), np.flatnonzero(held)
