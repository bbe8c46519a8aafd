"""Two roles that ask each other: values others computed, on one process and on two whose shares differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import in_two
from test_objectives import captioned, published
from torch import Tensor, nn
from torch.nn import functional as F

from likeness.engine import shared_mean
from likeness.objectives import (
    Classify,
    CoSENT,
    CyCLIP,
    Decoupled,
    HardNegatives,
    InfoNCE,
    Matryoshka,
    Objective,
    Regress,
    Sigmoid,
    SogCLR,
    both_ways,
    iSogCLR,
)
from likeness.relations import Pairing, SameContent, SameItem, Transported
from likeness.views import Embeddings, Origin

ITEMS, WIDTH = 24, 6
SHARES = {"9/15": 9, "24/0": ITEMS, "one has a role alone": -1}
GLOBAL: dict[str, Any] = {"bimodal": True, "items": ITEMS + 10, "gamma": 0.8, "temperature": 0.1}
OBJECTIVES: dict[str, Objective] = {
    "InfoNCE": InfoNCE(temperature=0.1),
    "InfoNCE learned": InfoNCE(temperature=0.1, learned=True),
    "InfoNCE streaming": InfoNCE(temperature=0.1, tile=5),
    "Sigmoid": Sigmoid(),
    "Sigmoid streaming": Sigmoid(tile=5),
    "CyCLIP": CyCLIP(),
    "SogCLR": SogCLR(**GLOBAL),
    "iSogCLR": iSogCLR(**GLOBAL),
    "Decoupled": Decoupled(weighted=0.5),
    "HardNegatives": HardNegatives(),
    "Matryoshka": Matryoshka(dims=(2, 6)),
    "CoSENT": CoSENT(),
    "Regress": Regress(),
    "Classify": Classify(classes=3, width=WIDTH),
}
PAIRINGS: dict[str, Pairing] = {"item": SameItem(), "content": SameContent(), "transported": Transported()}
Case = tuple[str, str, str]


def cases() -> Iterator[Case]:
    """Every objective with every pairing, and with every kind of shares."""
    for n, objective in enumerate(OBJECTIVES):
        for m, pairing in enumerate(PAIRINGS):
            yield objective, pairing, list(SHARES)[(n + m) % len(SHARES)]


def rows() -> tuple[Tensor, Tensor, Origin, Origin]:
    """Two roles, half of whose last items lack the other; some captions repeat, and some scores are missing."""
    source = torch.Generator().manual_seed(0)
    hidden = torch.randn(ITEMS + 8, 8, generator=source, dtype=torch.float64)
    score = (torch.arange(ITEMS + 8) % 5 / 4).masked_fill(torch.arange(ITEMS + 8) % 7 == 3, torch.nan)
    found: list[Any] = []
    for view, item in enumerate((torch.arange(ITEMS), torch.arange(ITEMS) + 8)):
        data = hidden[item] + 0.5 * torch.randn(ITEMS, 8, generator=source, dtype=torch.float64)
        known = captioned(Embeddings(data, Origin(item, item * 0 + view))).origin.known
        label = (item % 3).double()
        found.append((data, Origin(item, item * 0 + view, {**known, "score": score[item], "label": label})))
    return found[0][0], found[1][0], found[0][1], found[1][1]


def asked(case: Case, rank: int | None) -> dict[str, Any]:
    """Value, gradients of two linear towers and of what is learned, and what is remembered after a step."""
    objective, pairing, shares = OBJECTIVES[case[0]], PAIRINGS[case[1]], SHARES[case[2]]
    torch.manual_seed(0)
    one, other = nn.Linear(8, WIDTH).double(), nn.Linear(8, WIDTH).double()
    part = objective.build()
    part = None if part is None else part.double()
    x, y, left, right = rows()
    mine = [slice(None), slice(None)]
    if rank is not None:
        cut = [ITEMS, 0] if shares < 0 else [shares, shares]
        mine = [slice(0, n) if rank == 0 else slice(n, None) for n in cut]
    values = []
    for _ in range(2):  # the second meets what the first remembers
        a = Embeddings(one(x[mine[0]]), left[mine[0]])
        b = Embeddings(other(y[mine[1]]), right[mine[1]])
        term = both_ways(objective, a, b, pairing, part)
        values.append(shared_mean(term.total, term.count))
        advance = getattr(part, "advance", None)
        if advance is not None:
            advance(0.5)
    weights = [*one.parameters(), *other.parameters(), *(() if part is None else part.parameters())]
    grads = torch.autograd.grad(sum(values), weights)  # type: ignore[arg-type]
    return {
        "values": torch.stack(values).detach(),
        "grads": [grad.detach() for grad in grads],
        "buffers": [] if part is None else [x.clone().nan_to_num(neginf=0) for x in part.buffers()],
    }


def every(rank: int) -> dict[Any, Any]:
    return {case: asked(case, rank) for case in cases()}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return in_two(every, tmp_path_factory.mktemp("both"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_equal_one(both: list[Any], name: str) -> None:
    """A process's part of the mean is such that the average over processes is the whole; so are gradients."""
    for case in cases():
        if case[0] != name:
            continue
        alone, (one, two) = asked(case, None), (done[case] for done in both)
        assert alone["values"].abs().min() > 0, case
        torch.testing.assert_close((one["values"] + two["values"]) / 2, alone["values"], rtol=1e-11, atol=0)
        for whole, *parts in zip(alone["grads"], one["grads"], two["grads"], strict=True):
            torch.testing.assert_close((parts[0] + parts[1]) / 2, whole, rtol=0, atol=1e-11 * float(whole.abs().max()))
        for whole, *parts in zip(alone["buffers"], one["buffers"], two["buffers"], strict=True):
            for each in parts:
                torch.testing.assert_close(each, whole, rtol=1e-11, atol=1e-12)


# --- values -----------------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    bias = torch.tensor(-10.0, dtype=torch.float64)

    def forward(self) -> Tensor:
        return torch.tensor(10.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("objective", "part", "expected"),
    [
        (InfoNCE(temperature=0.1), None, 0.0039009577551153913),  # open_clip's ClipLoss, scale 10
        (InfoNCE(temperature=0.1, tile=3), None, 0.0039009577551153913),
        (InfoNCE(learned=True), Fixed(), 0.0039009577551153913),
        (Sigmoid(), Fixed(), 1.2155117990937894),  # open_clip's SigLipLoss, scale 10, bias -10
        (CyCLIP(contrast=InfoNCE(temperature=0.1)), None, 0.05516961126704055),  # the authors' code, temperature 0.1
    ],
    ids=repr,
)
def test_values_that_others_computed(objective: Objective, part: Any, expected: float) -> None:
    z = published()
    for a, b in ((z[:8], z[8:]), (z[8:], z[:8])):
        term = both_ways(objective, a, b, SameItem(), part)
        assert float(term.total / term.count) == pytest.approx(expected, rel=1e-9)


def test_global_contrast_of_two_roles() -> None:
    """zhqiu/contrastive-learning-iSogCLR on the same batch twice: it adds its directions, and memories begin at 0."""
    z, objective = published(), SogCLR(temperature=0.1, gamma=0.8, bimodal=True, positive=True, items=8)
    part: Any = objective.build().double()
    part.log.fill_(-700)
    for expected in (-0.006065174464596892, -0.005054312054563412):
        term = both_ways(objective, z[:8], z[8:], SameItem(), part)
        assert float(2 * term.total / term.count) == pytest.approx(expected, rel=1e-6)
        part.advance(0)


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_asking_each_other_is_asking_twice(pairing: str) -> None:
    """Also where one table serves both, and where the sides have unlike numbers of queries that count."""
    x, y, left, right = rows()
    a, b = Embeddings(x[:, :WIDTH], left), Embeddings(y[:20, :WIDTH], right[:20])
    for tile in (None, 5):
        objective = InfoNCE(temperature=0.2, tile=tile)
        term = both_ways(objective, a, b, PAIRINGS[pairing])
        there, back = (objective(q, k, PAIRINGS[pairing](q, k)) for q, k in ((a, b), (b, a)))
        assert int(term.count) == int(there.count + back.count)
        assert float(term.total) == pytest.approx(float(there.total + back.total), rel=1e-9)


def test_transport_finds_more_pairs_than_those_known() -> None:
    """Two linear views of one Gaussian source, of whose pairs 3 in 10 are known (the setting of Nakada et al.)."""
    items, known, steps = 100, 30, 50
    source = torch.Generator().manual_seed(0)
    hidden, *ways = (torch.randn(n, 8, generator=source) for n in (items, 20, 20))
    x, y = (hidden @ way.T / 8**0.5 + 0.5 * torch.randn(items, 20, generator=source) for way in ways)
    item = torch.arange(items)
    other = torch.where(item < known, item, item + items)
    found = []
    for pairing in (SameItem(), Transported()):
        torch.manual_seed(0)
        one, two = nn.Linear(20, 8, bias=False), nn.Linear(20, 8, bias=False)
        descent = torch.optim.Adam([*one.parameters(), *two.parameters()], lr=0.03)
        for step in range(steps):
            a, b = Embeddings(one(x), Origin(item, item * 0)), Embeddings(two(y), Origin(other, item * 0 + 1))
            term = both_ways(InfoNCE(temperature=0.1), a, b, pairing.at(step / steps))
            descent.zero_grad()
            (term.total / term.count).backward()
            descent.step()
        cosine = F.normalize(one(x[known:]), dim=1) @ F.normalize(two(y[known:]), dim=1).T
        found.append((cosine.argmax(1) == torch.arange(items - known)).float().mean().item())
    assert found[1] > found[0] + 0.1
