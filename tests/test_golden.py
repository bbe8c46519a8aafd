"""Values that reference implementations gave, for what is made of several of our words; single objectives have theirs
in the tests of their families."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import origin
from torch import Tensor

from likeness.objectives import Align, InfoNCE, Objective
from likeness.relations import Pairing, SameItem, SameLabel
from likeness.views import Embeddings

ROWS = torch.arange(8)
LABEL = torch.arange(4).repeat_interleave(2).double()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Two views of 8 rows and a queue of 32, as the reference values were made with."""
    source = np.random.RandomState(0)
    one = source.randn(8, 16)
    other = one + 0.5 * source.randn(8, 16)
    return torch.tensor(one), torch.tensor(other), torch.tensor(source.randn(32, 16))


def view(vector: Tensor, number: int, item: Tensor = ROWS) -> Embeddings:
    return Embeddings(vector, origin(item, torch.full((len(vector),), number), label=LABEL[item % 8]))


def mean(objective: Objective, q: Embeddings, k: Embeddings, pairing: Pairing | None = None) -> float:
    term = objective(q, k, (pairing or SameItem())(q, k), objective.build())
    return float((term.total / term.count).detach())


def test_supcon_with_the_first_view_as_anchor() -> None:
    """SupContrast's SupConLoss(contrast_mode="one"), temperature .07."""
    a, b, _ = inputs()
    q, both = view(a, 0), Embeddings.cat(view(a, 0), view(b, 1))
    assert mean(InfoNCE(temperature=0.07), q, both, SameLabel()) == pytest.approx(9.977312955843763, rel=1e-9)


def test_moco_with_a_queue() -> None:
    a, b, queue = inputs()
    q, key, past = view(a, 0), view(b, 1), view(queue, -1, torch.arange(100, 132))
    relation = SameItem()(q, key).only_positives() | SameItem()(q, past)
    term = InfoNCE(temperature=0.2)(q, Embeddings.cat(key, past), relation)
    assert float(term.total / term.count) == pytest.approx(0.533870766104373, rel=1e-9)


def test_simsiam_is_half_of_align_less_one() -> None:
    a, b, _ = inputs()
    assert mean(Align(), view(a, 0), view(b, 1)) / 2 - 1 == pytest.approx(-0.9152614683724947, rel=1e-9)


def test_multiple_negatives_ranking() -> None:
    """sentence-transformers' MultipleNegativesRankingLoss, scale 20."""
    a, b, _ = inputs()
    assert mean(InfoNCE(temperature=0.05), view(a, 0), view(b, 1)) == pytest.approx(1.7439572185038194e-05, rel=1e-6)


def test_comm_is_contrast_of_each_fusion_with_the_whole() -> None:
    """CoMMLoss, temperature .1: u and v are two views of three embeddings, the last of which joins the others."""
    a, b, _ = inputs()
    u = [a, b, a + b]
    v = [x.roll(1, 1) for x in u]
    found = []
    for left, right in ((u, v), (v, u)):
        for one in left:
            both = Embeddings.cat(view(one, 0), view(right[-1], 1))
            found.append(mean(InfoNCE(temperature=0.1), both, both))
    assert sum(found) / len(found) == pytest.approx(4.222906365783414, rel=1e-9)
