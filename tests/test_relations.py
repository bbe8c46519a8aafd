"""Laws every relation obeys: what it says lazily is what its table says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from likeness.errors import WrongCall
from likeness.relations import Alike, Pairing, Relation, SameItem, SameLabel
from likeness.relations.alike import equal
from likeness.views import Embeddings, Origin

NAN = float("nan")


def rows(items: list[int], views: list[int], labels: list[float] | None = None) -> Embeddings:
    known = {} if labels is None else {"label": torch.tensor(labels)}
    return Embeddings(torch.zeros(len(items), 3), Origin(torch.tensor(items), torch.tensor(views), known))


def views_of(items: int, first_item: int = 0, first_view: int = 0, labels: int = 2) -> Embeddings:
    """Two views of each item; every fourth label is unknown."""
    label = [NAN if item % 4 == 3 else float(item % labels) for item in range(first_item, first_item + items)]
    item = list(range(first_item, first_item + items))
    return rows(item * 2, [first_view] * items + [first_view + 1] * items, label * 2)


def relations() -> dict[str, Callable[[], Relation]]:
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
    assert tables == ["label", "label of others", "only positives", "turned and beside"]


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
