"""Objectives on batches and on assignments agree with values others computed, and with loops over their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from conftest import origin
from torch import Tensor, nn

from likeness.objectives import (
    BarlowTwins,
    InfoNCE,
    Objective,
    SelfDistillation,
    SIGReg,
    Swapped,
    VICReg,
    VISReg,
    nearest,
)
from likeness.objectives.clusters import balanced
from likeness.objectives.nearest import CELLS
from likeness.objectives.sigreg import epps_pulley
from likeness.objectives.visreg import sliced_wasserstein
from likeness.relations import Relation, SameItem, SameLabel
from likeness.relations.base import Pairs, Tile
from likeness.views import Embeddings, Origin

EVERY: dict[str, Objective] = {
    "VICReg": VICReg(),
    "BarlowTwins": BarlowTwins(),
    "SIGReg": SIGReg(slices=32),
    "SIGReg targets": SIGReg(slices=32, targets=2, regularisation=0.5),
    "VISReg": VISReg(slices=32),
    "VISReg targets": VISReg(slices=32, targets=1, regularisation=0.5),
    "Swapped": Swapped(),
    "SelfDistillation": SelfDistillation(warm_up=0.5, first_temperature=0.02),
}
every = pytest.mark.parametrize("name", EVERY)


def several(items: int = 6, views: int = 3, dim: int = 5, seed: int = 0, whole: bool = False) -> Embeddings:
    """Views of items in no order, some of them missing unless `whole`; item numbers are large, labels two."""
    source = torch.Generator().manual_seed(seed)
    item, view = torch.arange(items).repeat(views), torch.arange(views).repeat_interleave(items)
    one = torch.randn(items, dim, generator=source, dtype=torch.float64).repeat(views, 1)
    vector = one + 0.7 * torch.randn(len(item), dim, generator=source, dtype=torch.float64)
    rows = torch.randperm(len(item), generator=source)
    if not whole:
        rows = rows[(item + 2 * view)[rows] % 7 != 3]
    return Embeddings(vector, origin(10**12 + 3 * item, view, label=(item % 2).double()))[rows]


def towards(z: Embeddings, keys: int = 2) -> tuple[Embeddings, Embeddings, Relation]:
    """All rows ask, the first views answer, as with small crops; vectors have leaves of their own."""
    q = Embeddings(z.vector.clone().requires_grad_(), z.origin)
    k = z[z.origin.view < keys]
    return q, k, SameItem()(q, k)


@dataclass(frozen=True)
class Graded(Relation):
    """Of unlike targets, in a list where the whole has one."""

    whole: Relation

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole.shape

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.whole.block(rows, columns)
        return target / (1 + torch.arange(self.shape[1])[columns] % 3), weight

    def positives(self) -> Pairs | None:
        few = self.whole.positives()
        return few and (few[0], few[1], few[2] / (1 + few[1] % 3))


TOLD: dict[str, Callable[[Embeddings, Embeddings], Relation]] = {
    "same item": SameItem(),
    "graded": lambda q, k: Graded(SameItem()(q, k)),
    "graded labels, no list": lambda q, k: Graded(SameLabel()(q, k)),
}
told = pytest.mark.parametrize("name", TOLD)


def term(objective: Objective, z: Embeddings, part: nn.Module | None = None) -> Tensor:
    """What is minimised where queries are the keys."""
    said = objective(z, z, SameItem()(z, z), part if part is not None else objective.build())
    return said.total / said.count.clamp_min(1)


# --- values that others computed --------------------------------------------------------------------------------------


def published() -> tuple[Tensor, Tensor, Tensor]:
    """Two views of eight items and a queue of 32, whose losses were computed with the authors' code."""
    state = np.random.RandomState(0)
    one = state.randn(8, 16)
    two, queue = one + 0.5 * state.randn(8, 16), state.randn(32, 16)
    return torch.tensor(one), torch.tensor(two), torch.tensor(queue)


ALONE = {"invariance": 0.0, "variance": 0.0, "covariance": 0.0}


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (VICReg(), 14.426741166176065),  # facebookresearch/vicreg
        (VICReg(**{**ALONE, "invariance": 1.0}), 0.21384073076317828),
        (VICReg(**{**ALONE, "variance": 1.0}), 0.05998222563878514),
        (VICReg(**{**ALONE, "covariance": 1.0}), 7.58116725612698),
        (BarlowTwins(), 0.5205522721637285),  # facebookresearch/barlowtwins, eps 1e-5
    ],
)
def test_redundancy_reduction_has_the_authors_values(objective: Objective, expected: float) -> None:
    one, two, _ = published()
    z = Embeddings(torch.cat([one, two]), origin(torch.arange(8).repeat(2), torch.arange(2).repeat_interleave(8)))
    assert term(objective, z).item() == pytest.approx(expected, rel=1e-9)


def test_gaussian_regularisers_have_the_authors_values() -> None:
    """Along the axes, since directions of theirs are random."""
    one, two, _ = published()
    axes = torch.eye(16, dtype=torch.float64)
    assert epps_pulley(one, axes, 17, 3.0).item() == pytest.approx(0.9885026546603153, rel=1e-9)  # lightly
    off = {"centre": 0.0, "scale": 0.0, "shape": 0.0}
    for weights, expected in (  # HaiyuWu/visreg, quantiles in double precision
        ({}, 0.2697555501336938),
        ({**off, "scale": 1.0}, 0.0647792252176434),
        ({**off, "shape": 1.0}, 0.1293915771712159),
        ({**off, "centre": 1.0}, 0.07558474774483445),
    ):
        both = [VISReg(**weights).irregularity(view, axes) for view in (one, two)]
        assert float(sum(both)) / 2 == pytest.approx(expected, rel=1e-9)


def test_nearest_neighbours_have_the_authors_value() -> None:
    one, two, queue = published()
    item = torch.arange(8)
    bank = Embeddings(queue, origin(100 + torch.arange(32), -torch.ones(32).long()))
    neighbours = nearest(Embeddings(one, origin(item, 0 * item)), bank)
    k = Embeddings(two, origin(item, 0 * item + 1))
    said = InfoNCE(temperature=0.1)(neighbours, k, SameItem()(neighbours, k))
    assert (said.total / said.count).item() == pytest.approx(0.4741563216182239, rel=1e-9)  # solo-learn's nnclr


# --- loops over the formulas ------------------------------------------------------------------------------------------


def branches(z: Embeddings) -> dict[int, dict[int, np.ndarray]]:
    """view -> item -> vector."""
    found: dict[int, dict[int, np.ndarray]] = {}
    for vector, item, view in zip(
        z.vector.detach().numpy(), z.origin.item.tolist(), z.origin.view.tolist(), strict=True
    ):
        found.setdefault(view, {})[item] = vector
    return found


def vicreg_by_loops(q: Embeddings, k: Embeddings, relation: Relation) -> float:
    target, apart, weight = relation.dense()[0], 0.0, 0.0
    for n in range(len(q)):
        for m in range(len(k)):
            apart += float(target[n, m]) * float((q.vector[n] - k.vector[m]).square().mean())
            weight += float(target[n, m])
    spread, redundant = [], []
    for view in branches(q).values():
        table = np.cov(np.stack(list(view.values())), rowvar=False)
        dim = len(table)
        spread.append(np.mean([max(0, 1 - math.sqrt(table[d, d] + 1e-4)) for d in range(dim)]))
        redundant.append(sum(table[a, b] ** 2 for a in range(dim) for b in range(dim) if a != b) / dim)
    return float(25 * apart / weight + 25 * np.mean(spread) + 2 * np.mean(redundant))


@told
@pytest.mark.parametrize("views", [2, 4])
def test_vicreg_against_loops(name: str, views: int) -> None:
    z = several(12, views)
    relation = TOLD[name](z, z)
    assert (relation.positives() is None) == ("no list" in name)
    said = VICReg()(z, z, relation)
    assert said.total.item() == pytest.approx(vicreg_by_loops(z, z, relation), rel=1e-9)
    assert said.count == 1


@pytest.mark.parametrize("views", [2, 3])
def test_barlow_twins_against_loops(views: int) -> None:
    z, values = several(9, views), []
    for a, b in combinations(branches(z).values(), 2):
        both = [item for item in a if item in b]
        assert 2 < len(both) < 9
        one, two = (np.stack([view[item] for item in both]) for view in (a, b))
        one, two = ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in (one, two))
        value = 0.0
        for i in range(one.shape[1]):
            for j in range(one.shape[1]):
                c = sum(one[n, i] * two[n, j] for n in range(len(both))) / len(both)
                value += (1 - c) ** 2 if i == j else 0.0051 * c**2
        values.append(value)
    assert term(BarlowTwins(), z).item() == pytest.approx(float(np.mean(values)), rel=1e-9)


def variation_by_loops(z: Embeddings, targets: int | None) -> float:
    views = branches(z)
    first = sorted(views)[:targets]
    squares = []
    for item in set(z.origin.item.tolist()):
        rows = [view[item] for view in views.values() if item in view]
        aims = [views[v][item] for v in first if item in views[v]]
        if aims and len(rows) > 1:
            squares += [float(((row - np.mean(aims, 0)) ** 2).mean()) for row in rows]
    return float(np.mean(squares))


def epps_pulley_by_loops(z: np.ndarray, directions: np.ndarray, knots: int = 17, reach: float = 3.0) -> float:
    """The trapezoidal rule on the whole of [-reach, reach]."""
    grid, found = np.linspace(-reach, reach, 2 * knots - 1), []
    for direction in directions:
        x = z @ direction
        error = [abs(np.mean(np.exp(1j * t * x)) - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2) for t in grid]
        found.append(len(z) * (sum(error) - (error[0] + error[-1]) / 2) * (grid[1] - grid[0]))
    return float(np.mean(found))


def visreg_by_loops(z: np.ndarray, directions: np.ndarray) -> float:
    mean, deviation = z.mean(0), z.std(0)
    shape = []
    for direction in directions:
        x = sorted(((z - mean) / deviation) @ direction)
        shape += [(x[n] - NormalDist().inv_cdf((n + 1) / (len(z) + 1))) ** 2 for n in range(len(z))]
    return float((mean**2).mean() + ((1 - deviation) ** 2).mean() + np.mean(shape))


@pytest.mark.parametrize("targets", [None, 1, 2])
@pytest.mark.parametrize(
    ("kind", "by_loops"), [(SIGReg, epps_pulley_by_loops), (VISReg, visreg_by_loops)], ids=["SIGReg", "VISReg"]
)
def test_gaussian_regularisers_against_loops(
    kind: type[SIGReg | VISReg], by_loops: Callable[..., float], targets: int | None
) -> None:
    z = several(9, 4)
    objective = kind(slices=12, targets=targets, regularisation=0.3)
    part = objective.build()
    directions = part(z.vector).numpy()
    irregular = [by_loops(np.stack(list(view.values())), directions) for view in branches(z).values()]
    expected = 0.7 * variation_by_loops(z, targets) + 0.3 * np.mean(irregular)
    assert term(objective, z, part).item() == pytest.approx(expected, rel=1e-6)  # directions are of unit length to 1e-7


def sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """SwAV's, with exponentials: columns sum to 1 / K, rows to 1 / M, in turn."""
    table = np.exp(scores / epsilon)
    table /= table.sum()
    for _ in range(iterations):
        table /= table.sum(0, keepdims=True) * table.shape[1]
        table /= table.sum(1, keepdims=True) * table.shape[0]
    return table * len(table)


def cross_entropy(q: Embeddings, assigned: np.ndarray, target: Tensor, temperature: float) -> tuple[float, float]:
    total, count = 0.0, 0.0
    for n in range(len(q)):
        logits = q.vector[n].detach().numpy() / temperature
        surprise = np.log(np.exp(logits).sum()) - logits
        for m in range(len(assigned)):
            total += float(target[n, m]) * float(assigned[m] @ surprise)
            count += float(target[n, m])
    return total, count


def scores(seed: int = 0, **changes: Any) -> Embeddings:
    """Cosines with five prototypes."""
    z = several(seed=seed, **changes)
    return Embeddings(z.unit, z.origin)


@told
def test_swapped_assignments_against_loops(name: str) -> None:
    """Small crops ask only; the queue takes part in balancing, each row with the view it showed."""
    q, k, _ = towards(scores(items=16, views=4))
    past = scores(seed=1)
    past = past[past.origin.view < 2]
    past = Embeddings(past.vector, Origin(past.origin.item, -1 - past.origin.view, past.origin.known))
    keys = Embeddings.cat(k, past)
    relation = TOLD[name](q, k) | SameItem()(q, past).only_negatives()
    assert (relation.positives() is None) == ("no list" in name)
    showed, assigned = np.concatenate([k.origin.view, -1 - past.origin.view]), np.zeros((len(keys), 5))
    for view in (0, 1):
        assigned[showed == view] = sinkhorn(keys.vector.numpy()[showed == view], 0.05, 3)
    total, count = cross_entropy(q, assigned, relation.dense()[0], 0.1)
    said = Swapped()(q, keys, relation)
    assert said.total.item() == pytest.approx(total, rel=1e-9)
    assert float(said.count) == pytest.approx(count)
    assert count > 20


def test_self_distillation_against_loops() -> None:
    """Over three steps: a centre that moves, a teacher that warms up in the first half of training."""
    objective = SelfDistillation(first_temperature=0.02, teacher_temperature=0.06, warm_up=0.5)
    part = objective.build().double()
    centre, progress = np.zeros(5), 0.0
    for step in range(3):
        q, k, relation = towards(scores(seed=step, views=4))
        rows = k.vector.numpy()
        temperature = 0.02 + 0.04 * min(progress / 0.5, 1)
        assigned = np.exp((rows - centre) / temperature)
        total, count = cross_entropy(q, assigned / assigned.sum(1, keepdims=True), relation.dense()[0], 0.1)
        for _ in range(2):
            said = objective(q, k, relation, part)
            assert said.total.item() == pytest.approx(total, rel=1e-6)  # progress is a float32
            assert float(said.count) == count
        centre, progress = 0.9 * centre + 0.1 * rows.mean(0), step / 2 + 0.1
        part.advance(progress)
        assert part.mean.tolist() == pytest.approx(centre.tolist(), rel=1e-9)


def test_nearest_is_the_row_of_the_largest_cosine() -> None:
    """Also when a bank is so long that rows are looked up in blocks."""
    z = Embeddings(torch.randn(40, 3, requires_grad=True), origin(torch.arange(40), torch.zeros(40).long()))
    for length in (1, 50, CELLS // 30):
        vector = (torch.randn(length, 3) * torch.rand(length, 1)).requires_grad_()
        found = nearest(z, Embeddings(vector, origin(torch.arange(length), torch.ones(length).long())))
        assert found.origin is z.origin
        assert not found.vector.requires_grad
        unit = vector / vector.norm(dim=1, keepdim=True)
        for row in (0, 17, 39):
            assert found.vector[row].equal(vector[(unit @ z.vector[row]).argmax()])


def test_nearest_in_an_empty_bank_is_the_row_itself() -> None:
    z = several()
    assert nearest(z, z[:0]).vector.equal(z.vector)
    assert len(nearest(z[:0], z)) == 0


# --- laws -------------------------------------------------------------------------------------------------------------


def ready(name: str) -> Any:
    """Its part after a step, so that memories are not empty."""
    objective = EVERY[name]
    part = objective.build()
    if part is not None:
        q, k, relation = towards(scores(seed=5))
        objective(q, k, relation, part.double())
        part.advance(0.25)
    return part


def value(name: str, z: Embeddings, part: Any) -> Tensor:
    q, k, relation = towards(z)
    said = EVERY[name](q, k, relation, part)
    return said.total / said.count.clamp_min(1)


@every
def test_gradients_are_those_of_the_value(name: str) -> None:
    objective, part, z = EVERY[name], ready(name), scores(items=4)
    if name.startswith("VISReg"):  # deviations that divide are held fixed: their share of the gradient is left out
        objective = objective.model_copy(update={"shape": 0.0})
    keys = z[z.origin.view < 2]

    def of(vector: Tensor) -> Tensor:
        q = Embeddings(vector, z.origin)
        return objective(q, keys, SameItem()(q, keys), part).total

    assert torch.autograd.gradcheck(of, (z.vector.clone().requires_grad_(),), atol=1e-7)


def test_shape_teaches_through_sorting_and_not_through_scale() -> None:
    z, axes = torch.randn(7, 4, dtype=torch.float64, requires_grad=True), torch.eye(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: sliced_wasserstein(x, axes), (z,))
    objective = VISReg(centre=0.0, scale=0.0)
    (slope,) = torch.autograd.grad(objective.irregularity(z, axes), z)
    mean, deviation = z.detach().mean(0), z.detach().std(0, unbiased=False)
    (plain,) = torch.autograd.grad(sliced_wasserstein((z - z.mean(0)) / deviation, axes), z)
    torch.testing.assert_close(slope, plain)
    assert ((z.detach() - mean) * slope).sum(0).abs().max() > 1e-3  # else nothing was left out


@every
def test_order_of_rows_and_names_of_items_mean_nothing(name: str) -> None:
    z, part = scores(items=8), ready(name)
    expected = value(name, z, part)
    torch.testing.assert_close(value(name, z[torch.randperm(len(z))], part), expected)
    numbers = torch.randperm(100)
    renamed = Origin(numbers[(z.origin.item - 10**12) // 3], z.origin.view, z.origin.known)
    torch.testing.assert_close(value(name, Embeddings(z.vector, renamed), part), expected)
    wrong = torch.where(z.origin.view == 1, z.origin.item + 3, z.origin.item)
    mixed = Embeddings(z.vector, Origin(wrong, z.origin.view, z.origin.known))
    assert not torch.isclose(value(name, mixed, part), expected, rtol=1e-4)


@every
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(lambda z: z[:0], id="no row"),
        pytest.param(lambda z: z[:1], id="one row"),
        pytest.param(lambda z: z[z.origin.item == z.origin.item[0]], id="one item"),
        pytest.param(lambda z: z[z.origin.view == 2], id="no partner"),
        pytest.param(lambda z: Embeddings(torch.ones_like(z.vector), z.origin), id="constant"),
        pytest.param(lambda z: Embeddings(torch.zeros_like(z.vector), z.origin), id="zero"),
    ],
)
def test_stays_finite_where_nothing_is_to_be_learned(name: str, rows: Callable[[Embeddings], Embeddings]) -> None:
    q, k, relation = towards(rows(scores(whole=True)))
    said = EVERY[name](q, k, relation, ready(name))
    assert said.total.isfinite()
    (slope,) = torch.autograd.grad(said.total, q.vector)  # a total without its queries would leave processes waiting
    assert slope.isfinite().all()


@every
def test_half_precision_is_lifted(name: str) -> None:
    """float32 says what float64 does; bfloat16 is read and then calculated with in float32."""
    z, part = scores(items=12), ready(name)
    exact = value(name, z, part)
    assert exact.dtype == torch.float64
    part = part if part is None else deepcopy(part).float()
    single = value(name, Embeddings(z.vector.float(), z.origin), part)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = value(name, Embeddings(z.vector.float(), z.origin), part)
        half = value(name, Embeddings(z.vector.bfloat16(), z.origin), part)
    assert inside.equal(single)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, single, rtol=0.1, atol=0.02)


@every
def test_asked_twice_says_the_same_and_resumes(name: str) -> None:
    z, part = scores(), ready(name)
    before = deepcopy(part.state_dict()) if part is not None else {}
    first = value(name, z, part)
    assert value(name, z, part).equal(first)
    if part is None:
        return
    assert all(part.state_dict()[key].equal(tensor) for key, tensor in before.items())
    again = deepcopy(EVERY[name].build()).double()
    again.load_state_dict(before)
    assert value(name, z, again).equal(first)
    for one in (part, again):
        one.advance(0.5)
    assert not value(name, z, part).equal(first)
    assert value(name, z, part).equal(value(name, z, again))


# --- what each is for -------------------------------------------------------------------------------------------------


def with_another(z: Embeddings) -> Embeddings:
    """And one view of one more item."""
    more = scores(seed=3)[:1]
    return Embeddings.cat(z, Embeddings(more.vector, Origin(more.origin.item + 1, more.origin.view, more.origin.known)))


@pytest.mark.parametrize(
    "objective",
    [
        BarlowTwins(),
        SIGReg(slices=8, regularisation=0.0),
        SIGReg(slices=8, regularisation=0.0, targets=2),
        VISReg(slices=8, regularisation=0.0),
        Swapped(),
        SelfDistillation(),
    ],
    ids=str,
)
def test_an_item_seen_once_has_nobody_to_agree_with(objective: Objective) -> None:
    """It may count in the statistics of a batch, but not where views of an item are compared."""
    z, part = scores(whole=True), objective.build()
    k = z[z.origin.view < 2]
    one, two = (objective(q, k, SameItem()(q, k), part) for q in (z, with_another(z)))
    torch.testing.assert_close(two.total / two.count, one.total / one.count)


def test_balanced_assignments_use_all_prototypes() -> None:
    """Although all rows prefer one, and whatever the size of scores."""
    table = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    table[:, 0] += 3
    assert table.softmax(1).sum(0)[0] > 30
    assert balanced(table, 20).sum(0).tolist() == pytest.approx([8.0] * 8, rel=1e-3)
    for size in (1e-6, 1.0, 1e4):
        assigned = balanced(size * table, 3)
        assert assigned.sum(1).tolist() == pytest.approx([1.0] * 64, rel=1e-5)


def test_the_centre_keeps_one_cluster_from_taking_all() -> None:
    """A score that all rows share is no reason to be assigned to a cluster, once the teacher's mean is known."""
    q, k, relation = towards(scores(whole=True))
    biased = Embeddings(k.vector + 5 * torch.eye(5, dtype=torch.float64)[0], k.origin)
    objective = SelfDistillation(momentum=0.0)
    plain, shifted = [], []
    for keys, said in ((k, plain), (biased, shifted)):
        part = objective.build().double()
        for _ in range(2):
            said.append(float(objective(q, keys, relation, part).total.detach()))
            part.advance(0.0)
    assert shifted[0] != pytest.approx(plain[0], rel=0.01)
    assert shifted[1] == pytest.approx(plain[1], rel=1e-9)


def test_slices_are_of_unit_length_and_new_at_each_step() -> None:
    part, z = SIGReg(slices=64).build(), torch.zeros(3, 16)
    first = part(z)
    assert first.shape == (64, 16)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(64))
    assert part(z.double()).equal(first.double())
    assert part(z[:0]).equal(first)
    part.advance(0.0)
    assert (part(z) - first).norm(dim=1).min() > 0.1


@pytest.mark.parametrize("kind", [SIGReg, VISReg])
def test_a_gaussian_is_regular_and_others_are_not(kind: type[SIGReg | VISReg]) -> None:
    objective = kind(slices=128)
    gauss = torch.randn(512, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = objective.build()(gauss)
    best = objective.irregularity(gauss, directions)
    shifted, wide = gauss + 1, 2 * gauss
    flat = gauss * torch.tensor([1.0] * 4 + [0.01] * 4)
    two = torch.where(gauss[:, :1] > 0, 1.0, -1.0) + 0.1 * gauss
    for other in (shifted, wide, flat, two):
        assert objective.irregularity(other, directions) > 3 * best


def test_visreg_recovers_where_sigreg_hardly_moves() -> None:
    """The paper's reason to hold scale apart: at collapse the other's gradient vanishes."""
    slopes = []
    for objective in (SIGReg(slices=64), VISReg(slices=64)):
        z = (1e-4 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
        (slope,) = torch.autograd.grad(objective.irregularity(z, objective.build()(z)), z)
        slopes.append((slope * z).sum(0).abs().sum() / z.norm())  # along growth
    assert slopes[1] > 100 * slopes[0]
