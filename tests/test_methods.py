"""Laws of every method, found without being listed: a new one has only to be imported by its package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VECTOR, images
from torch import Tensor, nn

from likeness.encoders import Residual
from likeness.engine import Engine
from likeness.methods import Method, SimCLR, SwAV
from likeness.methods.paired import Paired
from likeness.objectives import Objective
from likeness.plans import Once
from likeness.recipe import Recipe
from likeness.relations import Pairing, SameItem, SameLabel
from likeness.training import SGD, Descent, Learner, minimised
from likeness.views import Batch, Origin, Views

FACTS = {
    "role": "image",
    "channels": 3,
    "size": 8,
    "items": 100,
    "classes": 3,
    "vector_dim": VECTOR,
    "encoder": Residual(widths=(6, 8)),
    "teacher": Residual(widths=(4, 6)),
}
SMALL = {"projection": (16, 8), "prediction": 12, "prototypes": 10, "queue": 24, "hidden": 12, "patches": 2}
ITEMS = 8
TILE = 5  # less than a batch: what streams, does


def one_role() -> dict[str, type[Method]]:
    """Methods of one role; those of two have tests of their own."""
    return {name: kind for name, kind in Method.names().items() if not issubclass(kind, Paired)}


def variants(**facts: Any) -> dict[str, Method]:
    """Every method of the package, and every pairing and objective in one that reads what they do: whole, streaming
    and learned. A new one has only to be imported by its package.
    """
    found: dict[str, Method] = {}
    for name, kind in one_role().items():
        if ":" not in name:  # none of a test's own
            found[name] = small(kind)
            if "split" in kind.model_fields:
                found[f"{name} split"] = small(kind, split=5)
            for word, pairing in Pairing.names().items() if "pairing" in kind.model_fields else ():
                found[f"{name} {word}"] = small(kind, pairing=pairing())
    for objective in Objective.names().values():
        for method in (SimCLR, SwAV):
            if ":" not in objective.label() and objective.reads in method.reads:
                found |= scored(method, objective)
    return {name: method.filled({**FACTS, **facts}).filled({**FACTS, **facts}) for name, method in found.items()}


def small(kind: type[Method], **more: Any) -> Method:
    return kind(**{field: value for field, value in SMALL.items() if field in kind.model_fields}, **more)


def scored(method: type[Method], objective: type[Objective]) -> dict[str, Method]:
    """The method with an objective, with its learned form, and streaming, where it has these."""
    ways: dict[str, dict[str, Any]] = {"": {}}
    if "learned" in objective.model_fields:
        ways[" learned"] = {"learned": True}
    if "tile" in objective.model_fields:
        ways |= {f"{way} streaming": {**fields, "tile": TILE} for way, fields in ways.items()}
    start = f"{method.label()} {objective.label()}"
    return {f"{start}{way}": small(method, objective=objective(**fields)) for way, fields in ways.items()}


METHODS = variants()
every = pytest.mark.parametrize("name", METHODS)


def seen(seed: int = 0, items: int = ITEMS) -> Batch:
    return {"image": images(items, seed=seed)}


def learner_of(method: Method) -> Learner:
    """In the midst of training: queues are full, memories hold items of other batches, and nothing is frozen."""
    torch.manual_seed(0)
    learner = Learner(method)
    for seed in (1, 2, 3):
        learner({"image": moved(images(ITEMS, seed=seed), 110 * seed)})
        learner.advance(0.5)
    return learner


def built(name: str) -> Any:
    return learner_of(METHODS[name]).parts


def moved(views: Views, by: int) -> Views:
    """The same views of other items."""
    return Views(views.data, Origin(views.origin.item + by, views.origin.view, views.origin.known))


def value(name: str, parts: nn.Module, batch: Batch) -> Tensor:
    return minimised(METHODS[name].loss(parts, batch))[0]


@every
def test_is_finite_and_every_weight_has_a_gradient(name: str) -> None:
    parts = built(name)
    loss = value(name, parts, seen())
    assert loss.isfinite()
    loss.backward()
    learned = {weight: parameter for weight, parameter in parts.named_parameters() if parameter.requires_grad}
    for weight, parameter in learned.items():
        assert parameter.grad is not None, weight
        assert parameter.grad.isfinite().all(), weight
    for part, module in parts.named_children():
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        assert not weights or any(weight.grad.any() for weight in weights), part
    encoder = METHODS[name].keep(parts)["image"].module
    assert any(weight.grad.any() for weight in encoder.parameters())


@every
def test_asked_twice_says_the_same_and_moves_nothing(name: str) -> None:
    parts = built(name).eval()
    before = {key: tensor.clone() for key, tensor in parts.state_dict().items()}
    once, twice = (value(name, parts, seen()).detach() for _ in range(2))
    assert once.equal(twice)
    for key, tensor in parts.state_dict().items():
        assert tensor.nan_to_num().equal(before[key].nan_to_num()), key  # unknown labels are NaN


def rows_of(views: Views, *chosen: tuple[int, int]) -> Batch:
    """The rows of some (item, view)."""
    origin = views.origin
    found = [int(((origin.item == item) & (origin.view == view)).nonzero()) for item, view in chosen]
    return {"image": views[torch.tensor(found)]}


ODD = {
    "one item": [(0, 0), (0, 1)],
    "a lone row": [(3, 1)],
    "one view": [(item, 0) for item in range(ITEMS)],
    "a missing view": [(item, view) for item in range(ITEMS) for view in (0, 1) if (item, view) != (2, 1)],
}


@every
@pytest.mark.parametrize("kind", ODD)
def test_odd_batches_are_no_error_while_training(name: str, kind: str) -> None:
    """Items that cannot be read leave their places empty, whatever is left."""
    learner = learner_of(METHODS[name]).train()
    loss, _ = minimised(learner(rows_of(images(ITEMS), *ODD[kind])))
    loss.backward()
    learner.advance(0.5)
    assert loss.isfinite()
    for weight, parameter in learner.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), weight
    for key, tensor in learner.named_buffers():
        assert not tensor.is_floating_point() or "label" in key or tensor.nan_to_num(neginf=0).isfinite().all(), key


@every
def test_three_views_are_no_error(name: str) -> None:
    parts = built(name)
    loss = value(name, parts, {"image": images(ITEMS, views=3)})
    loss.backward()
    assert loss.isfinite()


def changed(views: Views, rows: Tensor, item: Tensor) -> Batch:
    origin = views.origin[rows]
    return {"image": Views(views.data[rows], Origin(item[origin.item], origin.view, origin.known))}


@every
def test_order_of_rows_and_names_of_items_mean_nothing(name: str) -> None:
    parts, views, same = built(name).eval(), images(ITEMS), torch.arange(ITEMS)
    expected = value(name, parts, seen())
    order = torch.randperm(2 * ITEMS)
    torch.testing.assert_close(value(name, parts, changed(views, order, same)), expected, rtol=1e-5, atol=1e-6)
    other = same + 100 * torch.randperm(ITEMS) + 10**12  # the same place in a memory of 100 items
    torch.testing.assert_close(value(name, parts, changed(views, torch.arange(2 * ITEMS), other)), expected)


@every
def test_who_belongs_together_matters(name: str) -> None:
    parts, views = built(name).eval(), images(ITEMS)
    rows = torch.arange(2 * ITEMS)
    origin = views.origin
    label = origin.known["label"]
    wrong = Origin(
        torch.where(origin.view == 1, (origin.item + 1) % ITEMS, origin.item),
        origin.view,
        {**origin.known, "label": torch.where(origin.view == 1, (label + 1) % 3, label)},
    )
    mixed = {"image": Views(views.data[rows], wrong)}
    assert not torch.isclose(value(name, parts, mixed), value(name, parts, seen()), rtol=1e-6)


RATES = (3.0, 0.3)  # gradients of objectives differ in size
MANY = 32  # of 8 items, some statistics cannot be what their objectives want of them


@every
def test_learns(name: str) -> None:
    falls = []
    for rate in RATES:
        descent = Descent(learner_of(METHODS[name]), SGD(learning_rate=rate), Engine(torch.device("cpu")), ITEMS)
        values = [float(sum(descent.take(seen(items=MANY), 0.5)[0].values())) for _ in range(12)]
        falls.append(values[-1] < values[0])
    assert any(falls)


@every
def test_no_views_of_an_item_are_no_error(name: str) -> None:
    """A process may hold no rows; items without a partner do not count."""
    parts = built(name)
    batch = {"image": images(ITEMS)[:0]}
    loss = value(name, parts.eval(), batch)
    loss.backward()
    assert loss.isfinite()


@every
def test_is_yaml_is_python(name: str, tmp_path: Path) -> None:
    METHODS[name].to_yaml(tmp_path / "method.yaml")
    again = Method.from_yaml(tmp_path / "method.yaml")
    assert again == METHODS[name]
    assert again.fingerprint == METHODS[name].fingerprint
    plan = Once(method=again)
    assert Once.of(plan.tree()) == plan


@every
def test_what_is_kept_is_what_its_recipe_builds(name: str) -> None:
    parts = built(name)
    kept = METHODS[name].keep(parts)
    assert set(kept) == {"image"}
    for one in kept.values():
        made = one.recipe.build()
        made.load_state_dict(one.module.state_dict())
        made.eval(), one.module.eval()
        x = seen()["image"].data
        assert made(x).equal(one.module(x))
        assert made(x).shape == (len(x), one.recipe.dim)
        owned = {id(p) for p in parts.parameters()}
        assert all(id(p) in owned for p in one.module.parameters())


@every
def test_double_precision_goes_all_the_way(name: str) -> None:
    parts = built(name).double()
    loss = value(name, parts, {"image": images(ITEMS, dtype=torch.float64)})
    assert loss.dtype == torch.float64
    parts = parts.float()
    torch.testing.assert_close(value(name, parts, seen()).double(), loss, rtol=1e-4, atol=1e-4)


def test_chance_is_the_loss_of_a_space_that_tells_nothing_apart() -> None:
    from likeness.views import Embeddings

    method, origin = METHODS["SimCLR"], images(ITEMS).origin
    assert isinstance(method, SimCLR)
    flat = Embeddings(torch.ones(2 * ITEMS, 4), origin)
    term = method.objective(flat, flat, SameItem()(flat, flat))
    assert float(term.total / term.count) == pytest.approx(method.chance(ITEMS, 2))


def test_supervision_is_one_word() -> None:
    """SameLabel pulls items of one class together, and says what it needs where there are no labels."""
    from likeness.errors import WrongCall

    method = METHODS["SimCLR SameLabel"]
    assert isinstance(method, SimCLR)
    assert method.pairing == SameLabel()
    bare = images(ITEMS)
    batch = {"image": Views(bare.data, Origin(bare.origin.item, bare.origin.view))}
    with pytest.raises(WrongCall, match="labels=COLUMN"):
        method.loss(method.build(), batch)


def test_the_suite_sees_every_method() -> None:
    assert {name.split()[0] for name in METHODS} >= {name for name in one_role() if ":" not in name}
    assert issubclass(Method, Recipe)


def test_objectives_that_a_method_has_no_use_for_are_refused() -> None:
    from likeness.errors import WrongCall

    with pytest.raises(WrongCall, match="BarlowTwins reads statistics, for which MoCo has no use"):
        Method.of({"kind": "MoCo", "objective": "BarlowTwins"})
    with pytest.raises(WrongCall, match="choose one that reads assignments"):
        Method.of({"kind": "SwAV", "objective": "InfoNCE"})


def test_queues_that_the_items_bound_are_told() -> None:
    """On the screen, beside the other reasons of a plan."""
    plan = Once(method=METHODS["MoCo"].model_copy(update={"queue": 65536}), optimizer=SGD(learning_rate=0.1))
    assert plan.because == ("queue 50, not 65,536: half of 100 items at most",)
    built: Any = plan.method.build()
    assert len(built.queue.vector) == 50
    assert Once(method=METHODS["MoCo"], optimizer=SGD(learning_rate=0.1)).because == ()
    assert Once(method=METHODS["SwAV"].model_copy(update={"queue": 0}), optimizer=SGD(learning_rate=0.1)).because == ()
