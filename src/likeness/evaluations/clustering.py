"""Clustering: do groups that k-means finds without labels agree with the classes, and are they compact?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt

from ..space import Space
from .agreement import Table, agreement, mutual_information, rand_index
from .base import Evaluation, Missing, Result, Row, Score, Unscored, groups, labelled
from .intervals import Group, drawable, score

BLOCK = 1 << 21  # distances held at a time: some 50 MB with all that is made of them
SAME = 1e-6  # unit vectors of float32 that are nearer than this are one point
UNLABELLED = 10  # clusters looked for where no classes tell how many
AGREEMENT = {"ari": (rand_index, -0.5), "nmi": (mutual_information, 0.0)}  # and the least they can be


class Clustering(Evaluation):
    """k-means on the unit vectors of the test items, as many clusters as they have classes, then five measures of it.

    Agreement with the classes: adjusted Rand index (Hubert & Arabie 1985) and normalised mutual information (by the
    arithmetic mean of both entropies). Shape, without labels, by Euclidean distance: silhouette (Rousseeuw 1987),
    Davies & Bouldin (1979), and Dunn (1974): the least distance between clusters / the largest diameter of one.
    Dunn is to be read beside chance: directions at random lie equally far from each other, which it takes for merit.
    """

    clusters: PositiveInt | None = None
    """How many to look for; None is the number of classes, or 10 where nothing is labelled."""
    most: PositiveInt = 10_000
    """Items that are clustered; of more, a random sample, for Dunn and silhouette compare all pairs."""
    starts: PositiveInt = 10
    """Starts of k-means, the best of which is kept."""

    @property
    def rows(self) -> Sequence[Row]:
        agree = [Row("ari", "clusters ARI", percent=False), Row("nmi", "clusters NMI", percent=False)]
        shape = [Row("silhouette", "silhouette", percent=False), Row("dunn", "Dunn", percent=False)]
        return [*agree, shape[0], Row("davies_bouldin", "Davies-Bouldin", percent=False, higher=False), shape[1]]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        classes: NDArray[np.int64] | None = None
        reason = ""
        try:
            test, classes, names = labelled(test, "test")
            reason = "" if len(names) > 1 else f"all test items are of one class, {names[0]!r}"
        except Unscored as why:
            reason = str(why)
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(test))[: self.most])
        count = self.clusters or (UNLABELLED if reason or classes is None else len(np.unique(classes[rows])))
        unit = test.unit[rows].astype(np.float64)
        found = k_means(unit, min(count, len(rows) - 1), self.starts, self.seed)
        group = groups(test, rows)
        note = f"clusters are measured on {len(rows):,} of {len(test):,} test items" if len(rows) < len(test) else ""
        agreed: dict[str, Result] = {"ari": Missing(reason), "nmi": Missing(reason)}
        if classes is not None and not reason:
            agreed = self._agreed(Table.of(classes[rows], found), group, note)
        return {**agreed, **self._shaped(unit, found, group, note)}

    def _agreed(self, table: Table, group: Group, note: str) -> dict[str, Result]:
        if drawable(len(table.cell), group) < 2:
            return {name: Score(float(measure(table)[0]), note=note) for name, (measure, _) in AGREEMENT.items()}
        drawn = list(table.resampled(self.seed, group))
        return {name: Score(*agreement(table, drawn, *each), note=note) for name, each in AGREEMENT.items()}

    def _shaped(
        self, unit: NDArray[np.float64], found: NDArray[np.int64], group: Group, note: str
    ) -> dict[str, Result]:
        shape = shape_of(unit, found)
        wide = Missing("every cluster is a single point, so none has a diameter")
        return {
            "silhouette": score(shape.silhouette, self.seed, note=note, group=group),
            "davies_bouldin": Score(davies_bouldin(unit, found), note=note),
            "dunn": Score(shape.apart / shape.wide, note=note) if shape.wide > 0 else wide,
        }


def k_means(unit: NDArray[np.float64], count: int, starts: int, seed: int) -> NDArray[np.int64]:
    """(N,) clusters, numbered from 0 on without gaps.

    Raises:
        Unscored: there are fewer than two clusters to find.
    """
    if count < 2:
        raise Unscored("there are too few test items to cluster")
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than clusters: fewer are found
        found = KMeans(count, n_init=starts, random_state=seed).fit_predict(unit.astype(np.float32))
    present, numbered = np.unique(found, return_inverse=True)
    if len(present) < 2:
        raise Unscored("all test items have the same vector")
    return numbered


class Shape(NamedTuple):
    """silhouette: (N,) one an item; apart: least distance of two clusters; wide: largest diameter of a cluster."""

    silhouette: NDArray[np.float64]
    apart: float
    wide: float


def shape_of(x: NDArray[np.float64], found: NDArray[np.int64]) -> Shape:
    """What all pairs of rows (N, D) tell of their clusters (N,), from one pass over blocks of distances."""
    points, cluster = torch.from_numpy(x), torch.from_numpy(found)
    members = torch.nn.functional.one_hot(cluster).double()
    sizes = members.sum(0)
    silhouette, apart, wide = [], torch.inf, 0.0
    step = max(BLOCK // len(x), 1)
    for first in range(0, len(x), step):
        own = cluster[first : first + step]
        distance = torch.cdist(points[first : first + step], points, compute_mode="use_mm_for_euclid_dist")
        distance.masked_fill_(distance < SAME, 0)
        row = torch.arange(len(own))
        mean = distance @ members / sizes
        inside = mean[row, own] * sizes[own] / (sizes[own] - 1).clamp(min=1)
        mean[row, own] = torch.inf
        outside = mean.min(1).values
        width = torch.where(sizes[own] > 1, (outside - inside) / torch.maximum(inside, outside), 0)
        silhouette.append(width.nan_to_num(0))  # both 0: the clusters are one point
        same = own[:, None] == cluster
        apart = min(apart, float(distance.masked_fill(same, torch.inf).min()))
        wide = max(wide, float(distance.masked_fill(~same, 0).max()))
    return Shape(torch.cat(silhouette).numpy(), apart, wide)


def davies_bouldin(x: NDArray[np.float64], found: NDArray[np.int64]) -> float:
    """Mean over clusters of the worst (spread a + spread b) / distance of centroids; lower is better, 0 at least."""
    sizes = np.bincount(found)
    centre = np.stack([x[found == one].mean(axis=0) for one in range(len(sizes))])
    spread = np.bincount(found, np.linalg.norm(x - centre[found], axis=1)) / sizes
    distance = np.stack([np.linalg.norm(centre - one, axis=1) for one in centre])
    distance[distance == 0] = np.inf  # each from itself
    return float(((spread[:, None] + spread) / distance).max(axis=1).mean())
