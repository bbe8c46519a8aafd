"""Laws every relation obeys: what it says lazily is what its table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from likeness.errors import WrongCall
from likeness.relations import Alike, Pairing, Relation, SameContent, SameItem, SameLabel, Transported
from likeness.relations.alike import equal
from likeness.views import Embeddings, Origin

NAN = float("nan")


def rows(items: list[int], views: list[int], labels: list[float] | None = None) -> Embeddings:
    known = {} if labels is None else {"label": torch.tensor(labels)}
    return Embeddings(torch.zeros(len(items), 3), Origin(torch.tensor(items), torch.tensor(views), known))


def knowing(items: list[int], view: int, **known: list[Any]) -> Embeddings:
    told = {name: torch.tensor(value) for name, value in known.items()}
    return Embeddings(torch.zeros(len(items), 3), Origin(torch.tensor(items), torch.full((len(items),), view), told))


def views_of(items: int, first_item: int = 0, first_view: int = 0, labels: int = 2) -> Embeddings:
    """Two views of each item; every fourth label is unknown."""
    label = [NAN if item % 4 == 3 else float(item % labels) for item in range(first_item, first_item + items)]
    item = list(range(first_item, first_item + items))
    return rows(item * 2, [first_view] * items + [first_view + 1] * items, label * 2)


def captioned(items: list[int], first_view: int = 0, every: int = 40, seed: int = 0) -> Embeddings:
    """Rows that show one of the captions that their item accepts, of `every` there are; 0 is none."""
    source = torch.Generator().manual_seed(seed)
    item, accepts = torch.tensor(items, dtype=torch.long), torch.randint(every, (100, 3), generator=source)
    content = accepts[item].gather(1, torch.randint(3, (len(items), 1), generator=source))[:, 0]
    known = {"content": content, "accepts": accepts[item]}
    vector = torch.randn(len(items), 4, generator=source, dtype=torch.float64)
    view = first_view + torch.tensor([items[:n].count(i) for n, i in enumerate(items)], dtype=torch.long)
    return Embeddings(vector, Origin(item, view, known))


def relations() -> dict[str, Callable[[], Relation]]:
    said, other = captioned([*range(20), *range(20)]), captioned(list(range(5, 40)), first_view=2)
    rare = captioned([*range(20), *range(20)], every=10**6)
    z, some, queue = views_of(20), views_of(15), views_of(12, first_item=8, first_view=-1)
    half = z[torch.arange(40) % 2 == 0]
    return {
        "item": lambda: SameItem()(z, z),
        "label": lambda: SameLabel()(z, z),
        "rare label": lambda: SameLabel()(*[views_of(20, labels=20)] * 2),
        "label of others": lambda: SameLabel()(z, some),
        "share of a process": lambda: SameItem()(half, z),
        "turned": lambda: SameItem()(half, z).T,
        "beside a queue": lambda: SameItem()(half, z).only_positives() | SameItem()(half, queue),
        "beside, plain": lambda: SameItem()(half, queue) | SameItem()(half, z),
        "only positives": lambda: SameLabel()(z, z).only_positives(),
        "only negatives": lambda: SameItem()(z, z).only_negatives(),
        "only negatives of many": lambda: SameLabel()(z, z).only_negatives(),
        "turned and beside": lambda: (SameItem()(z, half).only_negatives() | SameLabel()(z, some)).T,
        "content": lambda: SameContent()(said, other),
        "own content": lambda: SameContent()(rare, rare),
        "content of many": lambda: SameContent()(*[captioned(list(range(30)), every=3)] * 2),
        "content, turned": lambda: SameContent()(rare, other).T,
        "transported": lambda: Transported()(rare, captioned(list(range(10, 40)), 2, every=10**6)),
        "no queries": lambda: SameItem()(z[torch.arange(0)], z),
        "no keys": lambda: SameItem()(z, z[torch.arange(0)]),
    }


@pytest.mark.parametrize("name", relations())
def test_tiles_pairs_and_totals_are_the_table(name: str) -> None:
    relation = relations()[name]()
    target, weight = relation.dense()
    high, wide = relation.shape
    assert target.shape == weight.shape == (high, wide)
    assert (weight[target > 0] > 0).all()
    assert (target >= 0).all()
    torch.testing.assert_close(relation.totals(), target.sum(1))
    for rows, columns in ((slice(3, 11), slice(7, 33)), (slice(0, 8), slice(8, 19)), (slice(5, 5), slice(0, 9))):
        rows, columns = (slice(min(s.start, n), min(s.stop, n)) for s, n in ((rows, high), (columns, wide)))
        tile, across = relation.block(rows, columns), relation.T.block(columns, rows)
        for whole, part, turned in zip((target, weight), tile, across, strict=True):
            torch.testing.assert_close(part, whole[rows, columns])
            torch.testing.assert_close(turned.T, whole[rows, columns])
        alone = relation.weights(rows, columns)
        alone = torch.ones_like(tile[1]) if alone is None else alone
        torch.testing.assert_close(alone, weight[rows, columns])
    few = relation.positives()
    if few is not None:
        row, column, value = few
        torch.testing.assert_close(torch.zeros(high, wide).index_put((row, column), value, accumulate=True), target)


def test_which_relations_list_their_positives() -> None:
    tables = [name for name, make in relations().items() if make().positives() is None]
    # two labels among forty rows are many
    assert tables == [
        "label",
        "label of others",
        "only positives",
        "turned and beside",
        "content of many",
        "transported",
    ]


def test_only_tiles_that_hold_a_view_itself_need_weights() -> None:
    z = views_of(20)
    relation = SameItem()(z, z)
    assert relation.weights(slice(0, 10), slice(10, 40)) is None
    assert relation.weights(slice(0, 10), slice(9, 40)) is not None


def test_what_belongs_together() -> None:
    z = rows([7, 9, 7, 9, 4], [0, 0, 1, 1, 0], [1.0, 1.0, 1.0, 1.0, NAN])
    item, label = SameItem()(z, z).dense()[0], SameLabel()(z, z).dense()[0]
    assert item.tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0] * 5]
    assert label.sum(1).tolist() == [3, 3, 3, 3, 0]  # an unknown label equals nothing, not even itself
    assert SameItem()(z, z).dense()[1].equal(1 - torch.eye(5))
    other_role = rows([7, 9], [2, 2])
    assert SameItem()(z, other_role).dense()[1].eq(1).all()  # another view of the same item is compared


@pytest.mark.parametrize("every", [3, 9, 10**6])
def test_a_caption_belongs_to_every_item_that_accepts_it(every: int) -> None:
    q, k = captioned([0, 0, 1, 2, 3, 4, 5, 6], every=every), captioned([0, 1, 1, 7, 8, 9, 10, 4], 2, every, seed=1)
    target = SameContent()(q, k).dense()[0]
    rows = [list(zip(*(x.tolist() for x in (o.item, *o.known.values())), strict=True)) for o in (q.origin, k.origin)]
    for n, (item, shown, accepted) in enumerate(rows[0]):
        for m, (other, seen, welcome) in enumerate(rows[1]):
            belongs = item == other or (seen and seen in accepted) or (shown and shown in welcome)
            assert bool(target[n, m]) == bool(belongs), (n, m)


def test_content_of_one_side_alone_is_enough() -> None:
    """An image shows no text, and knows its captions; a text's own item accepts it, too."""
    image = knowing([1, 2, 3], 0, accepts=[[7, 8], [8, 0], [0, 0]])
    text = knowing([1, 2, 4], 1, content=[7, 8, 8])
    for relation in (SameContent()(image, text), SameContent()(text, image).T):
        assert relation.dense()[0].tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0]]
        assert relation.dense()[1].eq(1).all()
        assert relation.totals().tolist() == [3, 2, 0]
    plain = rows([1, 2], [0, 0])
    assert SameContent()(plain, plain) == SameItem()(plain, plain)


def test_equal_captions_are_views_of_each_other_and_never_of_themselves() -> None:
    one = knowing([1, 2, 3], 0, content=[5, 5, 6], accepts=[[5, 0], [5, 0], [6, 7]])
    z = Embeddings.cat(one, knowing([3], 1, content=[7], accepts=[[6, 7]]))
    relation = SameContent()(z, z)
    assert relation.dense()[0].tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert relation.dense()[1].equal(1 - torch.eye(4))


# --- transport --------------------------------------------------------------------------------------------------------


def pools(paired: int = 3, lone: int = 20, keys: int = 15) -> tuple[Embeddings, Embeddings]:
    """Some rows with a partner, others of either role without one."""
    both, source = list(range(paired)), torch.Generator().manual_seed(0)
    origins = [
        Origin(torch.tensor(both + list(range(first, first + n))), torch.full((paired + n,), view))
        for view, (first, n) in enumerate(((100, lone), (200, keys)))
    ]
    q, k = (Embeddings(torch.randn(len(o), 8, generator=source, dtype=torch.float64) + 0.3, o) for o in origins)
    return q, k


def test_a_plan_moves_what_is_left_over_and_nothing_else() -> None:
    q, k = pools()
    target, weight = Transported(iterations=1000)(q, k).dense()
    assert weight.eq(1).all()
    assert target[:3].equal(torch.eye(3, 18).double())
    assert target[:, :3].equal(torch.eye(23, 3).double())
    torch.testing.assert_close(target.sum(1), torch.ones(23).double())
    torch.testing.assert_close(target[3:, 3:].sum(0), torch.full((15,), 20 / 15).double())
    logs = target[3:, 3:].log() - (q.unit[3:] @ k.unit[3:].T) / 0.05  # a row's and a column's number are left
    logs = logs - logs.mean(0) - logs.mean(1, keepdim=True) + logs.mean()
    assert logs.abs().max() < 1e-12


def test_it_does_not_matter_which_side_asks() -> None:
    q, k = pools()
    there, back = Transported()(q, k).dense()[0][3:, 3:], Transported()(k, q).dense()[0][3:, 3:]
    torch.testing.assert_close(there / there.sum(), back.T / back.sum())


def test_no_gradient_passes_through_a_plan() -> None:
    q, k = pools()
    q.vector.requires_grad_()
    assert not Transported()(q, k).dense()[0].requires_grad


def test_what_has_partners_or_meets_nobody_is_left_alone() -> None:
    q, k = pools()
    for a, b in ((q[:3], k), (q, k[:3]), (q[:0], k), (q, k[:0])):
        assert Transported()(a, b) == SameItem()(a, b)


def test_transport_starts_late() -> None:
    assert Transported(start=0.5).at(0.4) == SameContent()
    assert Transported(start=0.5).at(0.5) == Transported(start=0.5)
    assert Transported(pairing=SameLabel(), start=0.5).at(0) == SameLabel()
    assert SameItem().at(0) == SameItem()


def test_partners_are_found_where_all_rows_are_there() -> None:
    """Each key goes to one query only, so that a plan finds more of them than the nearest of each."""
    source = torch.Generator().manual_seed(0)
    hidden, keys = torch.randn(60, 4, generator=source), torch.randperm(60, generator=source)
    q = Embeddings(hidden, Origin(torch.arange(60), torch.zeros(60).long()))
    noisy = hidden + 0.2 * torch.randn(60, 4, generator=source)
    k = Embeddings(noisy[keys], Origin(keys + 60, torch.ones(60).long()))
    target = Transported(temperature=0.01, iterations=50)(q, k).dense()[0]
    nearest = (q.unit @ k.unit.T).argmax(1)
    hits = [(keys[found] == torch.arange(60)).float().mean().item() for found in (nearest, target.argmax(1))]
    assert hits[1] > hits[0]


def test_numbers_as_large_as_hashes_are_told_apart() -> None:
    big = 2**62
    z = rows([big, -big, big, 3, 3, -5], [0, 0, 1, 0, 1, 0])
    assert SameItem()(z, z).dense()[1].equal(1 - torch.eye(6))
    alone = SameItem()(z, z).weights(slice(0, 6), slice(0, 6))
    assert alone is not None
    assert alone.equal(1 - torch.eye(6))


def test_equal_values_are_found_by_sorting() -> None:
    a, b = torch.tensor([3.0, NAN, 1.0, 3.0]), torch.tensor([1.0, 3.0, NAN, 3.0])
    found = equal(a, b)
    assert found is not None
    assert sorted(zip(*(x.tolist() for x in found), strict=True)) == [(0, 1), (0, 3), (2, 0), (3, 1), (3, 3)]
    assert equal(a, b, most=5) is not None
    assert equal(a, b, most=4) is None


def test_whole_numbers_serve_as_labels() -> None:
    z = rows([1, 2, 3], [0, 0, 0])
    marks = torch.tensor([5, 5, 6])
    assert Alike(z.origin, z.origin, marks, marks).totals().tolist() == [1, 1, 0]


def test_pairings_are_recipes() -> None:
    assert Pairing.of("samelabel") == SameLabel()
    z = rows([1, 2], [0, 0])
    with pytest.raises(WrongCall, match="label"):
        SameLabel()(z, z)
