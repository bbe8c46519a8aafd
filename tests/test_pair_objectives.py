"""Objectives on pairs agree with values others computed, with loops over their formulas, and with themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from test_objectives import Largest, Told, forms, mean, moved, pairs, published, slopes, told
from torch import Tensor, nn

from likeness.objectives import (
    Align,
    AlignUniform,
    CyCLIP,
    InfoNCE,
    Margin,
    Matryoshka,
    Objective,
    Sigmoid,
    Triplet,
    similarity,
)
from likeness.objectives.margin import Mining
from likeness.relations import Pairing, Relation, SameItem, SameLabel
from likeness.views import Embeddings, Origin

WHOLE, TILED = 4096, 7
MININGS: tuple[Mining, ...] = ("hard", "semi-hard", "all", "random")
Row = list[float]
Table = list[Row]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def variants(tile: int | None = None) -> dict[str, Objective]:
    """Every objective of the family, with every value of every field that changes its course."""
    found: dict[str, Objective] = {"Align": Align(tile=tile), "Sigmoid": Sigmoid(bias=-2.0, tile=tile)}
    for alpha in (1.0, 3.0):
        found[f"AlignUniform {alpha}"] = AlignUniform(alpha=alpha, t=1.5, uniformity=0.7, tile=tile)
    for learned in (False, True):
        contrast = InfoNCE(temperature=0.3, learned=learned, tile=tile)
        found[f"CyCLIP{' learned' * learned}"] = CyCLIP(contrast=contrast, in_modal=0.5, cross_modal=2.0)
    for balanced, hard in product((False, True), (False, True)):
        found[f"Margin{' balanced' * balanced}{' hard' * hard}"] = Margin(
            margin=1.2, balanced=balanced, hard=hard, tile=tile
        )
    for mining, soft in product(MININGS, (False, True)):
        found[f"Triplet {mining}{' soft' * soft}"] = Triplet(margin=0.3, mining=mining, soft=soft, tile=tile)
    found["Margin cosine"] = Margin(margin=0.6, distance="cosine", tile=tile)
    found["Triplet cosine"] = Triplet(distance="cosine", tile=tile)
    found["Matryoshka"] = Matryoshka(objective=found["Margin"], dims=(4, 16), weights=(1.0, 3.0))
    found["Matryoshka learned"] = Matryoshka(objective=found["Sigmoid"])
    return found


every = pytest.mark.parametrize("name", variants())


def built(objective: Objective) -> Any:
    part = objective.build()
    return None if part is None else part.double()


def learnt(part: nn.Module | None) -> tuple[Tensor, ...]:
    return () if part is None else tuple(part.parameters())


# --- values -----------------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """SigLIP's scale and bias, exact in double precision."""

    bias = torch.tensor(-10.0, dtype=torch.float64)

    def forward(self) -> Tensor:
        return torch.tensor(10.0, dtype=torch.float64)


@pytest.mark.parametrize("tile", [WHOLE, 3])
@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Align(), 0.16947706325501066),  # BYOL's regression loss
        (AlignUniform(uniformity=0), 0.16947706325501055),  # align_uniform's align_loss, alpha 2
        (AlignUniform(alignment=0), -3.7658969063037073),  # its uniform_loss, t 2
        (Sigmoid(), 1.2155117990937894),  # open_clip's SigLipLoss, scale 10, bias -10
    ],
    ids=repr,
)
def test_values_that_others_computed(objective: Objective, expected: float, tile: int) -> None:
    z = published()
    q, k = z[:8], z[8:]
    told = objective.model_copy(update={"tile": tile})
    assert mean(told, q, k, SameItem()(q, k), Fixed()).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tile", [WHOLE, 3])
def test_batch_hard_triplets(tile: int) -> None:
    """Hermans et al.'s formula, as sentence-transformers and pytorch-metric-learning have it."""
    z = published()[:8]
    objective = Triplet(margin=0.2, mining="hard", tile=tile)
    assert mean(objective, z, z, SameLabel()(z, z)).item() == pytest.approx(0.5272718743466498, rel=1e-9)


@pytest.mark.parametrize(
    ("contrast", "in_modal", "cross_modal", "expected"),
    [
        (1, 0.25, 0.25, 0.05516961126704055),  # the authors' code, temperature 0.1
        (0, 1, 0, 0.09642276780465085),
        (0, 0, 1, 0.10865184624304973),
    ],
)
def test_cyclip_in_both_directions(contrast: int, in_modal: float, cross_modal: float, expected: float) -> None:
    z = published()
    objective = CyCLIP(contrast=InfoNCE(temperature=0.1), in_modal=in_modal, cross_modal=cross_modal)
    both = 0.0
    for q, k in ((z[:8], z[8:]), (z[8:], z[:8])):
        relation = SameItem()(q, k)
        both += mean(objective, q, k, relation).item() / 2
        both -= (1 - contrast) * mean(objective.contrast, q, k, relation).item() / 2
    assert both == pytest.approx(expected, rel=1e-9)


# --- formulas, pair by pair -------------------------------------------------------------------------------------------


def far_apart(cosine: float, kind: str) -> float:
    return 1 - cosine if kind == "cosine" else math.sqrt(max(2 - 2 * cosine, 0))


def align_row(one: Align, c: Row, t: Row, w: Row) -> tuple[float, float]:
    return sum(t[m] * (2 - 2 * c[m]) for m in range(len(c))), sum(t)


def sigmoid_row(one: Sigmoid, c: Row, t: Row, w: Row) -> tuple[float, float]:
    total = 0.0
    for m in range(len(c)):
        logit = c[m] / one.temperature + one.bias
        total += t[m] * math.log1p(math.exp(-logit)) if t[m] > 0 else w[m] * math.log1p(math.exp(logit))
    return total, float(any(w))


def margin_row(one: Margin, c: Row, t: Row, w: Row) -> tuple[float, float]:
    d = [far_apart(x, one.distance) for x in c]
    near = [m for m in range(len(c)) if t[m] > 0]
    far = [m for m in range(len(c)) if t[m] == 0 and w[m] > 0]
    if one.hard:
        farthest, nearest = max((d[m] for m in near), default=-math.inf), min((d[m] for m in far), default=math.inf)
        near, far = [m for m in near if d[m] > nearest], [m for m in far if d[m] < farthest]
    pulled = sum(t[m] * d[m] ** 2 / 2 for m in near), sum(t[m] for m in near)
    pushed = sum(w[m] * max(0, one.margin - d[m]) ** 2 / 2 for m in far), sum(w[m] for m in far)
    if one.balanced:
        sides = [side for side in (pulled, pushed) if side[1] > 0]
        return sum(total / size for total, size in sides), len(sides)
    return pulled[0] + pushed[0], pulled[1] + pushed[1]


def triplet_row(one: Triplet, c: Row, t: Row, w: Row) -> tuple[float, float]:
    d = [far_apart(x, one.distance) for x in c]
    near = [m for m in range(len(c)) if t[m] > 0]
    far = [m for m in range(len(c)) if t[m] == 0 and w[m] > 0]
    if not near or not far:
        return 0.0, 0
    losses = [bent(one, d[p] - d[n]) for p, n in chosen(one.mining, c, d, near, far)]
    return sum(losses), sum(x > 0 for x in losses) if one.mining == "all" else len(losses)


def bent(one: Triplet, excess: float) -> float:
    return math.log1p(math.exp(excess)) if one.soft else max(0.0, excess + one.margin)


def chosen(mining: str, c: Row, d: Row, near: list[int], far: list[int]) -> list[tuple[int, int]]:
    if mining == "hard":
        return [(max(near, key=lambda m: d[m]), min(far, key=lambda m: d[m]))]
    if mining == "random":
        return [tuple(max(side, key=lambda m: math.sin(100 * c[m])) for side in (near, far))]  # type: ignore[list-item]
    if mining == "all":
        return list(product(near, far))
    beyond = {p: [n for n in far if d[n] > d[p]] for p in near}
    return [(p, min(beyond[p], key=lambda n: d[n]) if beyond[p] else max(far, key=lambda n: d[n])) for p in near]


ROWS: dict[str, Callable[[Any, Row, Row, Row], tuple[float, float]]] = {
    "Align": align_row,
    "Sigmoid": sigmoid_row,
    "Margin": margin_row,
    "Triplet": triplet_row,
}


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def align_uniform(one: AlignUniform, q: Embeddings, k: Embeddings, t: Table) -> float:
    a, b, view = q.unit.tolist(), k.unit.tolist(), q.origin.view.tolist()
    near = [(n, m) for n in range(len(a)) for m in range(len(b)) if t[n][m] > 0]
    pulled = sum(t[n][m] * math.dist(a[n], b[m]) ** one.alpha for n, m in near) / sum(t[n][m] for n, m in near)
    logs = []
    for v in set(view):
        rows = [a[n] for n in range(len(a)) if view[n] == v]
        every = [math.exp(-one.t * math.dist(rows[i], rows[j]) ** 2) for i in range(len(rows)) for j in range(i)]
        logs.append(math.log(sum(every) / len(every)))
    return float(one.alignment * pulled + one.uniformity * sum(logs) / len(logs))


def cyclip(one: CyCLIP, q: Embeddings, k: Embeddings, t: Table, contrast: float) -> float:
    a, b = q.unit.tolist(), k.unit.tolist()
    paired = [n for n in range(len(a)) if sum(t[n]) > 0]
    partner = {n: [sum(t[n][m] * b[m][x] for m in range(len(b))) / sum(t[n]) for x in range(len(b[0]))] for n in paired}
    in_modal = sum((dot(a[i], a[j]) - dot(partner[i], partner[j])) ** 2 for i in paired for j in paired)
    cross = sum((dot(a[i], partner[j]) - dot(a[j], partner[i])) ** 2 for i in paired for j in paired)
    return contrast + float(one.in_modal * in_modal + one.cross_modal * cross) / len(paired)


def short(z: Embeddings, length: int) -> Embeddings:
    return Embeddings(z.vector[:, :length], z.origin)


def by_loops(one: Any, q: Embeddings, k: Embeddings, relation: Relation, part: Any) -> float:
    c, (t, w) = similarity(q, k).detach().tolist(), (x.tolist() for x in relation.dense())
    if type(one) is AlignUniform:
        return align_uniform(one, q, k, t)
    if type(one) is CyCLIP:
        return cyclip(one, q, k, t, mean(one.contrast, q, k, relation, part).item())
    if type(one) is Matryoshka:
        lengths, weights = one.dims or (16, 8, 4, 2), one.weights or (1, 1, 1, 1)
        each = [
            by_loops(one.objective, short(q, length), short(k, length), relation, part and part[n])
            for n, length in enumerate(lengths)
        ]
        return sum(weight * value for weight, value in zip(weights, each, strict=True)) / sum(weights)
    row = ROWS[type(one).__name__]
    found = [row(one, c[n], t[n], w[n]) for n in range(len(c))]
    return sum(total for total, _ in found) / sum(count for _, count in found)


@every
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("tile", [WHOLE, TILED])
def test_any_relation_against_loops(name: str, seed: int, tile: int) -> None:
    """Rows without a positive or with several, graded targets, weights of 0 and of neither 0 nor 1."""
    q, k, relation = pairs(10, seed=seed), moved(pairs(8, seed=seed + 10), 0, 2), told(20, 16, seed)
    objective = variants(tile)[name]
    part = built(objective)
    assert ((relation.target > 0).sum(1) > 1).any()
    assert ((relation.target > 0).sum(1) == 0).any()
    value = mean(objective, q, k, relation, part).item()
    assert value == pytest.approx(
        by_loops(objective, q, k, told(20, 16, seed), part), rel=2e-7 if learnt(part) else 1e-9
    )
    assert value != 0


# --- forms ------------------------------------------------------------------------------------------------------------


@every
def test_streaming_is_dense(name: str) -> None:
    """In value and in the gradients of embeddings and of what is learned, for every way to ask."""
    whole, tiled = variants(WHOLE)[name], variants(16)[name]
    for form, make in forms(torch.float64).items():
        case, found = make(), []
        for objective in (whole, tiled):
            part = built(objective)
            found.append(slopes(objective, case, part, learnt(part)))
        for one, two in zip(*found, strict=True):
            assert two.dtype == torch.float64
            assert two.isfinite().all(), form
            assert (one - two).abs().max() <= 1e-12 * max(1, float(one.abs().max())), form


@every
@pytest.mark.parametrize("tile", [WHOLE, 3])
def test_gradients_are_those_of_finite_differences(name: str, tile: int) -> None:
    """Choices (the hardest, a drawn one) stand still between neighbouring points, so this holds for all minings."""
    z, other, objective = pairs(5, labels=2), moved(pairs(4, labels=2, seed=1), 0, 2), variants(tile)[name]
    part = built(objective)

    def loss(one: Tensor, two: Tensor, *_: Tensor) -> Tensor:
        q, k = Embeddings(one, z.origin), Embeddings(two, other.origin)
        term = objective(q, k, SameLabel()(q, k), part)
        return term.total / term.count.detach().clamp_min(1)

    assert torch.autograd.gradcheck(loss, (z.vector, other.vector, *learnt(part)), fast_mode=True)


@every
@pytest.mark.parametrize("tile", [WHOLE, TILED])
@pytest.mark.parametrize("pairing", [SameItem(), SameLabel()], ids=repr)
def test_order_and_numbering_do_not_matter(name: str, tile: int, pairing: Pairing) -> None:
    """Not even where rows are equal, and hence ties everywhere; nor does it matter how often one asks."""
    z, objective = pairs(12, labels=3), variants(tile)[name]
    z = Embeddings(z.vector, z.origin)
    twice = Embeddings(torch.cat([z.vector, z.vector]), Origin.cat(z.origin, moved(z, 100, 0).origin))
    order, names = torch.randperm(48), torch.randperm(10**6)[:200] + 10**12
    other = Embeddings(twice.vector, Origin(names[twice.origin.item], twice.origin.view, twice.origin.known))[order]
    part, found = built(objective), list[tuple[Tensor, Tensor]]()
    for x in (twice, twice, other):
        torch.manual_seed(len(found))
        value = mean(objective, x, x, pairing(x, x), part)
        found.append((value.detach(), torch.autograd.grad(value, z.vector)[0]))
    assert found[0][0].equal(found[1][0])
    assert found[0][1].equal(found[1][1])
    for one, two in zip(found[0], found[2], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["Align", "AlignUniform 1.0", "CyCLIP"])
def test_a_list_of_positives_is_its_table(name: str) -> None:
    """Also where the table takes several strips."""
    z, objective, found = pairs(300), variants()[name], []
    listed = SameItem()(z, z)
    for relation in (listed, Told(*(x.double() for x in listed.dense()))):
        found.append(slopes(objective, (z, z, relation), built(objective)))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


ROWWISE = [name for name in variants() if name.split()[0] in ROWS]


@pytest.mark.parametrize("name", ROWWISE)
def test_the_shares_of_processes_are_the_whole(name: str) -> None:
    z, objective = pairs(20), variants(TILED)[name]
    part = built(objective)
    whole = objective(z, z, SameLabel()(z, z), part)
    shares = [z[:11], z[11:11], z[11:]]
    terms = [objective(share, z, SameLabel()(share, z), part) for share in shares]
    torch.testing.assert_close(torch.stack([term.total for term in terms]).sum(), whole.total)
    torch.testing.assert_close(torch.stack([term.count for term in terms]).sum(), whole.count)


@every
def test_no_table_is_made(name: str) -> None:
    """Not even one strip where positives can be listed and nothing else is asked; else never more than strips."""
    items, dim = 128, 16
    objective = variants(8)[name]
    z, part = pairs(items, dtype=torch.float32), objective.build()
    with Largest() as largest:  # type: ignore[no-untyped-call]
        mean(objective, z, z, SameItem()(z, z), part).backward()
    listed = 2 * items * dim
    strips = 8 * (2 * items + 1)  # with one column more, of running sums
    assert largest.numbers <= max(listed, strips)
    assert largest.numbers < (2 * items) ** 2 / 8


@every
@pytest.mark.parametrize("tile", [WHOLE, TILED])
def test_autocast_changes_nothing(name: str, tile: int) -> None:
    objective = variants(tile)[name]
    z, part = pairs(20, dtype=torch.float32), objective.build()

    def found() -> list[Tensor]:
        return slopes(objective, (z, z, SameLabel()(z, z)), part, learnt(part))

    exact = found()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, exact, found()))


@every
def test_half_is_lifted(name: str) -> None:
    z, objective = pairs(10, dtype=torch.bfloat16), variants()[name]
    assert mean(objective, z, z, SameItem()(z, z), objective.build()).dtype == torch.float32


# --- edges ------------------------------------------------------------------------------------------------------------


def scenes() -> dict[str, tuple[Embeddings, Embeddings, Relation]]:
    z = pairs(6, labels=2)
    one = Embeddings(z.vector, Origin(z.origin.item, z.origin.view, {"label": torch.zeros(12)}))
    flat = Embeddings(z.vector * 0 + 1, z.origin)
    apart = moved(z, 100, 2)
    return {
        "one class only": (one, one, SameLabel()(one, one)),
        "no negatives": (z, z, SameItem()(z, z).only_positives()),
        "no positives": (z, z, SameItem()(z, z).only_negatives()),
        "no partners": (z, apart, SameItem()(z, apart)),
        "nobody compared": (z, z, SameItem()(z, z).only_negatives().only_positives()),
        "one point": (flat, flat, SameItem()(flat, flat)),
        "no length": (z, Embeddings(z.vector * 0, z.origin), SameItem()(z, z)),
        "no query": (z[:0], z, SameItem()(z[:0], z)),
        "no key": (z, z[:0], SameItem()(z, z[:0])),
        "no row": (z[:0], z[:0], SameItem()(z[:0], z[:0])),
    }


@every
@pytest.mark.parametrize("tile", [WHOLE, 5])
def test_poor_batches_are_finite(name: str, tile: int) -> None:
    """Value and gradients; and all gradients come, so that no process waits for another."""
    objective = variants(tile)[name]
    for scene, (q, k, relation) in scenes().items():
        part = built(objective)
        term = objective(q, k, relation, part)
        value = term.total / term.count.clamp_min(1)
        assert value.isfinite(), scene
        reached = torch.autograd.grad(value, (q.vector, k.vector, *learnt(part)))
        assert all(grad.isfinite().all() for grad in reached), scene


@pytest.mark.parametrize("name", [name for name in ROWWISE if "Triplet" in name])
@pytest.mark.parametrize("scene", ["one class only", "no negatives", "no positives", "no partners", "no key"])
def test_a_query_without_a_positive_or_a_negative_asks_for_no_triplet(name: str, scene: str) -> None:
    q, k, relation = scenes()[scene]
    term = variants()[name](q, k, relation)
    assert float(term.total.detach()) == float(term.count) == 0


@every
@pytest.mark.parametrize("tile", [WHOLE, 5])
def test_a_vector_that_is_no_number_is_seen(name: str, tile: int) -> None:
    z, objective = pairs(6, labels=2).detach(), variants(tile)[name]
    z.vector[3] = torch.nan
    assert mean(objective, z, z, SameItem()(z, z), built(objective)).isnan()


# --- what each is for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in variants() if name.split()[0] in {"Triplet", "CyCLIP"}])
def test_a_space_of_one_point_scores_chance(name: str) -> None:
    """For triplets it is the margin: where hard mining often stays."""
    q, k, relation = scenes()["one point"]
    objective = variants()[name]
    assert mean(objective, q, k, relation, built(objective)).item() == pytest.approx(objective.chance(11), abs=1e-6)


def triple(positive: float, *negatives: float) -> tuple[Embeddings, Embeddings, Relation]:
    """A query on the unit circle, a positive and negatives at these Euclidean distances from it."""
    angle = torch.tensor([0.0, *(2 * math.asin(d / 2) for d in (positive, *negatives))], dtype=torch.float64)
    z = Embeddings(
        torch.stack([angle.cos(), angle.sin()], 1), Origin(torch.arange(len(angle)), torch.arange(len(angle)))
    )
    item = torch.tensor([0, *range(len(negatives) + 1)])
    q, k = z[:1], Embeddings(z.vector[1:], Origin(item[1:], torch.arange(1, len(angle))))
    return q, k, SameItem()(q, k)


@pytest.mark.parametrize(
    ("mining", "negatives", "expected"),
    [
        ("hard", (0.4, 0.6, 0.9), 0.5 - 0.4 + 0.2),
        ("semi-hard", (0.4, 0.6, 0.9), 0.5 - 0.6 + 0.2),  # the nearest beyond the positive
        ("semi-hard", (0.4, 0.8, 0.9), 0.0),  # which is beyond the margin, too
        ("semi-hard", (0.1, 0.4), 0.5 - 0.4 + 0.2),  # all nearer than the positive: the farthest
        ("all", (0.4, 0.6, 0.9), (0.3 + 0.1) / 2),  # of three triplets two are active
        ("all", (0.8, 0.9), 0.0),
    ],
)
def test_which_triplet_is_asked_for(mining: str, negatives: tuple[float, ...], expected: float) -> None:
    q, k, relation = triple(0.5, *negatives)
    term = Triplet.of({"mining": mining, "margin": 0.2})(q, k, relation)
    assert float(term.total / term.count.clamp_min(1)) == pytest.approx(expected, abs=1e-9)


def test_random_triplets_are_a_fair_sample() -> None:
    """Their mean is that of all triplets, within what 1,200 draws allow, and far from that of the hardest."""
    torch.manual_seed(0)
    z = Embeddings(
        torch.randn(1200, 64), Origin(torch.arange(1200), torch.zeros(1200).long(), {"label": torch.arange(1200) % 4})
    )
    relation = SameLabel()(z, z)
    random, every, hard = (
        mean(Triplet.of({"mining": mining, "margin": 2.0}), z, z, relation).item()
        for mining in ("random", "all", "hard")
    )
    assert abs(random - every) < 0.01
    assert hard - every > 0.3


def test_margins_of_both_distances_ask_for_the_same() -> None:
    """Cosines below 0.5: then negatives cost nothing."""
    for distance, margin in (("euclidean", 1.0), ("cosine", 0.5)):
        objective = Margin.of({"distance": distance, "margin": margin, "balanced": False})
        for gap, free in ((0.99, False), (1.01, True)):
            q, k, relation = triple(0.5, gap)
            assert (mean(objective, q, k, relation.only_negatives()).item() == 0) == free


def test_balance_is_between_all_positives_and_all_negatives() -> None:
    """It changes nothing where they are as many, and the same negative told again changes nothing with it."""
    costs = [
        [mean(Margin(balanced=balanced), *triple(0.5, *negatives)).item() for negatives in ((0.4,), (0.4,) * 9)]
        for balanced in (True, False)
    ]
    assert costs[0] == pytest.approx([(0.5**2 / 2 + 0.6**2 / 2) / 2] * 2)
    assert costs[1] == pytest.approx([(0.5**2 / 2 + 0.6**2 / 2) / 2, (0.5**2 / 2 + 9 * 0.6**2 / 2) / 10])


def test_hard_pairs_are_those_in_a_wrong_order() -> None:
    hard = Margin(hard=True, balanced=False)
    assert int(hard(*triple(0.3, 0.4, 0.5)).count) == 0
    q, k, relation = triple(0.45, 0.4, 0.5)
    term = hard(q, k, relation)
    assert int(term.count) == 2
    assert float(term.total) == pytest.approx(0.45**2 / 2 + 0.6**2 / 2)


def test_the_bias_makes_up_for_the_number_of_negatives() -> None:
    """At the start, among 4,096 pairs, positives and not the many negatives make the loss, as in the paper."""
    z = Embeddings(torch.randn(64, 512), Origin(torch.arange(64), torch.zeros(64).long()))
    k = moved(z, 0, 1)
    part: Any = Sigmoid().build()
    assert {name for name, _ in part.named_parameters()} == {"log", "bias"}
    whole, pulled = (
        mean(Sigmoid(), z, k, relation, part).item()
        for relation in (SameItem()(z, k), SameItem()(z, k).only_positives())
    )
    assert pulled > 0.95 * whole


def test_uniformity_counts_pairs_of_one_view_only() -> None:
    """Two views that fall on each other are no reason to push, and a lone view is none to fail."""
    z = pairs(8)
    same = Embeddings(torch.cat([z.vector[:8], z.vector[:8]]), z.origin)
    one = same[:8]
    objective = AlignUniform(alignment=0)
    values = [mean(objective, x, x, SameItem()(x, x)).item() for x in (same, one, same[:9])]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)
    assert -8 < values[0] < 0


def test_cycles_vanish_when_geometries_agree_however_far_apart_partners_are() -> None:
    """A rotation between modalities keeps all distances within them; one of 180 degrees those across, too."""
    z = pairs(8)[:8].detach()
    turned = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q
    alone = InfoNCE(temperature=0.1)
    for turn, cross in ((turned, 1), (-torch.eye(16, dtype=torch.float64), 0)):
        k = moved(Embeddings(z.vector @ turn, z.origin), 0, 1)
        relation = SameItem()(z, k)
        left = [
            mean(CyCLIP(contrast=alone, in_modal=a, cross_modal=b), z, k, relation) - mean(alone, z, k, relation)
            for a, b in ((1, 0), (0, 1))
        ]
        assert left[0].item() == pytest.approx(0, abs=1e-12)
        assert (left[1].item() > 0.1) == bool(cross)


def test_recipes_say_no_to_nonsense() -> None:
    for tree in (
        {"kind": "Triplet", "mining": "easy"},
        {"kind": "Triplet", "margin": -1},
        {"kind": "Margin", "margin": 0},
        {"kind": "Margin", "distance": "manhattan"},
        {"kind": "AlignUniform", "t": 100},
        {"kind": "Sigmoid", "temperature": 0},
        {"kind": "CyCLIP", "contrast": "NoSuch"},
    ):
        with pytest.raises(ValueError, match=str(list(tree)[1])):
            Objective.of(tree)
