"""Laws of methods of two roles: every objective, pairing and form of them, alone and in two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import in_two
from safetensors.torch import load_file
from torch import Tensor, nn
from two_roles import ITEMS, METHODS, PICTURES, WORDS, fitted, learner_of, moved, renamed, seen

import likeness
from likeness.encoders import Own
from likeness.engine import Engine
from likeness.errors import WrongCall
from likeness.methods import DeCLIP, Method, TwoTowers
from likeness.methods.contrasted import Contrasted
from likeness.objectives import Decoupled, InfoNCE, Sigmoid
from likeness.plans import Once
from likeness.training import AdamW, Descent, Learner, minimised
from likeness.views import Batch, Origin, Views

CPU = torch.device("cpu")
every = pytest.mark.parametrize("name", METHODS)


def value(name: str, parts: nn.Module, batch: Batch) -> Tensor:
    return minimised(METHODS[name].loss(parts, batch))[0]


@every
def test_is_finite_and_every_weight_has_a_gradient(name: str) -> None:
    parts = learner_of(METHODS[name]).parts
    loss = value(name, parts, seen(METHODS[name]))
    assert loss.isfinite()
    loss.backward()
    for part, module in parts.named_children():
        learned = {weight: one for weight, one in module.named_parameters() if one.requires_grad}
        for weight, one in learned.items():
            assert one.grad is None or one.grad.isfinite().all(), weight
        assert not learned or any(one.grad is not None and one.grad.any() for one in learned.values()), part


@every
def test_asked_twice_says_the_same_and_moves_nothing(name: str) -> None:
    parts, batch = learner_of(METHODS[name]).parts.eval(), seen(METHODS[name])
    before = {key: tensor.clone() for key, tensor in parts.state_dict().items()}
    once, twice = (value(name, parts, batch).detach() for _ in range(2))
    assert once.equal(twice)
    for key, tensor in parts.state_dict().items():
        assert tensor.nan_to_num().equal(before[key].nan_to_num()), key  # unknown labels are NaN


@every
def test_order_of_rows_and_names_of_items_mean_nothing(name: str) -> None:
    parts, batch = learner_of(METHODS[name], dtype=torch.float64).parts.eval(), seen(METHODS[name], dtype=torch.float64)
    expected = value(name, parts, batch)
    mixed = {role: views[torch.randperm(len(views))] for role, views in batch.items()}
    torch.testing.assert_close(value(name, parts, mixed), expected)
    other = torch.arange(ITEMS) + 100 * torch.randperm(ITEMS) + 10**12  # the same place in a memory of 100 items
    torch.testing.assert_close(value(name, parts, renamed(batch, lambda item: other[item])), expected)


def odd(batch: Batch, kind: str) -> Batch:
    """A batch of which something cannot be read, or is not there."""
    first, second = [*batch][:2]
    kept = {
        "the first role is empty": {first: slice(0, 0)},
        "the second role is empty": {second: slice(0, 0)},
        "nothing at all": dict.fromkeys(batch, slice(0, 0)),
        "a lone row": {first: slice(3, 4)},
        "two lone rows": {first: slice(0, 1), second: slice(4, 5)},
        "nobody has a partner": {r: batch[r].origin.item % 2 == n for n, r in enumerate(batch)},
        "one view": {role: views.origin.view % 2 == 0 for role, views in batch.items()},
    }[kind]
    return {role: views[kept[role]] if role in kept else views for role, views in batch.items()}


ODD = (
    *("the first role is empty", "the second role is empty", "nothing at all", "a lone row", "two lone rows"),
    *("nobody has a partner", "one view"),
)


@every
def test_odd_batches_are_no_error_while_training(name: str) -> None:
    learner = learner_of(METHODS[name]).train()
    for kind in ODD:
        loss, _ = minimised(learner(odd(seen(METHODS[name]), kind)))
        loss.backward()
        learner.advance(0.5)
        assert loss.isfinite(), kind
        for weight, one in learner.named_parameters():
            assert one.grad is None or one.grad.isfinite().all(), (kind, weight)
        for key, tensor in learner.named_buffers():
            plain = tensor.is_floating_point() and "label" not in key
            assert not plain or tensor.nan_to_num(neginf=0).isfinite().all(), (kind, key)


@every
def test_who_belongs_together_matters(name: str) -> None:
    method = METHODS[name]
    parts, batch = learner_of(method).parts.eval(), seen(method)
    role, views = [*batch.items()][1]
    known = {key: told.roll(1, 0) for key, told in views.origin.known.items()}
    other = {**batch, role: Views(views.data, Origin(views.origin.item + 1, views.origin.view, known))}
    assert not torch.isclose(value(name, parts, other), value(name, parts, batch), rtol=1e-6)


@every
def test_double_precision_goes_all_the_way(name: str) -> None:
    method = METHODS[name]
    parts = learner_of(method).parts.eval()
    single = value(name, parts, seen(method)).detach()
    double = value(name, parts.double(), seen(method, dtype=torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double.detach(), rtol=1e-4, atol=1e-4)


@every
def test_is_yaml_is_python(name: str, tmp_path: Path) -> None:
    METHODS[name].to_yaml(tmp_path / "method.yaml")
    again = Method.from_yaml(tmp_path / "method.yaml")
    assert again == METHODS[name]
    plan = Once(method=again)
    assert Once.of(plan.tree()) == plan


@every
def test_what_is_kept_is_what_its_recipe_builds(name: str) -> None:
    method, batch = METHODS[name], seen(METHODS[name])
    parts = learner_of(method, steps=0).parts
    kept = method.keep(parts)
    assert list(kept) == list(batch)[:2]
    for role, one in kept.items():
        made = one.recipe.build()
        made.load_state_dict(one.module.state_dict())
        x = batch[role].data
        vectors = made.eval()(x)
        assert vectors.equal(one.module.eval()(x))
        assert vectors.shape == (len(x), one.recipe.dim)
        owned = {id(p) for p in parts.parameters()}
        assert all(id(p) in owned for p in one.module.parameters())
    same = len({id(one.module) for one in kept.values()}) == 1
    assert same == method.shared


@every
def test_goes_on_bit_for_bit(name: str) -> None:
    method = METHODS[name]

    def descent() -> Descent:
        torch.manual_seed(0)
        return Descent(Learner(method), AdamW(learning_rate=0.01), Engine(CPU), ITEMS)

    whole, states = descent(), []
    for step in range(4):
        whole.take(seen(method, step), step / 4)
        states.append(whole.state(step + 1))
    torch.manual_seed(1)
    again = Descent(Learner(method), AdamW(learning_rate=0.01), Engine(CPU), ITEMS)
    again.restore(states[1])
    for step in (2, 3):
        again.take(seen(method, step), step / 4)
    for key, tensor in again.state(4)["learner"].items():
        assert tensor.nan_to_num().equal(states[3]["learner"][key].nan_to_num()), key


# Captions that repeat, partners that lack, towers that stand still ---------------------------------------------------


def told(data: Tensor, view: int, caption: list[int] | None = None) -> Views:
    """One view of each item, a vector that learns; caption: what each shows."""
    shown = torch.tensor(caption or [])
    known = {} if caption is None else {"content": shown, "accepts": shown[:, None]}
    return Views(data.requires_grad_(), Origin(torch.arange(len(data)), torch.full((len(data),), view), known))


CONTRASTS: dict[str, Contrasted] = {
    "InfoNCE": TwoTowers(),
    "InfoNCE streaming": TwoTowers(objective=InfoNCE(temperature=0.07, learned=True, tile=2)),
    "Sigmoid": TwoTowers(objective=Sigmoid()),
    "Decoupled": TwoTowers(objective=Decoupled()),
    "DeCLIP": DeCLIP(simsiam=0, mlm=0, neighbours=0),
    "DeCLIP neighbours": DeCLIP(clip=1e-6, simsiam=0, mlm=0, neighbours=1, items=6),
}


@pytest.mark.parametrize("name", CONTRASTS)
def test_what_repeats_is_drawn_near_and_never_pushed_away(name: str) -> None:
    """Picture 0 and the caption of item 1, where that is picture 0's own too, and where it is another's."""
    plain = Own.around(nn.Identity(), torch.zeros(2, 8))
    method = fitted(CONTRASTS[name].model_copy(update={"shared": False, "encoder": plain}), {"a": "Image", "b": "Text"})
    method = method.model_copy(update={"embed_dim": None})
    parts, nearer = method.build(), {}
    for other in (7, 8):  # texts at right angles, pictures as near to each of them
        pictures, texts = told(torch.ones(6, 8), 0), told(torch.eye(6, 8), 1, [7, other, 3, 4, 5, 6])
        minimised(method.loss(parts, {"a": pictures, "b": texts}))[0].backward()
        nearer[other] = float(-pictures.data.grad[0, 1])
    assert nearer[7] > 0 > nearer[8]


def test_who_has_no_partner_learns_from_its_own_views() -> None:
    """In a batch without a single pair."""
    for name, learns in (("TwoTowers InfoNCE", False), ("TwoTowers within", True), ("DeCLIP whole", True)):
        parts = learner_of(METHODS[name], steps=0).parts
        value(name, parts, odd(seen(METHODS[name]), "nobody has a partner")).backward()
        for tower in parts.towers.values():
            gradients = [one.grad for one in tower.parameters() if one.grad is not None]
            assert any(grad.any() for grad in gradients) == learns, name


def test_a_locked_tower_stands_still_and_its_map_learns() -> None:
    """Weights and running statistics, in training, under weight decay."""
    net = Own.around(nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8)), torch.zeros(2, 3, 8, 8))
    method = fitted(TwoTowers(locked=("image",), encoders={"image": net, "text": WORDS}), PICTURES)
    torch.manual_seed(0)
    descent = Descent(Learner(method), AdamW(learning_rate=0.1), Engine(CPU), ITEMS)
    before = descent.state(0)["learner"]
    for step in range(3):
        descent.take(seen(method, step), step / 3)
    changed = {key for key, tensor in descent.state(3)["learner"].items() if not tensor.equal(before[key])}
    assert not [key for key in changed if key.startswith("parts.towers.image.encoder.encoder")]
    assert "parts.towers.image.encoder.projection.weight" in changed
    assert any(key.startswith("parts.towers.text.encoder.encoder") for key in changed)


@pytest.mark.parametrize(
    ("method", "roles", "said"),
    [
        (
            DeCLIP(encoders={"text": WORDS}),
            ["image"],
            "DeCLIP pairs two roles, the source has image: say which with.*--columns text=NAME",
        ),
        (
            DeCLIP(),
            ["a", "b", "c"],
            r"DeCLIP pairs two roles, the source has a, b, c: say which with roles=\[ONE,OTHER\]",
        ),
        (TwoTowers(roles=("image", "txt")), ["image", "text"], "no role 'txt'.*'text'.*the source has image, text"),
        (TwoTowers(locked=("txt",)), ["image", "text"], "no role 'txt'"),
        (TwoTowers(shared=True), ["image", "text"], "cannot have one encoder"),
    ],
)
def test_roles_that_are_not_there_are_named(method: Contrasted, roles: list[str], said: str) -> None:
    with pytest.raises(WrongCall, match=said):
        method.towers({role: role.title() for role in roles})


def test_a_tower_is_locked_by_name_with_the_weights_of_a_run(trained: Path, shapes: Path, tmp_path: Path) -> None:
    rows = [f"{path},a {path.parent.name} one" for path in sorted(shapes.rglob("*.png"))]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    text = {"kind": "NgramBag", "dim": 16, "tokens": {"kind": "Hashed", "buckets": 512}}
    small = {"steps": 3, "batch": 16, "workers": 1, "device": "cpu", "embed_dim": 16, "encoders.text": text}
    with pytest.raises(
        WrongCall, match=r"locked=image stands still, and Residual begins at random: encoders.image=RUN"
    ):
        likeness.train(tmp_path / "pairs.csv", "lit", out=tmp_path / "no", **small)
    run = likeness.train(
        tmp_path / "pairs.csv", "lit", out=tmp_path / "run", **{"encoders.image": str(trained)}, **small
    )
    ours, theirs = load_file(run.path / "encoder.safetensors"), load_file(trained / "encoder.safetensors")
    assert theirs
    for key, tensor in theirs.items():
        assert ours[f"image.encoder.{key}"].equal(tensor), key


# Two processes --------------------------------------------------------------------------------------------------------

SHARES = {"6/4": 6, "the first has no second role": 1, "10/0": ITEMS}


def shares() -> list[tuple[str, str]]:
    """Each form with one kind of shares; the whole methods with all."""
    kinds = list(SHARES)
    found = [(name, kinds[n % len(kinds)]) for n, name in enumerate(METHODS)]
    whole = ("TwoTowers InfoNCE", "TwoTowers negatives", "TwoTowers within", "DeCLIP whole")
    return sorted({*found, *((name, kind) for name in whole for kind in kinds)})


def share(batch: Batch, rank: int, kind: str) -> Batch:
    first = {role: views.origin.item < SHARES[kind] for role, views in batch.items()}
    return {role: views[first[role] if rank == 0 else ~first[role]] for role, views in batch.items()}


def gradients(name: str, engine: Engine, mine: Any) -> dict[str, Any]:
    """Of the second step, and all that is remembered after it; mine: what a process has of a batch."""
    method = METHODS[name]
    torch.manual_seed(0)
    learner = Learner(method).to(torch.float64)
    module = engine.place(learner)
    module(mine(moved(seen(method, 1, dtype=torch.float64), 20)))
    learner.advance(0.5)
    loss, values = minimised(module(mine(seen(method, dtype=torch.float64))))
    loss.backward()
    learner.advance(0.5)
    return {
        "gradients": {key: one.grad for key, one in learner.named_parameters() if one.grad is not None},
        "values": values,
        "buffers": {key: one.double().nan_to_num(neginf=0) for key, one in learner.named_buffers()},
    }


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest difference relative to the tensor's largest entry, or to a thousandth of the largest of all."""
    assert set(a) == set(b)
    floor = max((1e-3 * float(x.abs().max()) for x in a.values()), default=0.0)
    return max(
        (float((x - b[n]).abs().max()) / (max(float(x.abs().max()), floor) or 1) for n, x in a.items()), default=0.0
    )


def halves(rank: int) -> dict[Any, Any]:
    found = {}
    for name, kind in shares():
        found[name, kind] = gradients(name, Engine(CPU, rank, 2), lambda batch, kind=kind: share(batch, rank, kind))
    return found


def test_two_processes_equal_one(tmp_path: Path) -> None:
    both = in_two(halves, tmp_path)
    wrong: dict[Any, float] = {}
    for name, kind in shares():
        alone = gradients(name, Engine(CPU), lambda batch: batch)
        for two in both:
            off = {what: apart(alone[what], two[name, kind][what]) for what in alone}
            wrong |= {(name, kind, what): far for what, far in off.items() if far > 1e-11}
    assert wrong == {}
