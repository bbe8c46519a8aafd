"""Negatives weighed by earlier vectors, heads that are asked one after another, and vectors kept apart from others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VECTOR, Shell, images, in_two, lines
from torch import Tensor
from torch.nn import functional as F

from likeness.encoders import Residual
from likeness.engine import Engine, shared_mean
from likeness.errors import WrongCall
from likeness.methods import Method, MoCo, SimCLR
from likeness.objectives import (
    Align,
    Cascade,
    Decorrelated,
    Decoupled,
    HardNegatives,
    InfoNCE,
    Objective,
    Sigmoid,
    Swapped,
    VICReg,
    both_ways,
)
from likeness.objectives.decorrelated import whitened
from likeness.relations import Pairing, Relation, SameContent, SameItem, SameLabel, SoftNegatives, Transported
from likeness.relations.base import tiles
from likeness.sources import read
from likeness.space import Space
from likeness.training import SGD, Descent, Learner
from likeness.views import Embeddings, Origin, gather

NAN = float("nan")
TAU, HEAT = 0.5, 0.1  # of the objective, of the earlier vectors
CPU = torch.device("cpu")


def rows(items: int = 12, view: tuple[int, ...] = (0, 1), seed: int = 0, unknown: tuple[int, ...] = ()) -> Embeddings:
    """Views of items that have labels by turns, and an earlier vector each but for those that are unknown."""
    source = torch.Generator().manual_seed(seed)
    item, views = torch.arange(items).repeat(len(view)), torch.tensor(view).repeat_interleave(items)
    vector = torch.randn(len(item), 8, generator=source, dtype=torch.float64)
    earlier = torch.randn(40, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)[:items]
    earlier[list(unknown)] = NAN
    known = {"label": (item % 4).float(), "vector": earlier.repeat(len(view), 1)}
    return Embeddings(vector.requires_grad_(), Origin(item, views, known))


def weighed(q: Embeddings, k: Embeddings, whole: Relation, heat: float = HEAT) -> Tensor:
    """The table of weights as its definition has it."""
    target, weight = (x.double() for x in whole.dense())
    a, b = q.origin.known["vector"], k.origin.known["vector"]
    told = ~(a.isnan().any(1)[:, None] | b.isnan().any(1))
    soft = ((F.cosine_similarity(a[:, None], b, dim=2) - 1) / heat).exp()
    rival = (target == 0) & (weight > 0) & told
    share = soft.nan_to_num() * rival
    mean = share.sum(1, keepdim=True) / rival.sum(1, keepdim=True)
    return torch.where(rival, soft / mean, weight)


WRAPPED: dict[str, Pairing] = {"item": SameItem(), "label": SameLabel(), "content": SameContent()}


@pytest.mark.parametrize("unknown", [(), (3, 5)], ids=["all known", "some unknown"])
@pytest.mark.parametrize("name", WRAPPED)
def test_negatives_weigh_as_earlier_vectors_say(name: str, unknown: tuple[int, ...]) -> None:
    z, other = rows(unknown=unknown), rows(20, view=(2,), seed=1)
    for q, k in ((z, z), (z, other), (other, z), (z[torch.arange(0, 24, 3)], z)):
        whole = WRAPPED[name](q, k)
        relation = SoftNegatives(pairing=WRAPPED[name])(q, k)
        target, weight = relation.dense()
        assert target.equal(whole.dense()[0])
        torch.testing.assert_close(weight, weighed(q, k, whole))
        rival = (target == 0) & (weight > 0)
        torch.testing.assert_close((weight * rival).sum(1), rival.sum(1).double())  # one in the mean
        torch.testing.assert_close(weight[target > 0], whole.dense()[1][target > 0].double())
        assert not relation.own
        assert relation.totals().equal(whole.totals())


def test_tiles_and_compositions_are_the_table() -> None:
    z, past = rows(), rows(20, view=(-1,), seed=1)
    soft = SoftNegatives()
    for relation in (
        soft(z, z),
        soft(z, z).T,
        soft(z, z).only_negatives(),
        soft(z, past).only_positives() | soft(z, past),
        SoftNegatives(pairing=SameLabel())(z, past),
        SoftNegatives(pairing=Transported())(z[:12], past),
    ):
        target, weight = relation.dense()
        assert (weight[target > 0] > 0).all()
        for there, across in tiles(relation.shape, 7):
            for whole, part in zip((target, weight), relation.block(there, across), strict=True):
                torch.testing.assert_close(part, whole[there, across])
            alone = relation.weights(there, across)
            alone = torch.ones_like(weight[there, across]) if alone is None else alone
            torch.testing.assert_close(alone.double(), weight[there, across].double())


def test_nothing_is_held_whole_and_the_row_mean_is_found_in_tiles() -> None:
    """700 rows are more than a tile; the mean over all of them is still one."""
    z = rows(40)
    place = torch.arange(700) % 40
    many = Embeddings(z.vector[place].detach(), replace(z.origin[place], item=torch.arange(700)))
    relation = SoftNegatives()(many, many)
    weight = torch.cat([relation.weights(there, slice(0, 700)) for there in (slice(0, 400), slice(400, 700))])
    torch.testing.assert_close(weight.sum(1), torch.full((700,), 699.0).double())


def test_it_does_not_matter_which_side_asks() -> None:
    """Each side's queries have weights of mean one of their own: what contrasts both ways is told so by `T`."""
    a, b = rows(), rows(20, view=(2,), seed=1)
    torch.testing.assert_close(SoftNegatives()(a, b).T.dense()[1], SoftNegatives()(b, a).dense()[1])


def test_unlike_negatives_are_left_out_before_numbers_overflow() -> None:
    z = rows()
    weight = SoftNegatives(temperature=1e-3)(z, z).dense()[1]
    assert weight.isfinite().all()
    torch.testing.assert_close(weight.sum(1), torch.full((24,), 23.0).double())


def test_precision_and_gradients() -> None:
    z = rows()
    half = Embeddings(z.vector, replace(z.origin, known={"vector": z.origin.known["vector"].bfloat16()}))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = SoftNegatives()(half, half).dense()[1]
    assert weight.dtype == torch.float32
    rounded = Embeddings(z.vector, replace(z.origin, known={"vector": half.origin.known["vector"].double()}))
    torch.testing.assert_close(weight.double(), weighed(rounded, rounded, SameItem()(z, z)), rtol=1e-4, atol=1e-5)
    asked = Embeddings(z.vector, replace(z.origin, known={"vector": z.vector}))
    assert not SoftNegatives()(asked, asked).dense()[1].requires_grad


def test_without_vectors() -> None:
    z = rows()
    bare = Embeddings(z.vector, Origin(z.origin.item, z.origin.view))
    for q, k in ((bare, bare), (z, bare), (bare, z)):
        with pytest.raises(
            WrongCall, match=r"SoftNegatives weighs by vectors: .*vectors=FILE, say vectors=raw, or train"
        ):
            SoftNegatives()(q, k)
    with pytest.raises(WrongCall, match="Decorrelated keeps away from vectors"):
        Decorrelated()(bare, bare, SameItem()(bare, bare))
    lost = rows(unknown=tuple(range(12)))
    assert SoftNegatives()(lost, lost).dense()[1].equal(SameItem()(lost, lost).dense()[1].double())
    term, plain = (o(lost, lost, SameItem()(lost, lost)) for o in (Decorrelated(), InfoNCE(temperature=0.2)))
    torch.testing.assert_close(term.total, plain.total / plain.count)


def test_training_progress_reaches_the_wrapped_pairing() -> None:
    late = SoftNegatives(pairing=Transported(start=0.5), temperature=0.3)
    assert late.at(0.1) == SoftNegatives(pairing=SameContent(), temperature=0.3)
    assert late.at(0.6) == late


# Objectives that read weights -----------------------------------------------------------------------------------------


def mean(objective: Objective, q: Embeddings, k: Embeddings, relation: Relation) -> Tensor:
    term = objective(q, k, relation, objective.build())
    return term.total / term.count


def cosines(x: Tensor) -> Tensor:
    x = x.detach()
    return F.cosine_similarity(x[:, None], x, dim=2)


def test_infonce_is_its_formula() -> None:
    """loss_i = -s_ip / tau + log(exp(s_ip / tau) + sum_j exp(s_ij / tau + log w_ij))."""
    z = rows()
    cosine, weight, found = cosines(z.vector), weighed(z, z, SameItem()(z, z)), []
    for i in range(24):
        p = (i + 12) % 24
        others = [j for j in range(24) if j not in (i, p)]
        rivals = sum(math.exp(cosine[i, j] / TAU + math.log(weight[i, j])) for j in others)
        found.append(-cosine[i, p] / TAU + math.log(math.exp(cosine[i, p] / TAU) + rivals))
    value = mean(InfoNCE(temperature=TAU), z, z, SoftNegatives()(z, z))
    torch.testing.assert_close(value.detach(), torch.stack(found).mean(), rtol=1e-12, atol=0)
    assert abs(float((value - mean(InfoNCE(temperature=TAU), z, z, SameItem()(z, z))).detach())) > 0.01


def test_hard_negatives_are_the_formula_of_colour_weights() -> None:
    """softplus(log N - s_ip / tau), log N = LSE((1 + beta) s / tau + a) - LSE(beta s / tau + a) + log(2 B - 2)."""
    z, beta = rows(), 1.0
    cosine = cosines(z.vector)
    a = (cosines(z.origin.known["vector"]) - 1) / 0.3
    found = []
    for i in range(24):
        p = (i + 12) % 24
        j = [j for j in range(24) if j not in (i, p)]
        s = cosine[i, j] / TAU
        rivals = torch.logsumexp((1 + beta) * s + a[i, j], 0) - torch.logsumexp(beta * s + a[i, j], 0) + math.log(22)
        found.append(F.softplus(rivals - cosine[i, p] / TAU))
    objective = HardNegatives(temperature=TAU, beta=beta, prior=0)
    value = mean(objective, z, z, SoftNegatives(temperature=0.3)(z, z))
    torch.testing.assert_close(value.detach(), torch.stack(found).mean(), rtol=1e-12, atol=0)


WEIGHING: dict[str, Callable[[int], Objective]] = {
    "InfoNCE": lambda tile: InfoNCE(temperature=0.2, tile=tile),
    "sharp": lambda tile: InfoNCE(temperature=0.01, tile=tile),
    "Decoupled": lambda tile: Decoupled(temperature=0.2, tile=tile),
    "HardNegatives": lambda tile: HardNegatives(temperature=0.2, tile=tile),
    "Sigmoid": lambda tile: Sigmoid(tile=tile),
    "Cascade": lambda tile: Cascade(objective=InfoNCE(temperature=0.2, tile=tile)),
}


@pytest.mark.parametrize("name", WEIGHING)
def test_streaming_is_dense(name: str) -> None:
    z, past = rows(), rows(20, view=(-1,), seed=1)
    q, k = z[:12], Embeddings.cat(z[12:], past)
    queued = SoftNegatives()(q, z[12:]).only_positives() | SoftNegatives()(q, past)
    cases = [(z, z, SoftNegatives()(z, z)), (z, z, SoftNegatives(pairing=SameLabel())(z, z)), (q, k, queued)]
    for one, other, relation in cases:
        values = [mean(WEIGHING[name](tile), one, other, relation) for tile in (4096, 5)]
        slopes = [torch.autograd.grad(value, z.vector, retain_graph=True)[0] for value in values]
        torch.testing.assert_close(*values, rtol=1e-11, atol=0)
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)


OBJECTIVES: dict[str, tuple[Pairing, Objective]] = {
    "soft": (SoftNegatives(), InfoNCE(temperature=0.2)),
    "soft, of labels": (SoftNegatives(pairing=SameLabel()), InfoNCE(temperature=0.2)),
    "cascade": (SameItem(), Cascade(pieces=4)),
    "soft cascade": (SoftNegatives(), Cascade(objective=HardNegatives(temperature=0.2, learned=True))),
    "decorrelated": (SameItem(), Decorrelated(components=3)),
    "decorrelated statistics": (SameItem(), Decorrelated(objective=VICReg(), components=3)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_of_rows_and_names_of_items_mean_nothing(name: str) -> None:
    pairing, objective = OBJECTIVES[name]
    z, order = rows(unknown=(4,)), torch.randperm(24)
    expected = mean(objective, z, z, pairing(z, z))
    renamed = replace(z.origin, item=10**12 + 17 * torch.randperm(12).repeat(2))
    for other in (z[order], Embeddings(z.vector, renamed)):
        torch.testing.assert_close(mean(objective, other, other, pairing(other, other)), expected)


# Heads one after another ----------------------------------------------------------------------------------------------


def test_a_cascade_asks_each_piece_for_what_those_before_confuse() -> None:
    z, inner = rows(), InfoNCE(temperature=TAU)
    found, before = [], []
    for n in range(4):
        piece = Embeddings(z.vector[:, 2 * n : 2 * n + 2], z.origin)
        relation: Relation = SameItem()(z, z)
        if before:
            earlier = torch.cat(before, 1)
            told = Embeddings(z.vector, replace(z.origin, known={"vector": earlier}))
            relation = SoftNegatives(temperature=0.3)(told, told)
        found.append(mean(inner, piece, piece, relation))
        before.append(F.normalize(piece.vector.detach(), dim=1))
    value = mean(Cascade(objective=inner, pieces=4, temperature=0.3), z, z, SameItem()(z, z))
    torch.testing.assert_close(value, torch.stack(found).mean())
    slope, expected = (torch.autograd.grad(v, z.vector)[0] for v in (value, torch.stack(found).mean()))
    torch.testing.assert_close(slope, expected)  # no piece is moved by what it does to the weights of those after it


def test_a_cascade_of_whole_vectors_only() -> None:
    z = rows()
    with pytest.raises(WrongCall, match="vectors of 8 numbers cannot be cut into 3 pieces"):
        Cascade(pieces=3)(z, z, SameItem()(z, z))
    with pytest.raises(WrongCall, match="VICReg weighs no negatives"):
        Cascade(objective=VICReg())
    part: Any = Cascade(objective=InfoNCE(learned=True), pieces=4).build()
    assert len(part) == 4
    assert Cascade().build() is None
    assert Cascade(objective=InfoNCE(temperature=0.1)).chance(40) == InfoNCE(temperature=0.1).chance(40)


# Kept apart from earlier vectors --------------------------------------------------------------------------------------


def test_the_penalty_is_the_mean_squared_correlation_with_principal_components() -> None:
    z, few = rows(40, unknown=(0, 1)), 5
    known = torch.arange(80) % 40 > 1
    x, y = F.normalize(z.vector[known], dim=1).detach().numpy(), z.origin.known["vector"][known].numpy()
    import numpy as np

    left, sizes, _ = np.linalg.svd(y - y.mean(0), full_matrices=False)
    expected = [
        (np.corrcoef(x[:, d], left[:, c])[0, 1] * (sizes[c] ** 2 / (sizes[c] ** 2 + 1e-3 * sizes[0] ** 2)) ** 0.5) ** 2
        for d in range(8)
        for c in range(few)
    ]
    plain = mean(InfoNCE(temperature=0.2), z, z, SameItem()(z, z))
    value = mean(Decorrelated(weight=3.0, components=few), z, z, SameItem()(z, z))
    assert float((value - plain).detach()) == pytest.approx(3 * np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("shape", [(60, 7), (20, 50)])
def test_whitened_vectors_are_uncorrelated(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    white = whitened(x, 5)
    torch.testing.assert_close(white.T @ white / len(x), torch.eye(5).double(), rtol=0, atol=2e-3)
    equal = torch.nn.functional.normalize(torch.ones(9, 4) + 1e-8 * torch.arange(36.0).view(9, 4), dim=1)
    assert whitened(equal, 2).shape == (9, 0)  # equal rows have no components, but for rounding
    assert whitened(x[:0], 0).shape == (0, 0)


def test_views_of_an_item_tell_no_more_than_one_of_it() -> None:
    source = torch.Generator().manual_seed(0)
    old, views = torch.randn(12, 20, generator=source).repeat(8, 1), torch.arange(8).repeat_interleave(12)
    origin = Origin(torch.arange(12).repeat(8), views, {"vector": old})
    z = Embeddings(torch.randn(96, 6, generator=source), origin)
    found = [mean(Decorrelated(components=many), z, z, SameItem()(z, z)) for many in (3, 32)]
    assert found[0] == found[1]


def test_the_penalty_removes_what_earlier_vectors_say() -> None:
    """Descending on it alone, a linear map forgets the earlier vector and keeps the rest."""
    source = torch.Generator().manual_seed(0)
    old, new = torch.randn(256, 3, generator=source), torch.randn(256, 3, generator=source)
    origin = Origin(torch.arange(256), torch.zeros(256).long(), {"vector": old})
    map_ = torch.randn(6, 3, generator=source).requires_grad_()
    move = torch.optim.Adam([map_], lr=0.03)

    def read(what: Tensor) -> float:
        unit = F.normalize(torch.cat([old, new], 1) @ map_, dim=1).detach()
        centred = unit - unit.mean(0)
        fitted = what - centred @ torch.linalg.lstsq(centred, what).solution
        return 1 - float(fitted.square().sum() / (what - what.mean(0)).square().sum())

    before = read(old)
    for _ in range(80):
        z = Embeddings(torch.cat([old, new], 1) @ map_, origin)
        term = Decorrelated(objective=InfoNCE(temperature=1.0))(z, z, SameItem()(z, z))
        move.zero_grad()
        term.total.backward()
        move.step()
    assert before > 0.3
    assert read(old) < 0.01
    assert read(new) > 0.7


def test_a_cascade_of_what_weighs_no_negatives_is_refused() -> None:
    with pytest.raises(WrongCall, match="Align weighs no negatives"):
        Cascade(objective=Align())


def test_scores_of_clusters_are_refused() -> None:
    with pytest.raises(WrongCall, match="Swapped reads assignments"):
        Decorrelated(objective=Swapped())
    assert Decorrelated(objective=VICReg()).reads == "statistics"


# Queues ---------------------------------------------------------------------------------------------------------------

FACTS = {"role": "image", "channels": 3, "items": 40, "encoder": Residual(widths=(6, 8))}


def descent(vector_dim: int | None = VECTOR) -> Descent:
    torch.manual_seed(0)
    method = MoCo(projection=(16, 8), queue=20, pairing=SoftNegatives(), objective=InfoNCE(temperature=0.2))
    learner = Learner(method.filled({**FACTS, "vector_dim": vector_dim}).filled(FACTS))
    return Descent(learner, SGD(learning_rate=0.1), Engine(CPU), 8)


def taken(descent: Descent, steps: range) -> list[float]:
    return [float(descent.take({"image": images(8, seed=n)}, n / 8)[0]["contrast"]) for n in steps]


def test_a_queue_remembers_vectors_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, one = descent(), descent()
    expected = taken(whole, range(8))
    begun, state = taken(one, range(3)), one.state(3)
    two = descent()
    two.restore(state)
    assert begun + taken(two, range(3, 8)) == expected
    now, then = whole.learner.state_dict(), two.learner.state_dict()
    assert all(value.nan_to_num().equal(then[name].nan_to_num()) for name, value in now.items())
    queue: Any = two.learner.parts.queue
    told = images(8).origin
    assert queue.read().origin.known["vector"].equal(told.known["vector"][queue.read().origin.item])


def test_a_queue_that_remembers_no_vectors() -> None:
    with pytest.raises(WrongCall, match="weighs by vectors"):
        taken(descent(vector_dim=None), range(1))
    assert "parts.queue.known" not in descent(vector_dim=None).learner.state_dict()
    assert descent().learner.state_dict()["parts.queue.known"].isnan().all()  # nothing is known of what is not there


def test_a_run_with_stored_vectors(shapes: Path, shell: Shell) -> None:
    """The command: what a file knows of the pictures reaches batches and a queue."""
    ids = read(str(shapes)).ids
    Space.of(torch.randn(len(ids), 6).numpy(), ids=ids).save(shell.cwd / "earlier.parquet")
    small = ["encoder=residual", "widths=[8,12]", "projection=[16,8]", "precision=float32", "workers=1", "batch=16"]
    words = ["train", shapes, "moco", "pairing=SoftNegatives", *small, "steps=4"]
    assert "SoftNegatives weighs by vectors" in shell(*words, "--out", "bare").failed(2)
    done = shell(*words, "vectors=earlier.parquet", "--out", "run")
    assert done.code == 0, done.err
    assert all(math.isfinite(line["loss"]) for line in lines(shell.cwd / "run"))


# Two processes --------------------------------------------------------------------------------------------------------


def asked(name: str, z: Embeddings) -> Tensor:
    """This process's part of the loss of all rows."""
    pairing, objective = OBJECTIVES[name]
    keys = gather(z)
    term = objective(z, keys, pairing(z, keys), objective.build())
    return shared_mean(term.total, term.count.to(term.total))


def clip(z: Embeddings) -> Tensor:
    """Both views ask each other, of which one process makes one table."""
    one, other = z[z.origin.view == 0], z[z.origin.view == 1]
    term = both_ways(InfoNCE(temperature=0.2), one, other, SoftNegatives())
    return shared_mean(term.total, term.count.to(term.total))


def slopes(share: Callable[[Embeddings], Embeddings]) -> dict[str, tuple[Tensor, Tensor]]:
    found = {}
    for name in [*OBJECTIVES, "both ways"]:
        whole = rows(unknown=(4,))
        value = clip(share(whole)) if name == "both ways" else asked(name, share(whole))
        found[name] = (value.detach(), torch.autograd.grad(value, whole.vector)[0])
    return found


def half(rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    return slopes(lambda z: z[(z.origin.item < 5) == (rank == 0)])


def test_two_processes_equal_one(tmp_path: Path) -> None:
    both = in_two(half, tmp_path)
    for name, (value, slope) in slopes(lambda z: z).items():
        torch.testing.assert_close((both[0][name][0] + both[1][name][0]) / 2, value, rtol=1e-11, atol=0)
        torch.testing.assert_close((both[0][name][1] + both[1][name][1]) / 2, slope, rtol=1e-9, atol=1e-13)


def test_they_are_recipes() -> None:
    method = SimCLR(pairing=SoftNegatives(pairing=SameLabel()), objective=Cascade(objective=HardNegatives()))
    assert Method.of(method.tree()) == method
    assert Pairing.of("softnegatives") == SoftNegatives()
