"""InfoNCE agrees with values others computed, with loops over the formula, and with itself in every form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from likeness.objectives import InfoNCE, Objective, similarity
from likeness.objectives.infonce import contrast
from likeness.relations import Relation, SameContent, SameItem, SameLabel, Transported
from likeness.relations.base import Pairs, Tile
from likeness.views import Embeddings, Origin

WHOLE, TILED = 4096, 16
Case = tuple[Embeddings, Embeddings, Relation]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Told(Relation):
    """A table, for what no pairing says: graded targets, weights that are neither 0 nor 1."""

    target: Tensor
    weight: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.target), self.target.shape[1]

    def block(self, rows: slice, columns: slice) -> Tile:
        return self.target[rows, columns], self.weight[rows, columns]

    def positives(self) -> Pairs | None:
        return None


def told(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Told:
    """Some rows without a positive, some without a rival, weights from 0.05 to 20."""
    source = torch.Generator().manual_seed(seed)
    target = torch.rand(rows, columns, generator=source) * (torch.rand(rows, columns, generator=source) < 0.2)
    weight = torch.randn(rows, columns, generator=source).exp().clamp(0.05, 20)
    weight *= torch.rand(rows, columns, generator=source) < 0.8
    target[::5], target[:, -1] = 0, 0
    weight[1::7] = 0
    return Told((target * (weight > 0)).to(dtype), weight.to(dtype))


def pairs(items: int, labels: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Embeddings:
    """Two views of each item, all first views before all second ones; one in eight has no label."""
    source = torch.Generator().manual_seed(seed)
    one = torch.randn(items, 16, generator=source, dtype=torch.float64)
    two = one + 1.5 * torch.randn(items, 16, generator=source, dtype=torch.float64)
    label = torch.randint(labels, (items,), generator=source).float()
    label[torch.arange(items) % 8 == 7] = torch.nan
    origin = Origin(torch.arange(items).repeat(2), torch.arange(2).repeat_interleave(items), {"label": label.repeat(2)})
    return Embeddings(torch.cat([one, two]).to(dtype).requires_grad_(), origin)


def captioned(z: Embeddings, seed: int = 0) -> Embeddings:
    """Each item accepts up to three of twelve captions, and each row shows one of them; some show none."""
    source, item = torch.Generator().manual_seed(seed), z.origin.item
    accepts = torch.randint(13, (int(item.max()) + 1, 3), generator=source)[item] * 2**40
    content = accepts.gather(1, torch.randint(3, (len(z), 1), generator=source))[:, 0]
    return Embeddings(z.vector, Origin(item, z.origin.view, {"content": content, "accepts": accepts}))


def moved(z: Embeddings, items: int, views: int) -> Embeddings:
    return Embeddings(z.vector, Origin(z.origin.item + items, z.origin.view + views, z.origin.known))


def mean(objective: Objective, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Tensor:
    term = objective(q, k, relation, part)
    return term.total / term.count


# --- values -----------------------------------------------------------------------------------------------------------


def published() -> Embeddings:
    """The vectors whose losses were computed with the authors' code: eight items, two views."""
    state = numpy.random.RandomState(0)
    one = state.randn(8, 16)
    both = torch.tensor(numpy.concatenate([one, one + 0.5 * state.randn(8, 16)]))
    label = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]).repeat(2)
    return Embeddings(both, Origin(torch.arange(8).repeat(2), torch.arange(2).repeat_interleave(8), {"label": label}))


@pytest.mark.parametrize("tile", [WHOLE, 5])
@pytest.mark.parametrize(
    ("temperature", "pairing", "expected"),
    [
        (0.5, SameItem(), 1.1701984563151901),  # SupContrast's SupConLoss, no labels, base temperature = temperature
        (0.07, SameItem(), 0.0004993505027882442),
        (0.1, SameItem(), 0.007026340136790186),  # CoMM's InfoNCE
        (0.5, SameLabel(), 2.5332524611449267),  # SupContrast's SupConLoss
        (0.07, SameLabel(), 9.736599385000906),
    ],
)
def test_values_that_others_computed(
    temperature: float, pairing: SameItem | SameLabel, expected: float, tile: int
) -> None:
    z = published()
    assert mean(InfoNCE(temperature=temperature, tile=tile), z, z, pairing(z, z)).item() == pytest.approx(
        expected, rel=1e-9
    )


def test_two_towers_give_clips_loss() -> None:
    z = published()
    a, b = z[:8], z[8:]
    both = [mean(InfoNCE(temperature=0.1), q, k, SameItem()(q, k)) for q, k in ((a, b), (b, a))]
    assert (both[0] + both[1]).item() / 2 == pytest.approx(0.0039009577551153913, rel=1e-9)  # open_clip, scale 10


def by_loops(q: Embeddings, k: Embeddings, relation: Relation, scale: float) -> tuple[float, int]:
    """The formula, pair by pair."""
    (target, weight), cosine, total, count = relation.dense(), similarity(q, k).detach(), 0.0, 0
    for n in range(len(q)):
        wanted, below = (
            float(target[n].sum()),
            sum(float(weight[n, m]) * math.exp(scale * float(cosine[n, m])) for m in range(len(k))),
        )
        if wanted > 0 and below > 0:
            above = sum(float(target[n, m]) * scale * float(cosine[n, m]) for m in range(len(k)))
            total, count = total + math.log(below) - above / wanted, count + 1
    return total, count


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tile", [WHOLE, 7])
def test_any_relation_against_loops(seed: int, tile: int) -> None:
    q, k = pairs(10, seed=seed), pairs(8, seed=seed + 10)
    relation = told(20, 16, seed)
    total, count = by_loops(q, k, relation, scale=4)
    term = InfoNCE(temperature=0.25, tile=tile)(q, k, relation)
    assert 0 < count < 20
    assert int(term.count) == count
    assert term.total.item() == pytest.approx(total, rel=1e-9)


def test_a_query_compared_alike_with_all_scores_chance() -> None:
    z = pairs(6)
    flat = Embeddings(torch.ones_like(z.vector), z.origin)
    for objective in (InfoNCE(), InfoNCE(tile=4), InfoNCE(temperature=0.001, tile=4)):
        assert mean(objective, flat, flat, SameItem()(flat, flat)).item() == pytest.approx(objective.chance(11) or 0)
    assert InfoNCE().chance(511) == pytest.approx(6.236, abs=1e-3)


# --- forms ------------------------------------------------------------------------------------------------------------


def forms(dtype: torch.dtype) -> dict[str, Callable[[], Case]]:
    """name -> queries, keys and relation of every way a streaming loss is taken."""
    z, other = pairs(40, dtype=dtype), pairs(30, dtype=dtype, seed=1)
    apart, queue = moved(other, 25, 2), moved(other, 25, -5)
    copy = Embeddings(z.vector, Origin(z.origin.item, z.origin.view, z.origin.known))
    branch = Embeddings(other.vector.repeat(2, 1)[:80], z.origin)  # another tower's embeddings of the same views
    half = z[torch.arange(80) % 2 == 0]
    both, said, told_of = Embeddings.cat(z, queue), captioned(half), captioned(apart, seed=1)
    return {
        "own": lambda: (z, z, SameItem()(z, z)),
        "own, told as strangers": lambda: (z, copy, SameItem()(z, copy)),
        "own origins, other vectors": lambda: (z, branch, SameItem()(z, branch)),
        "own labels": lambda: (z, z, SameLabel()(z, z)),
        "labels of others": lambda: (z, apart, SameLabel()(z, apart)),
        "some without a positive": lambda: (z, apart, SameItem()(z, apart)),
        "share of a process": lambda: (half, z, SameItem()(half, z)),
        "captions": lambda: (said, told_of, SameContent()(said, told_of)),
        "own captions": lambda: (said, said, SameContent()(said, said)),
        "transported": lambda: (half, apart, Transported()(half, apart)),
        "beside a queue": lambda: (half, both, SameItem()(half, z).only_positives() | SameItem()(half, queue)),
        "turned": lambda: (apart, half, SameItem()(half, apart).T),
        "weighed and graded": lambda: (z, other, told(80, 60, dtype=dtype)),
        "no positive at all": lambda: (z, z, SameItem()(z, z).only_negatives()),
    }


def slopes(objective: Objective, case: Case, part: Any = None, learnt: tuple[Tensor, ...] = ()) -> list[Tensor]:
    """Value, then the gradient of every leaf."""
    q, k, relation = case
    term = objective(q, k, relation, part)
    leaves = {id(v): v for v in (q.vector, k.vector)}
    total = term.total / term.count.clamp_min(1)
    return [total.detach(), *torch.autograd.grad(total, [*leaves.values(), *learnt], retain_graph=True)]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
@pytest.mark.parametrize("temperature", [0.5, 0.05, 0.001])
@pytest.mark.parametrize("name", forms(torch.float64))
def test_streaming_is_dense(name: str, temperature: float, dtype: torch.dtype, bound: float) -> None:
    """In value and gradient; 0.001 is too sharp for powers without a maximum subtracted."""
    case = forms(dtype)[name]()
    whole, tiled = (slopes(InfoNCE(temperature=temperature, tile=tile), case) for tile in (WHOLE, TILED))
    sharp = max(1, 0.1 / temperature)  # rounding of a logit of 50 is that of its exponential
    for one, two in zip(whole, tiled, strict=True):
        assert one.dtype == two.dtype == dtype
        assert two.isfinite().all()
        assert (one - two).abs().max() <= sharp * bound * one.abs().max()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
@pytest.mark.parametrize("name", forms(torch.float64))
def test_a_learned_temperature_streams(name: str, dtype: torch.dtype, bound: float) -> None:
    case, found = forms(dtype)[name](), []
    for tile in (WHOLE, TILED):
        objective = InfoNCE(temperature=0.3, learned=True, tile=tile)
        part: Any = objective.build()
        found.append(slopes(objective, case, part.to(dtype), (part.log,)))
    for one, two in zip(*found, strict=True):
        assert (one - two).abs().max() <= bound * max(1, float(one.abs().max()))


def test_a_temperature_is_learned_though_the_encoder_rests() -> None:
    z, found = pairs(40).detach(), []
    for tile in (WHOLE, TILED):
        objective = InfoNCE(learned=True, tile=tile)
        part: Any = objective.build()
        mean(objective, z, z, SameItem()(z, z), part).backward()
        found.append(float(part.log.grad))
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0] != 0


@pytest.mark.parametrize("side", ["q", "k"])
def test_keys_or_queries_may_be_fixed(side: str) -> None:
    z, other, found = pairs(40), pairs(30, seed=1), []
    q, k = (z.detach(), moved(other, 25, 2)) if side == "k" else (z, moved(other, 25, 2).detach())
    leaf = (k if side == "k" else q).vector
    for tile in (WHOLE, TILED):
        found.append(torch.autograd.grad(mean(InfoNCE(tile=tile), q, k, SameItem()(q, k)), leaf)[0])
    torch.testing.assert_close(found[0], found[1])
    assert found[0].abs().sum() > 0


@pytest.mark.parametrize("own", [True, False])
def test_gradients_are_those_of_finite_differences(own: bool) -> None:
    z, other = pairs(5), pairs(4, seed=1)

    def loss(one: Tensor, two: Tensor, log: Tensor) -> Tensor:
        q = Embeddings(one, z.origin)
        k = q if own else Embeddings(two, moved(other, 0, 2).origin)
        return contrast(q, k, SameItem()(q, k), SameItem()(q, k), log.exp(), tile=3).total

    log = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (z.vector, other.vector, log))


def test_the_shares_of_two_processes_are_the_whole() -> None:
    z = pairs(30)
    objective = InfoNCE(temperature=0.2, tile=TILED)
    whole = objective(z, z, SameItem()(z, z))
    shares = [z[torch.arange(60) % 5 == n] for n in (0, 1)] + [z[torch.arange(60) % 5 > 1]]
    parts = [objective(share, z, SameItem()(share, z)) for share in shares]
    assert sum(int(part.count) for part in parts) == int(whole.count) == 60
    summed = torch.stack([part.total for part in parts]).sum()
    torch.testing.assert_close(summed, whole.total)
    torch.testing.assert_close(*(torch.autograd.grad(t, z.vector, retain_graph=True)[0] for t in (summed, whole.total)))


@pytest.mark.parametrize("tile", [WHOLE, TILED])
def test_order_and_numbering_do_not_matter(tile: int) -> None:
    z = pairs(30)
    order, names = torch.randperm(60), torch.randperm(1000)[:30]
    other = Embeddings(z.vector, Origin(names[z.origin.item], z.origin.view, z.origin.known))[order]
    for pairing in (SameItem(), SameLabel()):
        values = [mean(InfoNCE(tile=tile), x, x, pairing(x, x)) for x in (z, other)]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*(torch.autograd.grad(v, z.vector, retain_graph=True)[0] for v in values))


# --- precision and memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [WHOLE, TILED])
def test_autocast_changes_nothing(tile: int) -> None:
    z = pairs(20, dtype=torch.float32)
    exact = slopes(InfoNCE(tile=tile), (z, z, SameItem()(z, z)))
    labelled = slopes(InfoNCE(tile=tile), (z, z, SameLabel()(z, z)))
    with torch.autocast("cpu", torch.bfloat16):
        assert (z.vector @ z.vector.T).dtype == torch.bfloat16
        assert all(map(torch.equal, exact, slopes(InfoNCE(tile=tile), (z, z, SameItem()(z, z)))))
        assert all(map(torch.equal, labelled, slopes(InfoNCE(tile=tile), (z, z, SameLabel()(z, z)))))


def test_half_is_lifted_and_double_stays() -> None:
    for given, used in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        z = pairs(20, dtype=given)
        for tile in (WHOLE, TILED):
            assert mean(InfoNCE(tile=tile, tile_precision="bfloat16"), z, z, SameItem()(z, z)).dtype == used
        assert similarity(z, z).dtype == used
    mixed = similarity(pairs(3), pairs(3, dtype=torch.float32))
    assert mixed.dtype == torch.float64


@pytest.mark.parametrize("two_towers", [False, True])
def test_tiles_in_bfloat16_are_near(two_towers: bool) -> None:
    torch.manual_seed(1)
    z = Embeddings(torch.randn(600, 64, requires_grad=True), pairs(300).origin)
    k = moved(Embeddings(torch.randn(600, 64), z.origin), 0, 2) if two_towers else z
    exact, fast = (
        torch.autograd.grad(mean(InfoNCE(tile=128, tile_precision=p), z, k, SameItem()(z, k)), z.vector)[0]
        for p in ("float32", "bfloat16")
    )
    values = [mean(InfoNCE(tile=128, tile_precision=p), z, k, SameItem()(z, k)).item() for p in ("float32", "bfloat16")]
    assert values[1] == pytest.approx(values[0], rel=5e-6)
    assert 0 < (fast - exact).norm() < 5e-4 * exact.norm()


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor held that any operation made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


@pytest.mark.parametrize("name", ["own", "own, learned", "labels", "two towers", "sharp"])
def test_memory_grows_with_the_rows(name: str) -> None:
    """What is kept for backward doubles with the rows, and nothing is ever as large as the table."""
    kept = {}
    for items in (64, 128):
        z, other = pairs(items, dtype=torch.float32), pairs(items, dtype=torch.float32, seed=1)
        k = moved(other, 0, 2) if name == "two towers" else z
        objective = InfoNCE(tile=16, learned=name == "own, learned", temperature=0.002 if name == "sharp" else 0.5)
        relation = (SameLabel() if name == "labels" else SameItem())(z, k)
        saved: dict[int, int] = {}

        def keep(x: Tensor, saved: dict[int, int] = saved) -> Tensor:
            saved[x.untyped_storage().data_ptr()] = x.numel()
            return x

        with Largest() as largest:
            with saved_tensors_hooks(keep, lambda x: x):
                loss = mean(objective, z, k, relation, objective.build())
            loss.backward()
        kept[items] = sum(saved.values())
        assert largest.numbers <= 16 * 4 * items  # twice the vectors; the table is 4, then 8 times that
    assert kept[64] > 0
    assert kept[128] < 2.1 * kept[64]


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("temperature", [0.5, 0.001])
@pytest.mark.parametrize("items", [[0, 1, 2, 3, 0, 1, 2, 3, 77], [0, 1, 2, 3, 4], [], [5]])
def test_rows_without_a_positive_are_silent(items: list[int], temperature: float, tile: int | None) -> None:
    """Also when there is no row at all: the term is 0 of 0, and gradients come back, so that nobody waits."""
    vector = torch.randn(len(items), 8, requires_grad=True)
    z = Embeddings(vector, Origin(torch.tensor(items, dtype=torch.long), torch.arange(len(items))))
    term = InfoNCE(temperature=temperature, tile=tile)(z, z, SameItem()(z, z))
    term.total.backward()
    assert torch.isfinite(term.total)
    assert vector.grad is not None
    assert torch.isfinite(vector.grad).all()
    assert int(term.count) == (8 if len(items) == 9 else 0)


@pytest.mark.parametrize(("queries", "keys"), [(0, 8), (8, 0), (0, 0)])
@pytest.mark.parametrize("tile", [None, 3])
def test_a_side_without_rows(queries: int, keys: int, tile: int | None) -> None:
    z = pairs(8)
    q, k = z[:queries], moved(z, 0, 2)[:keys]
    objective = InfoNCE(learned=True, tile=tile)
    part: Any = objective.build()
    term = objective(q, k, SameItem()(q, k), part)
    term.total.backward()
    assert float(term.total.detach()) == float(term.count) == 0
    assert z.vector.grad is not None
    assert part.log.grad is not None


@pytest.mark.parametrize("temperature", [0.5, 0.001])
@pytest.mark.parametrize("tile", [WHOLE, 3])
def test_a_vector_that_is_no_number_is_seen(temperature: float, tile: int) -> None:
    z = pairs(8).detach()
    z.vector[3] = torch.nan
    assert mean(InfoNCE(temperature=temperature, tile=tile), z, z, SameItem()(z, z)).isnan()


def test_the_dense_form_has_second_derivatives() -> None:
    z = pairs(4)
    relation = SameItem()(z, z)

    def loss(vector: Tensor) -> Tensor:
        moving = Embeddings(vector, z.origin)
        return InfoNCE()(moving, moving, relation).total

    assert torch.autograd.gradgradcheck(loss, z.vector)


def test_weights_scale_terms() -> None:
    z = pairs(8)
    term = InfoNCE()(z, z, SameItem()(z, z))
    assert (0.5 * term).total.item() == pytest.approx(term.total.item() / 2)
    assert (0.5 * term).count == term.count


def test_recipes_say_no_to_nonsense() -> None:
    assert Objective.of({"kind": "infonce", "temperature": 0.1}) == InfoNCE(temperature=0.1)
    for field, value in product(["temperature", "tile"], [0, -1]):
        with pytest.raises(ValueError, match=field):
            Objective.of({"kind": "InfoNCE", field: value})
    with pytest.raises(ValueError, match="tile_precision"):
        Objective.of({"kind": "InfoNCE", "tile_precision": "float16"})
