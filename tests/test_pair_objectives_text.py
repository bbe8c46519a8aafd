"""Objectives on scored and labelled pairs, and on prefixes: formulas pair by pair, values of sentence-transformers."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_objectives import Largest, mean, published
from torch import Tensor, nn
from torch.nn import functional as F

from likeness.errors import WrongCall
from likeness.methods import SimCLR
from likeness.objectives import (
    Classify,
    CoSENT,
    Decoupled,
    InfoNCE,
    Matryoshka,
    Objective,
    Regress,
    Sigmoid,
    SogCLR,
    Swapped,
    Triplet,
    VICReg,
    both_ways,
    similarity,
)
from likeness.relations import SameItem
from likeness.views import Embeddings, Origin

NAN = float("nan")
CLASSES, WIDTH = 3, 16
OBJECTIVES: dict[str, Objective] = {
    "CoSENT": CoSENT(),
    "CoSENT mild": CoSENT(scale=3),
    "Regress": Regress(),
    "Classify": Classify(classes=CLASSES, width=WIDTH),
}
every = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sentences(items: int = 12, dtype: torch.dtype = torch.float64, known: bool = True) -> tuple[Embeddings, Embeddings]:
    """Pairs with scores, of which several are equal, and labels; in another order each. Some lack a partner, a score
    or a label."""
    source = torch.Generator().manual_seed(0)
    score = torch.randint(6, (items,), generator=source) / 5
    label = torch.randint(CLASSES, (items,), generator=source).float()
    score[3], label[5] = NAN, NAN
    sides = []
    for view in (0, 1):
        item = torch.randperm(items, generator=source)
        about = {"score": score[item], "label": label[item]} if known else {}
        vector = torch.randn(items, WIDTH, generator=source, dtype=torch.float64)[item] + 0.5
        sides.append(Embeddings(vector.to(dtype), Origin(item, torch.full((items,), view), about)))
    q, k = sides
    lone, negative = q.origin.item != 7, k.origin.item == 8
    k = Embeddings(k.vector, Origin(k.origin.item.masked_fill(negative, 999), k.origin.view, k.origin.known))
    q = q[lone]
    return (Embeddings(q.vector.requires_grad_(), q.origin), Embeddings(k.vector.requires_grad_(), k.origin))


def built(objective: Objective, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    part = objective.build()
    return None if part is None else part.to(dtype)


def loss(objective: Objective, q: Embeddings, k: Embeddings, part: Any) -> Tensor:
    term = objective(q, k, SameItem()(q, k), part)
    return term.total / term.count.clamp_min(1)


# --- formulas, pair by pair -------------------------------------------------------------------------------------------


def pairs_of(q: Embeddings, k: Embeddings, name: str) -> list[tuple[int, int, float]]:
    known = q.origin.known[name].tolist()
    return [
        (n, m, known[n])
        for n, item in enumerate(q.origin.item.tolist())
        for m, other in enumerate(k.origin.item.tolist())
        if item == other and not math.isnan(known[n])
    ]


def by_loops(one: Objective, q: Embeddings, k: Embeddings, part: Any) -> float:
    cosine, total = similarity(q, k).tolist(), 0.0
    if isinstance(one, Classify):
        told = pairs_of(q, k, "label")
        weight, bias = part.weight.tolist(), part.bias.tolist()
        for n, m, label in told:
            u, v = q.vector[n].tolist(), k.vector[m].tolist()
            x = [*u, *v, *(abs(a - b) for a, b in zip(u, v, strict=True))]
            logits = [sum(w * f for w, f in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
            total += math.log(sum(map(math.exp, logits))) - logits[int(label)]
        return float(total / len(told))
    scored = [(cosine[n][m], score) for n, m, score in pairs_of(q, k, "score")]
    assert len({score for _, score in scored}) < len(scored) == 9  # of 12: two lack a partner, one its score
    if isinstance(one, CoSENT):
        return math.log1p(sum(math.exp(one.scale * (d - c)) for c, s in scored for d, t in scored if s > t))
    return float(sum((c - s) ** 2 for c, s in scored) / len(scored))


@every
def test_formulas_pair_by_pair(name: str) -> None:
    q, k = sentences()
    part = built(OBJECTIVES[name])
    assert loss(OBJECTIVES[name], q, k, part).item() == pytest.approx(by_loops(OBJECTIVES[name], q, k, part), rel=1e-6)


def test_several_views_are_several_pairs() -> None:
    """Two views on one side, one on the other; a view is no pair with itself."""
    q, k = sentences()
    twice = Embeddings.cat(q, Embeddings(q.vector + 0.1, Origin(q.origin.item, q.origin.view + 5, q.origin.known)))
    assert int(Regress()(twice, k, SameItem()(twice, k)).count) == 18
    assert int(Regress()(q, q, SameItem()(q, q)).count) == 0
    assert int(Regress()(twice, twice, SameItem()(twice, twice)).count) == 20


# --- sentence-transformers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.sentence_transformer import losses
    return losses


class Given(nn.Module):
    """Stands for a model: vectors are given instead of sentences."""

    device = torch.device("cpu")

    def forward(self, vector: dict[str, Tensor]) -> dict[str, Tensor]:
        return vector


def views(*vectors: Tensor, **known: Tensor) -> list[Embeddings]:
    rows = torch.arange(len(vectors[0]))
    return [Embeddings(x, Origin(rows, torch.full_like(rows, n), known)) for n, x in enumerate(vectors)]


def vectors(rows: int = 10, sides: int = 2) -> list[Tensor]:
    return list(torch.randn(sides, rows, WIDTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64))


def test_scores_as_in_sentence_transformers(theirs: Any) -> None:
    a, b = vectors()
    score = torch.tensor([0, 0.2, 0.2, 0.4, 0.9, 1, 1, 0.5, 0.3, 0.2], dtype=torch.float64)
    q, k = views(a, b, score=score)
    for ours, loss_of in ((CoSENT(scale=20), theirs.CoSENTLoss), (Regress(), theirs.CosineSimilarityLoss)):
        expected = loss_of(Given()).compute_loss_from_embeddings([a, b], score)
        assert mean(ours, q, k, SameItem()(q, k)).item() == pytest.approx(expected.item(), rel=1e-7)  # float32


def test_softmax_head_as_in_sentence_transformers(theirs: Any) -> None:
    a, b = vectors()
    label = torch.arange(10) % CLASSES
    q, k = views(a, b, label=label.double())
    their = theirs.SoftmaxLoss(Given(), WIDTH, CLASSES).double()
    expected = their([{"sentence_embedding": a}, {"sentence_embedding": b}], label)
    found = mean(Classify(classes=CLASSES, width=WIDTH), q, k, SameItem()(q, k), their.classifier)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_ranking_as_in_sentence_transformers(theirs: Any) -> None:
    """With and without hard negatives, and both ways."""
    a, b, c, d = vectors(sides=4)
    anchor, positive, *negatives = views(a, b, c, d)
    objective, there = InfoNCE(temperature=0.05), theirs.MultipleNegativesRankingLoss(Given())
    expected = there.compute_loss_from_embeddings([a, b], None)
    assert mean(objective, anchor, positive, SameItem()(anchor, positive)).item() == pytest.approx(expected.item())
    far = [Embeddings(n.vector, Origin(n.origin.item + 100 * i, n.origin.view)) for i, n in enumerate(negatives, 1)]
    keys = Embeddings.cat(positive, *far)
    expected = there.compute_loss_from_embeddings([a, b, c, d], None)
    assert mean(objective, anchor, keys, SameItem()(anchor, keys)).item() == pytest.approx(expected.item())
    directions = ("query_to_doc", "doc_to_query")
    each = theirs.MultipleNegativesRankingLoss(Given(), directions=directions, partition_mode="per_direction")
    term = both_ways(objective, anchor, positive, SameItem())
    expected = each.compute_loss_from_embeddings([a, b], None)
    assert (term.total / term.count).item() == pytest.approx(expected.item())


def test_hard_negatives_ask_for_nothing_back() -> None:
    """Asked both ways, they are keys of anchors and no queries, as they have no partner."""
    a, b, c = vectors(sides=3)
    anchor, positive, negative = views(a, b, c)
    far = Embeddings(c, Origin(negative.origin.item + 100, negative.origin.view))
    keys = Embeddings.cat(positive, far)
    term = both_ways(InfoNCE(), anchor, keys, SameItem())
    there, back = (InfoNCE()(x, y, SameItem()(x, y)) for x, y in ((anchor, keys), (positive, anchor)))
    assert int(term.count) == 20
    assert term.total.item() == pytest.approx((there.total + back.total).item())


# --- laws -------------------------------------------------------------------------------------------------------------


@every
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    q, k = sentences()
    part = built(OBJECTIVES[name])
    learnt = () if part is None else tuple(part.parameters())

    def of(one: Tensor, two: Tensor, *_: Tensor) -> Tensor:
        return loss(OBJECTIVES[name], Embeddings(one, q.origin), Embeddings(two, k.origin), part)

    assert torch.autograd.gradcheck(of, (q.vector, k.vector, *learnt), fast_mode=True)


@every
def test_order_and_numbering_do_not_matter(name: str) -> None:
    q, k = sentences()
    part, names = built(OBJECTIVES[name]), torch.randperm(10**6)[: 10**3] + 2**60
    values = [loss(OBJECTIVES[name], q, k, part)]
    for seed in (1, 2):
        torch.manual_seed(seed)
        other = [
            Embeddings(z.vector, Origin(names[z.origin.item % 1000], z.origin.view, z.origin.known))[
                torch.randperm(len(z))
            ]
            for z in (q, k)
        ]
        values.append(loss(OBJECTIVES[name], other[0], other[1], part))
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-12)
    assert values[2].item() == pytest.approx(values[0].item(), rel=1e-12)


@every
def test_autocast_changes_nothing_and_half_is_lifted(name: str) -> None:
    q, k = sentences(dtype=torch.float32)
    part = built(OBJECTIVES[name], torch.float32)
    found = []
    for ways in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=ways):
            value = loss(OBJECTIVES[name], q, k, part)
            found.append((value, *torch.autograd.grad(value, (q.vector, k.vector))))
    assert all(map(torch.equal, *found))
    low = [Embeddings(z.vector.bfloat16(), z.origin) for z in (q, k)]
    assert loss(OBJECTIVES[name], low[0], low[1], part).dtype == torch.float32


@every
@pytest.mark.parametrize(("queries", "keys"), [(0, 12), (11, 0), (0, 0), (1, 12)])
def test_poor_batches_are_finite(name: str, queries: int, keys: int) -> None:
    """And all gradients come, so that no process waits for another."""
    q, k = sentences()
    part = built(OBJECTIVES[name])
    value = loss(OBJECTIVES[name], q[:queries], k[:keys], part)
    leaves = (q.vector, k.vector, *(() if part is None else part.parameters()))
    assert value.isfinite()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(value, leaves))


@every
def test_a_vector_that_is_no_number_is_seen(name: str) -> None:
    q, k = sentences()
    q = q.detach()
    row = int((q.origin.item == 0).nonzero())
    q.vector[row] = NAN
    assert loss(OBJECTIVES[name], q, k, built(OBJECTIVES[name])).isnan()


@every
def test_what_is_missing_is_named(name: str) -> None:
    q, k = sentences(known=False)
    column = "labels=COLUMN" if name == "Classify" else "a column named score"
    with pytest.raises(WrongCall, match=f"{OBJECTIVES[name].label()} learns from .*{column}"):
        loss(OBJECTIVES[name], q, k, built(OBJECTIVES[name]))


def test_pairs_without_any_order_ask_for_nothing() -> None:
    a, b = vectors()
    q, k = views(a, b, score=torch.full((10,), 0.5))
    assert mean(CoSENT(), q, k, SameItem()(q, k)).item() == 0


def test_cosent_makes_no_table_of_pairs() -> None:
    a = torch.randn(2, 2000, 2, requires_grad=True)
    q, k = views(a[0], a[1], score=torch.arange(2000) % 7 / 6)
    with Largest() as largest:  # type: ignore[no-untyped-call]
        mean(CoSENT(), q, k, SameItem()(q, k)).backward()
    assert largest.numbers <= a.numel()


def test_pairs_are_asked_once() -> None:
    """Of both ways: they are the same pairs, and a head that reads [u; v] knows which comes first."""
    q, k = sentences()
    for objective in OBJECTIVES.values():
        part = built(objective)
        term = both_ways(objective, q, k, SameItem(), part)
        assert (term.total / term.count).equal(loss(objective, q, k, part))


def test_methods_of_one_role_refuse_them() -> None:
    for objective in (*OBJECTIVES.values(), Matryoshka(objective=CoSENT())):
        with pytest.raises(ValueError, match=f"objective {objective.label()} reads pairs, for which SimCLR has no use"):
            SimCLR(objective=objective)


def test_a_head_must_know_its_size() -> None:
    for fields, said in (({"width": 4}, "labels=COLUMN"), ({"classes": 3}, "width=N")):
        with pytest.raises(WrongCall, match=said):
            Classify.of({"kind": "Classify", **fields}).build()
    assert Classify().filled({"classes": 3, "width": 4}) == Classify(classes=3, width=4)
    q, k = sentences()
    small = Classify(classes=3, width=4)
    with pytest.raises(WrongCall, match="vectors have 16 numbers, and Classify takes 4"):
        loss(small, q, k, built(small))
    assert small.chance(10) == pytest.approx(math.log(3))


def test_regression_learns_scores_and_order_learns_order() -> None:
    """On few points, by plain descent: cosines become the scores, or only sorted like them."""
    a, b = (x.float().requires_grad_() for x in vectors(8))
    score = torch.linspace(0, 1, 8)
    for objective in (Regress(), CoSENT()):
        one, two = a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
        descent = torch.optim.Adam([one, two], lr=0.1)
        for _ in range(100):
            q, k = views(one, two, score=score)
            descent.zero_grad()
            mean(objective, q, k, SameItem()(q, k)).backward()
            descent.step()
        cosine = F.cosine_similarity(one, two)
        assert cosine.argsort().equal(torch.arange(8))
        assert ((cosine - score).abs().max() < 0.01) == (objective == Regress())


# --- prefixes ---------------------------------------------------------------------------------------------------------


def cut(z: Embeddings, length: int) -> Embeddings:
    return Embeddings(z.vector[:, :length], z.origin)


@pytest.mark.parametrize(
    "inner",
    [
        InfoNCE(temperature=0.2),
        InfoNCE(temperature=0.2, tile=3),
        Decoupled(temperature=0.2),
        Triplet(mining="all"),
        VICReg(),
        CoSENT(),
        Classify(classes=CLASSES, width=WIDTH),
        Sigmoid(bias=-2.0),
    ],
    ids=repr,
)
def test_prefixes_are_asked_one_by_one(inner: Objective) -> None:
    """The weighted mean, whatever a length's own count is; each length has its own part."""
    q, k = sentences()
    dims, weights = (4, 8, 16), (1.0, 2.0, 5.0)
    objective = Matryoshka(objective=inner, dims=dims, weights=weights)
    part = built(objective)
    own: list[Any] = [None] * 3 if part is None else list(part)
    if part is not None:
        assert len({id(weight) for weight in part.parameters()}) == 3 * len(list(part[0].parameters()))
    each = [loss(inner, cut(q, d), cut(k, d), one) for d, one in zip(dims, own, strict=True)]
    expected = (torch.stack(each) * torch.tensor(weights)).sum() / 8
    found = loss(objective, q, k, part)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    leaves = (q.vector, *(() if part is None else part.parameters()))
    for one, two in zip(*(torch.autograd.grad(x, leaves) for x in (found, expected)), strict=True):
        torch.testing.assert_close(one, two)
    assert objective.reads == inner.reads
    assert objective.chance(10) == inner.chance(10)


def test_a_prefix_of_a_head_is_a_head_of_the_prefix() -> None:
    """Of each of its three blocks the first columns, as where weights are tied in Kusupati et al."""
    a, b = vectors()
    q, k = views(a[:, :4], b[:, :4], label=torch.arange(10).double() % 3)
    wide = built(Classify(classes=3, width=16))
    narrow = built(Classify(classes=3, width=4))
    narrow.bias.data.copy_(wide.bias)
    for block in range(3):
        narrow.weight.data[:, 4 * block : 4 * block + 4] = wide.weight.data[:, 16 * block : 16 * block + 4]
    values = [mean(Classify(), q, k, SameItem()(q, k), part).item() for part in (wide, narrow)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_lengths_that_are_not_named_are_halves() -> None:
    z = published()
    found = mean(Matryoshka(objective=InfoNCE()), z, z, SameItem()(z, z))
    named = mean(Matryoshka(objective=InfoNCE(), dims=(16, 8, 4, 2)), z, z, SameItem()(z, z))
    assert found.equal(named)


def test_each_length_remembers_for_itself() -> None:
    objective = Matryoshka(objective=SogCLR(items=8), dims=(4, 16))
    part, z = built(objective), published()
    mean(objective, z, z, SameItem()(z, z), part)
    for memory in part:
        memory.advance(0)
    assert part[0].log.isfinite().all()
    assert not part[0].log.equal(part[1].log)


def test_a_short_vector_learns_what_it_would_not_alone() -> None:
    """Trained on whole vectors, the first two numbers of eight place items badly; asked for, they do not."""
    found = []
    for objective in (InfoNCE(temperature=0.1), Matryoshka(objective=InfoNCE(temperature=0.1), dims=(8, 2))):
        torch.manual_seed(0)
        a, b = (torch.randn(24, 8, requires_grad=True) for _ in range(2))
        descent = torch.optim.Adam([a, b], lr=0.05)
        for _ in range(150):
            q, k = views(a, b)
            descent.zero_grad()
            mean(objective, q, k, SameItem()(q, k)).backward()
            descent.step()
        q, k = views(a.detach(), b.detach())
        found.append((similarity(cut(q, 2), cut(k, 2)).argmax(1) == torch.arange(24)).float().mean().item())
    assert found[1] > found[0] + 0.2


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"kind": "Matryoshka", "dims": []}, "dims"),
        ({"kind": "Matryoshka", "dims": [0]}, "dims"),
        ({"kind": "Matryoshka", "dims": [2, 4], "weights": [1]}, "2 numbers"),
        ({"kind": "Matryoshka", "dims": [2], "weights": [0]}, "not all 0"),
        ({"kind": "Matryoshka", "weights": [1, 1]}, "4 numbers"),
        ({"kind": "Matryoshka", "objective": "Swapped"}, "reads assignments"),
        ({"kind": "CoSENT", "scale": 0}, "scale"),
        ({"kind": "Classify", "classes": 0}, "classes"),
    ],
)
def test_recipes_say_no_to_nonsense(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongCall, match=said):
        Objective.of(tree)


def test_more_numbers_than_there_are() -> None:
    z = published()
    with pytest.raises(WrongCall, match="dims ask for 32 numbers, and vectors have 16"):
        mean(Matryoshka(objective=InfoNCE(), dims=(32, 8)), z, z, SameItem()(z, z))
    assert Swapped().reads == "assignments"


def test_recipes_survive_yaml() -> None:
    objective = Matryoshka(objective=Classify(classes=3, width=8), dims=(4, 8), weights=(1, 2))
    assert Objective.of(json.loads(json.dumps(objective.tree()))) == objective
