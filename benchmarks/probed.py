"""What benchmarks/suppression.py asks: sets with several attributes, features at every depth, and their probes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import likeness
from likeness.modalities import Image


@dataclass(frozen=True)
class Set:
    """A data set: what is trained on, what is asked, which attributes, how large pictures are seen, how many epochs.

    files: names and sizes of what it is read from; empty: it is made
    """

    name: str
    train: str
    test: str
    attributes: tuple[str, ...]
    size: int = 40
    epochs: float = 30.0
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)
    files: tuple[tuple[str, int], ...] = ()

    @property
    def identity(self) -> Any:
        """Equal for the same items, wherever they lie."""
        return [self.name, ITEMS, self.files] if self.files else [self.train, self.test]


SETS = ("trifeature", "digits", "tinted", "cifar10", "flowers5", "quick")
ITEMS = 5000  # the first of CIFAR-10 are trained on


def set_of(name: str, folder: Path | None, work: Path) -> Set:
    """The set of that name; CIFAR-10 and flowers5 lie in the folder."""
    if name in ("trifeature", "quick"):
        given, size, epochs = ("renders=1,side=56,", 28, 4.0) if name == "quick" else ("", 40, 30.0)
        parts = (f"made:trifeature:{part},{given}seed=0" for part in ("train", "test"))
        return Set(name, *parts, ("shape", "texture", "colour"), size, epochs)
    if folder is None:
        raise SystemExit(f"{name} needs --data FOLDER, with cifar10/*.parquet and flowers5/{{train,val}}")
    if name == "flowers5":
        train, test = (folder / name / part for part in ("train", "val"))
        return Set(name, str(train), str(test), ("label", "colour"), 40, 20.0, files=files(train, test))
    whole, test = folder / "cifar10" / "train.parquet", folder / "cifar10" / "test_first1000.parquet"
    parts, known = {"train": some(whole, work), "test": test}, files(whole, test)
    if name == "cifar10":
        return Set(name, *map(str, parts.values()), ("label", "colour"), 32, 10.0, files=known)
    if name == "tinted":
        tinted = (f"made:tinted:{part},correlation=0,source={path}" for part, path in parts.items())
        return Set(name, *tinted, ("label", "tint"), 32, 10.0, files=known)
    pasted = (f"made:digit-on:{part},source={path}" for part, path in parts.items())
    return Set(name, *pasted, ("label", "digit"), 32, 10.0, {"views.flip": 0}, known)


def files(*paths: Path) -> tuple[tuple[str, int], ...]:
    """Name, below the path, and bytes of every file."""
    whole = ((path, each) for path in paths for each in ([path] if path.is_file() else sorted(path.rglob("*.*"))))
    return tuple((str(each.relative_to(path.parent)), each.stat().st_size) for path, each in whole)


def some(path: Path, work: Path) -> Path:
    """The first items of a table, in a file of their own."""
    import pyarrow.parquet as pq

    few = work / f"{path.stem}-{ITEMS}.parquet"
    if not few.exists():
        work.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(path).slice(0, ITEMS), few)
    return few


def read_levels(encoder: Any, source: str) -> list[np.ndarray]:
    """The features of every level of the network that was trained last, (N, width) each, shallow to deep."""
    import torch

    from likeness.sources.base import Quarantine
    from likeness.sources.feed import plain

    net = encoder.encoder
    while not hasattr(net, "levels"):  # of stages the last one; of depths the network below
        net = net.encoders[-1] if hasattr(net, "encoders") else net.encoder
    found: list[list[np.ndarray]] = []
    with torch.inference_mode():
        for _, stack in plain(likeness.read(source), encoder.modality, encoder.role, 256, 1, Quarantine()):
            found.append([level.float().numpy() for level in net.levels(stack)])
    return [np.concatenate(each) for each in zip(*found, strict=True)]


@cache
def attributes(data: Set) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Attribute -> its values in both parts. `colour` of real pictures: the nearest of eight mean colours (k-means)."""
    found = {}
    for name in data.attributes:
        parts = [likeness.read(path) for path in (data.train, data.test)]
        if name == "colour" and name not in parts[0].table.column_names:
            found[name] = dominant(data)
        else:
            found[name] = tuple(np.array(part.column(name).names)[part.column(name).codes] for part in parts)
    return found


def dominant(data: Set) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each item's mean colour, as k-means finds them in the training part."""
    from sklearn.cluster import KMeans

    train, test = colours(data.train), colours(data.test)
    means = KMeans(8, n_init=3, random_state=0).fit(train)
    return means.labels_, means.predict(test)


@cache
def colours(source: str) -> np.ndarray:
    """(N, 3) the mean colour of every item of a source, from 0 to 1."""
    read = likeness.read(source)
    role, modality = next(iter(read.roles)), Image()
    return np.stack([np.asarray(modality.read(read.raw(role, row))).mean((0, 1)) / 255 for row in range(len(read))])


def coloured(data: Set, work: Path) -> Path:
    """A file of the training items' mean colours about grey, made once."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"{data.name}-colour-{sha256(data.train.encode()).hexdigest()[:8]}.npy"
    if not path.exists():
        np.save(path.with_suffix(".part.npy"), (colours(data.train) - 0.5).astype(np.float32))
        path.with_suffix(".part.npy").rename(path)
    return path


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def probed(blocks: Mapping[str, Sequence[np.ndarray]], taught: np.ndarray, asked: np.ndarray) -> float:
    """Accuracy of logistic regression (C 0.3) on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, test = (np.concatenate(blocks[part], 1) for part in ("train", "test"))
    scaler = StandardScaler().fit(train)
    probe = LogisticRegression(C=0.3, max_iter=2000).fit(scaler.transform(train), taught)
    return float(probe.score(scaler.transform(test), asked))


def summary(rows: Sequence[Mapping[str, Any]], names: Sequence[str], bars: Sequence[str]) -> dict[str, dict[str, Any]]:
    """row -> n, attribute -> mean, lowest, highest; `- BAR`: paired difference of the mean and its 95 % t interval."""
    from scipy.stats import t

    by = {name: {row["seed"]: row for row in rows if row["row"] == name} for name in names}
    found: dict[str, dict[str, Any]] = {}
    for name, seeds in by.items():
        if not seeds:
            continue
        some = next(iter(seeds.values()))
        line: dict[str, Any] = {"n": len(seeds), "encoders": some["encoders"], "width": some["width"]}
        line["seconds"] = round(statistics.mean(row["seconds"] for row in seeds.values()))
        for score in some["scores"]:
            values = [row["scores"][score] for row in seeds.values()]
            line[score] = [round(x, 1) for x in (statistics.mean(values), min(values), max(values))]
        for bar in bars:
            both = sorted(set(seeds) & set(by[bar]))
            apart = [seeds[seed]["scores"]["mean"] - by[bar][seed]["scores"]["mean"] for seed in both]
            if len(apart) > 1 and bar != name:
                half = t.ppf(0.975, len(apart) - 1) * statistics.stdev(apart) / len(apart) ** 0.5
                middle = statistics.mean(apart)
                line[f"- {bar}"] = [round(x, 1) for x in (middle, middle - half, middle + half)]
        found[name] = line
    return found


def table(found: Mapping[str, Mapping[str, Any]], data: Set, bars: Sequence[str]) -> Iterator[str]:
    names = ("mean", *data.attributes)
    heads = [*(f"{name:^18}" for name in names), *(f"{'- ' + bar:^24}" for bar in bars)]
    yield f"{'':38} {'n':>2} {'nets':>4} {'width':>5} {'CPU-s':>6}  " + "  ".join(heads)
    for name, line in found.items():
        cells = [f"{said(line.get(each)):^18}" for each in names]
        cells += [f"{said(line.get(f'- {bar}'), '+'):^24}" for bar in bars]
        yield f"{name:38} {line['n']:>2} {line['encoders']:>4} {line['width']:>5} {line['seconds']:>6}  " + "  ".join(
            cells
        )


def said(score: Sequence[float] | None, sign: str = "") -> str:
    return "-" if score is None else f"{score[0]:{sign}.1f} [{score[1]:{sign}.1f}, {score[2]:{sign}.1f}]"
