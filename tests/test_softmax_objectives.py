"""Kin of InfoNCE: values others computed, formulas in plain loops, streaming and dense alike, memories that last."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy
import pytest
import torch
from conftest import origin
from test_objectives import TILED, WHOLE, Told, forms, mean, pairs, published, slopes, told
from torch import Tensor

from likeness.errors import WrongCall
from likeness.objectives import (
    IFM,
    MACL,
    RINCE,
    Decoupled,
    HardNegatives,
    InfoNCE,
    Objective,
    SogCLR,
    TemperatureSchedule,
    iSogCLR,
    similarity,
)
from likeness.objectives.memory import Memory
from likeness.relations import Relation, SameItem, SameLabel
from likeness.views import Embeddings, Origin

# --- formulas, in loops over pairs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One query: (cosine, target, weight) of its positives, (cosine, weight) of its negatives, and which row it is."""

    number: int
    positives: list[tuple[float, float, float]]
    negatives: list[tuple[float, float]]

    @property
    def agreement(self) -> float:
        return sum(t * c for c, t, _ in self.positives) / sum(t for _, t, _ in self.positives)

    def pulled(self, of: Callable[[float], float]) -> float:
        return sum(t * of(c) for c, t, _ in self.positives) / sum(t for _, t, _ in self.positives)

    def p(self, s: float, moved: float = 0) -> float:
        return sum(w * math.exp(s * (c - moved)) for c, _, w in self.positives)

    def n(self, s: float, moved: float = 0) -> float:
        return sum(w * math.exp(s * (c + moved)) for c, w in self.negatives)

    @property
    def many(self) -> float:
        return sum(w for _, w in self.negatives)


def rows_of(q: Embeddings, k: Embeddings, relation: Relation) -> list[Row]:
    """Those that count."""
    (target, weight), cosine = (x.tolist() for x in relation.dense()), similarity(q, k).tolist()
    found = []
    for number, (cs, ts, ws) in enumerate(zip(cosine, target, weight, strict=True)):
        cells = list(zip(cs, ts, ws, strict=True))
        row = Row(number, [c for c in cells if c[1] > 0], [(c, w) for c, t, w in cells if t == 0 and w > 0])
        if row.positives and row.negatives:
            found.append(row)
    return found


def decoupled(rows: list[Row], s: float = 10) -> list[float]:
    return [math.log(row.n(s)) - s * row.agreement for row in rows]


def weighted(rows: list[Row], s: float = 10, sigma: float = 0.5) -> list[float]:
    usual = fmean(math.exp(row.agreement / sigma) for row in rows)
    shares = [2 - math.exp(row.agreement / sigma) / usual for row in rows]
    assert fmean(shares) == pytest.approx(1)
    return [math.log(row.n(s)) - share * s * row.agreement for row, share in zip(rows, shares, strict=True)]


def hard(rows: list[Row], prior: float, beta: float, s: float = 2) -> list[float]:
    found = []
    for row in rows:
        importance = [w * math.exp(beta * s * c) for c, w in row.negatives]
        harder = sum(i * math.exp(s * c) for i, (c, _) in zip(importance, row.negatives, strict=True))
        reweighted = row.many * harder / sum(importance)
        corrected = (reweighted - prior * row.many * row.pulled(lambda c: math.exp(s * c))) / (1 - prior)
        others = max(corrected, row.many * math.exp(-s))
        found.append(math.log(row.p(s) + others) - s * row.agreement)
    return found


def modified(rows: list[Row], alpha: float, epsilon: float, s: float = 5) -> list[float]:
    found = []
    for row in rows:
        plain = math.log(row.p(s) + row.n(s)) - s * row.agreement
        attacked = math.log(row.p(s, epsilon) + row.n(s, epsilon)) - s * (row.agreement - epsilon)
        found.append((plain + alpha * attacked) / (1 + alpha))
    return found


def robust(rows: list[Row], power: float, density: float = 0.01, s: float = 2) -> list[float]:
    return [
        -row.pulled(lambda c: math.exp(s * c) ** power) / power + (density * (row.p(s) + row.n(s))) ** power / power
        for row in rows
    ]


def aware(rows: list[Row], alpha: float, threshold: float, reweighted: bool) -> list[float]:
    s = 1 / (0.1 * (1 + alpha * (fmean(row.agreement for row in rows) - threshold)))
    lifts = [(row.p(s) + row.n(s)) / row.n(s) if reweighted else 1 for row in rows]
    return [lift * (math.log(row.p(s) + row.n(s)) - s * row.agreement) for row, lift in zip(rows, lifts, strict=True)]


def scheduled(rows: list[Row], s: float = 1) -> list[float]:
    return [math.log(row.p(s) + row.n(s)) - s * row.agreement for row in rows]


def met_first(rows: list[Row], bimodal: bool, positive: bool, s: float = 10) -> list[float]:
    """Global contrast before anything is remembered."""
    found = []
    for row in rows:
        shift = row.agreement if bimodal else 0
        rivals = row.negatives + [(c, w) for c, _, w in row.positives] * positive
        u = sum(w * math.exp(s * (c - shift)) for c, w in rivals) / row.many
        repelled = sum(w * math.exp(s * (c - shift)) / u * (c - shift) for c, w in rivals) / row.many
        found.append(repelled if bimodal else repelled - row.agreement)
    return found


CASES: dict[str, tuple[Objective, Callable[[list[Row]], list[float]]]] = {
    "DCL": (Decoupled(), decoupled),
    "DCLW": (Decoupled(weighted=0.5), weighted),
    "hard": (HardNegatives(beta=1.5), lambda rows: hard(rows, 0.1, 1.5)),
    "debiased": (HardNegatives(beta=0), lambda rows: hard(rows, 0.1, 0)),
    "hard, mostly floor": (HardNegatives(prior=0.7), lambda rows: hard(rows, 0.7, 1)),
    "hard, uncorrected": (HardNegatives(prior=0), lambda rows: hard(rows, 0, 1)),
    "IFM": (IFM(), lambda rows: modified(rows, 1, 0.1)),
    "IFM, little": (IFM(alpha=0.3, epsilon=0.05), lambda rows: modified(rows, 0.3, 0.05)),
    "RINCE": (RINCE(), lambda rows: robust(rows, 0.1)),
    "RINCE, symmetric": (RINCE(q=1, density=0.5), lambda rows: robust(rows, 1, 0.5)),
    "MACL": (MACL(), lambda rows: aware(rows, 0.5, 0, True)),
    "MACL, plain": (MACL(alpha=1, threshold=0.5, reweighted=False), lambda rows: aware(rows, 1, 0.5, False)),
    "schedule": (TemperatureSchedule(), scheduled),
    "SogCLR": (SogCLR(items=50), lambda rows: met_first(rows, False, False)),
    "SogCLR, two roles": (SogCLR(items=50, bimodal=True), lambda rows: met_first(rows, True, False)),
    "SogCLR, positive": (SogCLR(items=50, positive=True), lambda rows: met_first(rows, False, True)),
    "iSogCLR": (iSogCLR(items=50), lambda rows: met_first(rows, False, False)),
}
LEARNED: dict[str, Objective] = {"hard": HardNegatives(learned=True), "IFM": IFM(learned=True)}
SMOOTH = [name for name in CASES if not name.startswith(("DCLW", "MACL", "SogCLR", "iSogCLR"))]  # nothing is held fixed
case = pytest.mark.parametrize("name", CASES)


def tiled(objective: Objective, tile: int) -> Objective:
    return objective.model_copy(update={"tile": tile})


def part_of(objective: Objective) -> Any:
    torch.set_default_dtype(torch.float64)
    try:
        return objective.build()
    finally:
        torch.set_default_dtype(torch.float32)


@case
@pytest.mark.parametrize("tile", [WHOLE, 7])
@pytest.mark.parametrize("seed", range(3))
def test_any_relation_against_loops(name: str, seed: int, tile: int) -> None:
    """Rows without a positive, rows without a negative, several positives, graded targets, weights of all sizes."""
    objective, formula = CASES[name]
    q, k, relation = pairs(10, seed=seed), pairs(8, seed=seed + 10), told(20, 16, seed)
    rows = rows_of(q, k, relation)
    term = tiled(objective, tile)(q, k, relation, part_of(objective))
    assert 0 < len(rows) < 20
    assert int(term.count) == len(rows)
    assert term.total.item() == pytest.approx(sum(formula(rows)), rel=1e-9)


@case
@pytest.mark.parametrize("tile", [WHOLE, TILED])
def test_a_negative_of_weight_two_is_met_twice(name: str, tile: int) -> None:
    z = pairs(10).detach()
    relation = SameItem()(z, z)
    target, weight = (x.double() for x in relation.dense())
    twice = (target.sum(0) * 0 + torch.arange(20) % 3 == 0) & (target == 0)
    heavy = Told(target, torch.where(twice, 2, 1) * weight)
    doubled = Told(torch.cat([target, target * 0], 1), torch.cat([weight, weight * twice], 1))
    both = Embeddings(torch.cat([z.vector] * 2), Origin.cat(z.origin, z.origin))
    objective = tiled(CASES[name][0], tile)
    one, other = mean(objective, z, z, heavy, part_of(objective)), mean(objective, z, both, doubled, part_of(objective))
    assert one.item() == pytest.approx(other.item(), rel=1e-9)


# --- values that others computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [WHOLE, 5])
@pytest.mark.parametrize(
    ("objective", "rows", "times", "expected"),
    [  # times: 2 where the authors add up both views
        (Decoupled(temperature=0.1), 8, 1, -5.041818579954702),  # raminnakhli/Decoupled-Contrastive-Learning
        (Decoupled(temperature=0.5), 8, 1, 0.7998209197822581),
        (Decoupled(temperature=0.1), 16, 2, -10.170086329215218),
        (Decoupled(temperature=0.5), 16, 2, 1.5918561647257627),
        (Decoupled(temperature=0.1, weighted=0.5), 8, 1, -5.022766475654711),
        (Decoupled(temperature=0.1, weighted=0.5), 16, 2, -10.131982120615236),
        (HardNegatives(temperature=0.5, prior=0.1, beta=1), 16, 1, 0.9030828849225074),  # joshr17/HCL
        (HardNegatives(temperature=0.5, prior=0.1, beta=0), 16, 1, 0.6422759390723456),
        (HardNegatives(temperature=0.5, prior=0, beta=0), 16, 1, 1.1701984563151901),
        (RINCE(q=0.1, density=0.01, temperature=0.5), 16, 1, -3.490933095892304),  # chingyaoc/RINCE
    ],
)
def test_values_that_others_computed(objective: Objective, rows: int, times: int, expected: float, tile: int) -> None:
    z = published()
    q = z if rows == 16 else z[:8]
    assert times * mean(tiled(objective, tile), q, z, SameItem()(q, z)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tile", [WHOLE, 5])
def test_ifm_with_a_queue(tile: int) -> None:
    """joshr17/IFM's MoCo: negatives are the queue alone."""
    z, state = published(), numpy.random.RandomState(0)
    state.randn(2, 8, 16)
    queue = Embeddings(torch.tensor(state.randn(32, 16)), origin(range(8, 40), [5] * 32))
    q, k = z[:8], z[8:]
    relation = SameItem()(q, k).only_positives() | SameItem()(q, queue)
    found = mean(IFM(temperature=0.2, epsilon=0.1, alpha=1, tile=tile), q, Embeddings.cat(k, queue), relation)
    assert found.item() == pytest.approx(0.7944360632206953, rel=1e-9)


def both_ways(objective: Objective, part: Any) -> float:
    z = published()
    one, other = z[:8], z[8:]
    return sum(mean(objective, q, k, SameItem()(q, k), part).item() for q, k in ((one, other), (other, one)))


def met_at_nothing(objective: Objective) -> Memory:
    """The authors' memories begin at 0; ours begin as unknown."""
    part = part_of(objective)
    part.log.fill_(-700)
    assert isinstance(part, Memory)
    return part


def test_global_contrast_of_two_roles() -> None:
    """zhqiu/contrastive-learning-iSogCLR, bimodal, on the same batch twice; they add 1e-10 to denominators."""
    objective = SogCLR(temperature=0.1, gamma=0.8, bimodal=True, positive=True, items=8)
    part = met_at_nothing(objective)
    assert both_ways(objective, part) == pytest.approx(-0.006065174464596892, rel=1e-8)
    part.advance(0)
    assert both_ways(objective, part) == pytest.approx(-0.005054312054563412, rel=1e-8)


def test_global_contrast_of_one_role() -> None:
    """The same authors' first call; what they store after it is twice the mean, which no paper asks for."""
    z, objective = published(), SogCLR(temperature=0.1, gamma=0.8, items=8)
    found = mean(objective, z, z, SameItem()(z, z), met_at_nothing(objective))
    assert 2 * found.item() == pytest.approx(-1.20551556736741, rel=1e-9)


def test_temperatures_of_items() -> None:
    fields = {"temperature": 0.07, "gamma": 0.8, "rho": 6.0, "rate": 0.001, "momentum": 0.9, "steepest": 5.0}
    objective = iSogCLR(**fields, bimodal=True, positive=True, items=8)
    part = met_at_nothing(objective)
    assert both_ways(objective, part) == pytest.approx(-0.0004327777118989516, rel=1e-7)  # 0.07 in float32
    part.advance(0)
    assert part.temperatures is not None
    assert part.temperatures.value[0].item() == pytest.approx(0.06655082639955166, rel=1e-7)


# --- gradients, forms, edges ------------------------------------------------------------------------------------------


@case
@pytest.mark.parametrize("form", forms(torch.float64))
def test_streaming_is_dense(name: str, form: str) -> None:
    """In value, gradient and what is remembered."""
    objective, data, found = CASES[name][0], forms(torch.float64)[form](), []
    for tile in (WHOLE, TILED):
        part = part_of(objective)
        values = slopes(tiled(objective, tile), data, part)
        if part is not None:
            part.advance(0.5)
            values += [x.nan_to_num(neginf=0) for x in part.state_dict().values()]
        found.append(values)
    for one, two in zip(*found, strict=True):
        assert (one - two).abs().max() <= 1e-12 * max(1, float(one.abs().max()))


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_temperature_streams(name: str) -> None:
    found = []
    for tile in (WHOLE, TILED):
        objective, z = tiled(LEARNED[name], tile), pairs(20)
        part = part_of(objective)
        found.append(slopes(objective, (z, z, SameItem()(z, z)), part, (part.log,)))
        assert found[-1][-1] != 0
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*SMOOTH, *(f"{name}, learned" for name in LEARNED)])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    objective = CASES[name][0] if name in CASES else LEARNED[name.removesuffix(", learned")]
    z, other, part = pairs(4), pairs(3, seed=1), part_of(objective)
    few = [x.vector.detach()[:, :3].requires_grad_() for x in (z, other)]
    relation = told(8, 6, seed=2)
    learned = () if part is None or name == "schedule" else (part.log,)

    def loss(one: Tensor, two: Tensor, *log: Tensor) -> Tensor:
        scale: Any = (lambda: log[0].exp()) if log else part
        return objective(Embeddings(one, z.origin), Embeddings(two, other.origin), relation, scale).total

    assert torch.autograd.gradcheck(loss, (*few, *learned))


def gradient(objective: Objective, z: Embeddings, part: Any = None) -> Tensor:
    return torch.autograd.grad(mean(objective, z, z, SameItem()(z, z), part), z.vector)[0]


@pytest.mark.parametrize("bimodal", [False, True])
def test_without_memory_global_contrast_is_decoupled_contrast(bimodal: bool) -> None:
    """gamma 1 forgets; the gradient is that of temperature x log sum over negatives."""
    z, objective = pairs(10), SogCLR(temperature=0.2, gamma=1, bimodal=bimodal, items=10)
    part = part_of(objective)
    for _ in range(2):
        found = gradient(objective, z, part)
        part.advance(0)
        torch.testing.assert_close(found, 0.2 * gradient(Decoupled(temperature=0.2), z))


def test_reweighted_gradients_are_those_of_decoupled_contrast() -> None:
    """MACL gives back what the positive's softmax takes: with one positive nothing but the temperature is left."""
    z = pairs(10)
    agreement = fmean(row.agreement for row in rows_of(z, z, SameItem()(z, z)))
    warm = 0.1 * (1 + 0.5 * agreement)
    torch.testing.assert_close(gradient(MACL(), z), gradient(Decoupled(temperature=warm), z))
    torch.testing.assert_close(gradient(MACL(reweighted=False), z), gradient(InfoNCE(temperature=warm), z))


def test_weights_of_dclw_are_held_fixed() -> None:
    z = pairs(10)
    rows = rows_of(z, z, SameItem()(z, z))
    usual = fmean(math.exp(2 * row.agreement) for row in rows)
    excess = torch.tensor([math.exp(2 * row.agreement) / usual - 1 for row in rows])
    partner = z.unit.roll(10, 0)
    added = 10 * (excess * torch.linalg.vecdot(z.unit, partner)).mean()
    expected = gradient(Decoupled(), z) + torch.autograd.grad(added, z.vector)[0]
    torch.testing.assert_close(gradient(Decoupled(weighted=0.5), z), expected)


def test_hard_negatives_without_both_is_infonce() -> None:
    z, k = pairs(10), pairs(8, seed=1)
    for q, keys, relation in ((z, z, SameItem()(z, z)), (z, z, SameLabel()(z, z)), (z, k, told(20, 16))):
        one, two = (slopes(o, (q, keys, relation)) for o in (HardNegatives(prior=0, beta=0), InfoNCE()))
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(a, b)


EXTREMES: list[Objective] = [
    *(HardNegatives(temperature=t, prior=p) for t in (0.001, 100) for p in (0, 0.1, 0.9)),
    *(IFM(temperature=t) for t in (0.001, 100)),
    *(Decoupled(temperature=t, weighted=s) for t in (0.001, 100) for s in (0.001, 100)),
    *(MACL(temperature=t, alpha=1, threshold=a) for t in (0.001, 100) for a in (-1, 1)),
    *(SogCLR(temperature=t, items=8, bimodal=b) for t in (0.001, 100) for b in (False, True)),
    iSogCLR(temperature=0.001, lowest=0.001, items=8),
    RINCE(temperature=0.02, q=1),
    TemperatureSchedule(low=0.001, high=0.001),
]


@pytest.mark.parametrize("tile", [WHOLE, TILED])
@pytest.mark.parametrize("objective", EXTREMES, ids=repr)
def test_extremes_are_finite(objective: Objective, tile: int) -> None:
    """In float32: random rows, rows that are all the same, pairs that point away from each other."""
    z = pairs(16, dtype=torch.float32)
    one = z.vector.detach()[:16]
    for vector in (z.vector.detach(), torch.ones(32, 4), torch.cat([one, -one])):
        rows = Embeddings(vector.requires_grad_(), z.origin)
        part: Any = objective.build()
        for _ in range(3):
            loss = mean(tiled(objective, tile), rows, rows, SameItem()(rows, rows), part)
            assert loss.isfinite()
            assert torch.autograd.grad(loss, vector)[0].isfinite().all()
            if part is not None:
                part.advance(0.5)


@case
def test_a_query_compared_alike_with_all_scores_chance(name: str) -> None:
    objective, z = CASES[name][0], pairs(6)
    expected = objective.chance(11)
    flat = Embeddings(torch.ones_like(z.vector), z.origin)
    assert (expected is None) == name.startswith(("RINCE", "SogCLR", "iSogCLR"))
    if expected is not None:
        assert mean(objective, flat, flat, SameItem()(flat, flat), part_of(objective)).item() == pytest.approx(expected)


@case
@pytest.mark.parametrize("tile", [WHOLE, TILED])
def test_half_is_lifted_and_autocast_changes_nothing(name: str, tile: int) -> None:
    objective = tiled(CASES[name][0], tile)
    for z in (pairs(10, dtype=torch.bfloat16), pairs(10, dtype=torch.float32)):
        relation = SameItem()(z, z)
        exact = slopes(objective, (z, z, relation), objective.build())
        with torch.autocast("cpu", torch.bfloat16):
            again = slopes(objective, (z, z, relation), objective.build())
        assert exact[0].dtype == torch.float32
        assert exact[1].dtype == z.vector.dtype
        assert exact[0].equal(again[0])


@case
@pytest.mark.parametrize(("queries", "keys"), [(0, 8), (8, 0), (0, 0)])
def test_a_side_without_rows(name: str, queries: int, keys: int) -> None:
    objective, z = CASES[name][0], pairs(4)
    part, q, k = part_of(objective), z[:queries], z[:keys]
    term = objective(q, k, SameItem()(q, k), part)
    term.total.backward()
    if part is not None:
        part.advance(0)
    assert float(term.total.detach()) == float(term.count) == 0
    assert z.vector.grad is not None


@pytest.mark.parametrize("name", LEARNED)
def test_a_temperature_has_a_gradient_without_keys(name: str) -> None:
    objective, z = LEARNED[name], pairs(4)
    part = part_of(objective)
    objective(z, z[:0], SameItem()(z, z[:0]), part).total.backward()
    assert part.log.grad == 0


def test_recipes_say_no_to_nonsense() -> None:
    for kind, field, value in (
        ("Decoupled", "weighted", 0),
        ("HardNegatives", "prior", 1),
        ("HardNegatives", "beta", -1),
        ("RINCE", "q", 1.5),
        ("MACL", "alpha", 2),
        ("SogCLR", "gamma", 0),
    ):
        with pytest.raises(WrongCall, match=field):
            Objective.of({"kind": kind, field: value})
    with pytest.raises(WrongCall, match=r"q / temperature is 100, of at most 64: lower q or raise temperature"):
        Objective.of({"kind": "RINCE", "q": 1, "temperature": 0.01})
    with pytest.raises(WrongCall, match=r"temperature 0.01 must lie between lowest 0.05 and highest 1"):
        Objective.of({"kind": "iSogCLR", "temperature": 0.01})
    with pytest.raises(WrongCall, match=r"SogCLR remembers every item, .* items=N"):
        SogCLR().build()


# --- what changes as training goes on ---------------------------------------------------------------------------------


def test_a_schedule_is_lowest_below_and_highest_above() -> None:
    with pytest.raises(WrongCall, match=r"low=1 is above high=0\.1"):
        TemperatureSchedule.of({"low": 1, "high": 0.1})


def test_a_schedule_follows_progress_and_is_resumed() -> None:
    objective, z = TemperatureSchedule(low=0.2, high=1.0, cycles=2), pairs(10)
    part = objective.build()
    for progress, temperature in ((0, 1), (0.125, 0.6), (0.25, 0.2), (0.5, 1), (0.75, 0.2), (1, 1)):
        part.advance(progress)
        again = objective.build()
        again.load_state_dict(part.state_dict())
        expected = mean(InfoNCE(temperature=temperature), z, z, SameItem()(z, z))
        for one in (part, again):
            torch.testing.assert_close(mean(objective, z, z, SameItem()(z, z), one), expected, rtol=1e-6, atol=0)


def batch(items: list[int], seed: int, first: int = 0) -> Embeddings:
    """Two views of each item, numbered from `first`."""
    z = pairs(len(items), seed=seed)
    return Embeddings(z.vector.detach(), origin(items * 2, z.origin.view + first))


class Remembering:
    """SogCLR in loops: what each place remembers of its rivals, averaged over the views that a step shows."""

    def __init__(self, s: float, gamma: float, bimodal: bool) -> None:
        self.u: dict[Any, float] = {}
        self.s, self.gamma, self.bimodal = s, gamma, bimodal

    def step(self, q: Embeddings, k: Embeddings, role: int = 0) -> float:
        losses: list[float] = []
        new: dict[Any, list[float]] = {}
        for row in rows_of(q, k, SameItem()(q, k)):
            place = int(q.origin.item[row.number]), role
            shift = row.agreement if self.bimodal else 0
            g = sum(math.exp(self.s * (c - shift)) for c, _ in row.negatives) / row.many
            u = (1 - self.gamma) * self.u[place] + self.gamma * g if place in self.u else g
            new.setdefault(place, []).append(u)
            repelled = sum(math.exp(self.s * (c - shift)) / u * (c - shift) for c, _ in row.negatives) / row.many
            losses.append(repelled if self.bimodal else repelled - row.agreement)
        self.u |= {place: fmean(each) for place, each in new.items()}
        return fmean(losses)


@pytest.mark.parametrize("tile", [WHOLE, 5])
def test_items_remember_from_step_to_step(tile: int) -> None:
    objective = SogCLR(temperature=0.2, gamma=0.7, items=12, tile=tile)
    part, loops = part_of(objective), Remembering(5, 0.7, bimodal=False)
    for seed, items in enumerate(([0, 1, 2, 3], [2, 3, 4, 5], [0, 2, 10, 11], [3, 2, 1, 0])):
        z = batch(items, seed)
        expected = loops.step(z, z)
        for _ in range(2):  # asked twice, moved once
            assert mean(objective, z, z, SameItem()(z, z), part).item() == pytest.approx(expected)
        part.advance(0)
    for (item, _), u in loops.u.items():
        assert part.log[item].exp().item() == pytest.approx(u)
    assert part.log.isfinite().sum() == len(loops.u) == 8


def test_two_roles_have_memories_of_their_own() -> None:
    objective = SogCLR(temperature=0.2, gamma=0.7, bimodal=True, items=6)
    part, loops = part_of(objective), Remembering(5, 0.7, bimodal=True)
    for seed, items in enumerate(([0, 1, 2, 3], [2, 3, 4, 5], [5, 2, 0, 1])):
        sides = batch(items, seed), batch(items, seed + 10, first=2)
        for role, (q, k) in enumerate((sides, sides[::-1])):
            found = mean(objective, q, k, SameItem()(q, k), part)
            assert found.item() == pytest.approx(loops.step(q, k, role))
        part.advance(0)
    assert len(part.log) == 12
    for (item, role), u in loops.u.items():
        assert part.log[item + 6 * role].exp().item() == pytest.approx(u)


def test_only_training_is_remembered() -> None:
    objective, z = iSogCLR(items=12), batch([0, 1, 2, 3], 0)
    part = objective.build()
    before = {name: x.clone() for name, x in part.state_dict().items()}
    mean(objective, z, z, SameItem()(z, z), part.eval())
    part.advance(0)
    assert all(x.equal(before[name]) for name, x in part.state_dict().items())
    mean(objective, z, z, SameItem()(z, z), part.train())
    assert all(x.equal(before[name]) for name, x in part.state_dict().items())
    part.advance(0)
    assert not any(x.equal(before[name]) for name, x in part.state_dict().items())


def test_item_numbers_may_be_large() -> None:
    objective, z = SogCLR(items=7), batch([0, 1, 2, 3], 0)
    far = Embeddings(z.vector, Origin(z.origin.item + 7 * 10**12, z.origin.view))
    parts = [objective.build() for _ in range(2)]
    for _ in range(2):
        one, two = (mean(objective, x, x, SameItem()(x, x), part) for x, part in zip((z, far), parts, strict=True))
        assert one.equal(two)
        for part in parts:
            part.advance(0)
    assert parts[0].log.equal(parts[1].log)


def test_temperatures_minimise_their_own_loss() -> None:
    """On rows that rest, each item's goes where  temperature (log mean exp(cos / temperature) + rho)  is least."""
    objective = iSogCLR(items=8, gamma=1, momentum=1, rate=0.05, rho=0.1, lowest=0.05)
    z, part = batch(list(range(8)), 3), part_of(objective)
    for _ in range(250):
        mean(objective, z, z, SameItem()(z, z), part)
        part.advance(0)
    rows = rows_of(z, z, SameItem()(z, z))
    found = part.temperatures.value

    def risk(item: int, t: float) -> float:
        mine = [row for row in rows if row.number % 8 == item]
        return fmean(t * (math.log(row.n(1 / t) / row.many) + 0.1) for row in mine)

    for item in range(8):
        best = min((0.05 + 0.005 * n for n in range(191)), key=lambda t: risk(item, t))
        assert found[item].item() == pytest.approx(best, abs=0.006)
    assert found.max() > 1.1 * found.min()
