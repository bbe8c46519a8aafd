"""Methods say what their papers' pseudocode says, written down here in the papers' own order of rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import images, origin
from torch import Tensor
from torch.nn import functional as F

import likeness
from likeness.chance import hidden_patches
from likeness.encoders import Residual
from likeness.methods import BYOL, DINO, NNCLR, Generative, MoCo, SimCLR, SwAV
from likeness.methods.base import Method
from likeness.objectives import InfoNCE, SelfDistillation, Swapped
from likeness.parts import Momentum, Queue
from likeness.stacks import Sizes
from likeness.training import Learner, minimised
from likeness.views import Embeddings, Views

SMALL: dict[str, Any] = {"role": "image", "encoder": Residual(widths=(6, 8), channels=3), "projection": (16, 8)}
ITEMS = 8
Net = Callable[[Views], Embeddings]


def seen(step: int) -> Views:
    """Other items at each step."""
    views = images(ITEMS, seed=step)
    return Views(views.data, origin(views.origin.item + 100 * step, views.origin.view))


def learner_of(method: Method) -> Learner:
    torch.manual_seed(0)
    learner = Learner(method).eval()  # batch norm by running statistics: copies may be asked in any order
    shake(learner)
    return learner


def shake(learner: Learner) -> None:
    """Momentum copies no longer equal their leaders."""
    for part in learner.modules():
        if isinstance(part, Momentum):
            for weight in part.copy.parameters():
                weight.add_(0.1 * torch.randn_like(weight))


def value(learner: Learner, views: Views) -> float:
    return float(minimised(learner({"image": views}))[0].detach())


def ce(logits: Tensor) -> float:
    """Cross-entropy with the diagonal."""
    return float(F.cross_entropy(logits, torch.arange(len(logits))))


def unit(net: Net, views: Views) -> Tensor:
    with torch.no_grad():
        return net(views).unit


def test_moco_algorithm_1() -> None:
    learner = learner_of(MoCo(**SMALL, queue=16, momentum=0.9))
    parts, queue = learner.parts, torch.empty(0, 8)
    for step in range(4):
        one, other = seen(step).split(2)
        q, k = unit(parts.tower, one), unit(parts.target, other)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / 0.2
        expected = float(F.cross_entropy(logits, torch.zeros(ITEMS, dtype=torch.long)))
        assert value(learner, seen(step)) == pytest.approx(expected, rel=1e-5)
        before = [w.clone() for w in parts.target.copy.parameters()]
        learner.advance(0.5)
        for mine, was, theirs in zip(parts.target.copy.parameters(), before, parts.tower.parameters(), strict=True):
            torch.testing.assert_close(mine, 0.9 * was + 0.1 * theirs)
        queue = torch.cat([queue, k])[-16:]


def test_byol_equation_2() -> None:
    learner = learner_of(BYOL(**SMALL, prediction=12, momentum=0.9))
    parts = learner.parts
    one, other = seen(0).split(2)

    def regression(a: Views, b: Views) -> Tensor:
        guess = F.normalize(parts.predictor(parts.tower(a)).vector, dim=1)
        return (2 - 2 * (guess * unit(parts.target, b)).sum(1)).mean()

    expected = (regression(one, other) + regression(other, one)) / 2
    assert value(learner, seen(0)) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_byol_target_slows_down_to_a_stop(progress: float) -> None:
    learner = learner_of(BYOL(**SMALL, prediction=12, momentum=0.9))
    target, tower = learner.parts.target.copy, learner.parts.tower
    before, decay = copy.deepcopy(target), 1 - 0.1 * (math.cos(math.pi * progress) + 1) / 2
    learner.advance(progress)
    for mine, was, theirs in zip(target.parameters(), before.parameters(), tower.parameters(), strict=True):
        torch.testing.assert_close(mine, decay * was + (1 - decay) * theirs)


def test_simsiam_algorithm_1() -> None:
    learner = learner_of(BYOL(**SMALL, prediction=12, momentum=None))
    parts = learner.parts
    z1, z2 = (parts.tower(view) for view in seen(0).split(2))
    p1, p2 = parts.predictor(z1), parts.predictor(z2)

    def d(p: Embeddings, z: Embeddings) -> Tensor:
        return -F.cosine_similarity(p.vector, z.vector.detach(), dim=1).mean()

    paper = d(p1, z2) / 2 + d(p2, z1) / 2
    (expected,) = torch.autograd.grad(paper, parts.tower.head[0].weight)
    loss, _ = minimised(learner({"image": seen(0)}))
    (found,) = torch.autograd.grad(loss, parts.tower.head[0].weight)
    assert float(loss.detach()) == pytest.approx(float(2 + 2 * paper.detach()), rel=1e-5)
    torch.testing.assert_close(found, 2 * expected, rtol=1e-4, atol=1e-6)


def test_moco_v3_algorithm_1() -> None:
    learner = learner_of(BYOL(**SMALL, prediction=12, momentum=0.9, objective=InfoNCE(temperature=0.2)))
    parts = learner.parts
    one, other = seen(0).split(2)
    (q1, q2), (k1, k2) = (
        [unit(net, view) for view in (one, other)] for net in (lambda v: parts.predictor(parts.tower(v)), parts.target)
    )
    expected = (ce(q1 @ k2.T / 0.2) + ce(q2 @ k1.T / 0.2)) / 2
    assert value(learner, seen(0)) == pytest.approx(expected, rel=1e-5)


def test_nnclr_equation_2() -> None:
    learner = learner_of(NNCLR(**SMALL, prediction=12, queue=16))
    parts, queue = learner.parts, torch.empty(0, 8)
    for step in range(4):
        views = seen(step).split(2)
        z1, z2 = (unit(parts.tower, view) for view in views)
        p1, p2 = (unit(lambda v: parts.predictor(parts.tower(v)), view) for view in views)
        n1, n2 = (queue[(z @ queue.T).argmax(1)] if len(queue) else z for z in (z1, z2))
        expected = (ce(n1 @ p2.T / 0.1) + ce(n2 @ p1.T / 0.1)) / 2
        assert value(learner, seen(step)) == pytest.approx(expected, rel=1e-5)
        learner.advance(0.5)
        queue = torch.cat([queue, z1])[-16:]


def crops(step: int) -> Views:
    """Two large views and two small ones of each item."""
    large, small = images(ITEMS, seed=step), images(ITEMS, seed=50 + step, side=4)
    item, view = large.origin.item, large.origin.view
    where = origin(torch.cat([item, item]) + 100 * step, torch.cat([view, view + 2]))
    return Views(Sizes.of(large.data, small.data), where)


def sinkhorn(scores: Tensor, rounds: int) -> Tensor:
    """The authors' distributed_sinkhorn on one process."""
    q = (scores / 0.05).exp().T
    q /= q.sum()
    for _ in range(rounds):
        q /= q.sum(1, keepdim=True)
        q /= len(q)
        q /= q.sum(0, keepdim=True)
        q /= q.shape[1]
    return (q * q.shape[1]).T


@pytest.mark.parametrize("queue", [0, 12])
def test_swav_main_loop(queue: int) -> None:
    learner = learner_of(
        SwAV(**SMALL, prototypes=10, queue=queue, opens=0.0, frozen=0.0, objective=Swapped(temperature=0.1))
    )
    parts, past = learner.parts, [torch.empty(0, 8)] * 2
    for step in range(3):
        large, small = crops(step).sizes()
        z = [unit(parts.tower, view) for view in (*large.split(2), *small.split(2))]
        centre = F.normalize(parts.prototypes.weight, dim=1).detach()
        scores, loss = [each @ centre.T for each in z], []
        for view in (0, 1):
            code = sinkhorn(torch.cat([scores[view], past[view] @ centre.T]), 3)[:ITEMS]
            for other in range(4):
                if other != view:
                    loss.append(-(code * (scores[other] / 0.1).log_softmax(1)).sum(1).mean())
        assert value(learner, crops(step)) == pytest.approx(float(torch.stack(loss).mean()), rel=1e-4)
        learner.advance(0.5)
        if queue:  # the latest 12 rows are those of six items in both views
            past = [z[0][-6:], z[1][-6:]]


def test_dino_algorithm_1() -> None:
    objective = SelfDistillation(temperature=0.1, teacher_temperature=0.05, first_temperature=0.05, momentum=0.9)
    learner = learner_of(DINO(**SMALL, prototypes=10, momentum=0.9, objective=objective))
    parts, centre = learner.parts, torch.zeros(10)
    for step in range(3):
        large, small = crops(step).sizes()
        students = [
            unit(parts.tower, v) @ F.normalize(parts.prototypes.weight.detach(), dim=1).T
            for v in (*large.split(2), *small.split(2))
        ]
        with torch.no_grad():
            teachers = [parts.target(view).vector for view in large.split(2)]
        loss = [
            -(((t - centre) / 0.05).softmax(1) * (s / 0.1).log_softmax(1)).sum(1).mean()
            for i, t in enumerate(teachers)
            for j, s in enumerate(students)
            if i != j
        ]
        assert value(learner, crops(step)) == pytest.approx(float(torch.stack(loss).mean()), rel=1e-4)
        learner.advance(1.0)
        centre = 0.9 * centre + 0.1 * torch.cat(teachers).mean(0)


def test_a_queue_holds_the_latest_and_half_of_the_items_at_most() -> None:
    queue = Queue(100, 4, items=12)
    assert queue.vector.shape == (6, 4)
    for step in range(3):
        vector = torch.full((4, 4), step + 1.0)
        queue.put(Embeddings(vector, origin(torch.arange(4) + 4 * step, torch.zeros(4).long())))
        queue.put(Embeddings(vector, origin(torch.arange(4) + 4 * step, torch.zeros(4).long())))  # asked twice
        queue.advance(0.5)
    assert sorted(queue.read().origin.item.tolist()) == [6, 7, 8, 9, 10, 11]
    assert int(queue.seen) == 12
    queue.put(Embeddings(torch.ones(20, 4), origin(torch.arange(20) + 50, torch.zeros(20).long())))
    queue.advance(0.5)
    assert sorted(queue.read().origin.item.tolist()) == list(range(64, 70))


def test_hidden_patches_follow_from_the_picture_alone() -> None:
    pictures = torch.randn(64, 3, 8, 8)
    hidden = hidden_patches(pictures, 0.5)
    assert hidden.sum((1, 2)).eq(32).all()
    order = torch.randperm(64)
    assert hidden_patches(pictures[order], 0.5).equal(hidden[order])
    assert hidden.unique(dim=0).shape[0] > 60
    assert (hidden.mean(0) - 0.5).abs().max() < 0.3  # no place is favoured


def test_the_contrastive_half_is_given_an_encoder_where_none_is_named(shapes: Path) -> None:
    quick = {"steps": 1, "batch": 4, "workers": 0, "device": "cpu", "holdout": 0}
    (step,) = likeness.steps(shapes, "generative", **quick)
    assert step.kept()["image"].recipe == Residual(channels=3)
    assert "reconstruct" in step.terms


def test_reconstruction_is_a_term_of_its_own_and_reads_hidden_patches_only() -> None:
    method = Generative(method=SimCLR(**SMALL), role="image", channels=3, patches=4, hidden=16, weight=0.5)
    learner = learner_of(method)
    terms = learner({"image": seen(0)})
    assert set(terms) == {"contrast", "reconstruct"}
    means = F.adaptive_avg_pool2d(seen(0).data, 4)
    hidden = hidden_patches(means, 0.5)[:, None]
    shown = seen(0).data * (1 - F.interpolate(hidden, (8, 8)))
    told = learner.parts.decoder(learner.parts.method.tower.encoder(shown)).view_as(means)
    expected = ((told - means).square() * hidden).sum() / hidden.expand_as(means).sum()
    found = terms["reconstruct"]
    assert float((found.total / found.count).detach()) == pytest.approx(0.5 * float(expected.detach()), rel=1e-5)
