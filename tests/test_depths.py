"""Several depths of one network: what encoders tell of them, heads for each and their joint, an objective of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import images, pairs
from torch import Tensor

import likeness
from likeness.catalogue import catalogue
from likeness.encoders import (
    Depths,
    Encoder,
    Kept,
    NgramBag,
    Projected,
    Residual,
    Saved,
    TextTransformer,
    Timm,
    Transformers,
)
from likeness.engine import Engine
from likeness.errors import WrongCall
from likeness.export import export
from likeness.folder import write_encoder
from likeness.journey import Watch
from likeness.methods import BYOL, DINO, NNCLR, Distil, Method, MoCo, SimCLR, SwAV
from likeness.methods.tower import OneTower
from likeness.modalities import Image
from likeness.objectives import Cascade, Each, HardNegatives, InfoNCE, Objective, SogCLR, Triplet, VICReg
from likeness.objectives.each import Remembered
from likeness.plans import Once
from likeness.relations import LabelOrItem, Pairing, SameItem, SameLabel
from likeness.sources import read
from likeness.stacks import Padded
from likeness.training import minimised
from likeness.views import Batch, Embeddings, Views

SIDE, ITEMS, D = 16, 8, 5
WIDTHS = (4, 6, 8)
NET = Residual(channels=3, widths=WIDTHS)
HCL = HardNegatives(temperature=0.2, prior=0.0, beta=1.0)
TEXT = TextTransformer(dim=16, depth=3, heads=2, vocabulary=50)
BERT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {**BERT, "model_type": "vit", "image_size": SIDE, "patch_size": 4}
RESNET = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}

TELLING: dict[str, tuple[Encoder, tuple[int, ...]]] = {
    "residual": (NET, WIDTHS),
    "group norm": (Residual(channels=3, widths=(8, 16), norm="group"), (8, 16)),
    "timm resnet": (Timm(name="resnet10t", channels=3, size=SIDE), (64, 64, 128, 256, 512)),
    "timm transformer": (Timm(name="test_vit", channels=3, size=SIDE), (64,) * 6),
    "text": (TEXT, (16, 16, 16)),
    "text, first token": (TEXT.model_copy(update={"pooling": "cls"}), (16, 16, 16)),
    "hf text": (Transformers(config={**BERT, "model_type": "bert", "vocab_size": 50}), (16, 16, 16)),
    "hf transformer": (Transformers(config=VIT), (16, 16, 16)),
    "hf resnet": (Transformers(config={**RESNET, "image_size": SIDE}), (4, 8)),
    "projected": (Projected(encoder=NET, dim=D), (*WIDTHS, D)),
}


def shown_to(encoder: Encoder) -> Any:
    """A few things that it takes; texts are many enough to be put together by length."""
    source = torch.Generator().manual_seed(0)
    if encoder.token_dim is None:
        return torch.randn(3, 3, SIDE, SIDE, generator=source)
    lengths = torch.randint(1, 10, (20, 1), generator=source)
    return Padded(torch.randint(1, 50, (20, 9), generator=source), torch.arange(9) < lengths)


@pytest.mark.parametrize("name", TELLING)
def test_the_last_depth_is_what_the_network_gives(name: str) -> None:
    encoder, widths = TELLING[name]
    if isinstance(encoder, Transformers):
        pytest.importorskip("transformers")
    net, data = encoder.build().eval(), shown_to(encoder)
    with torch.no_grad():
        levels = encoder.levels_of(net, data)
        assert levels[-1].equal(net(data))
        reading = Depths(encoder=encoder, last=2).reading(net)(data)
    assert tuple(level.shape[1] for level in levels) == encoder.levels == widths
    unit = [level / level.norm(dim=1, keepdim=True) for level in levels[-2:]]
    torch.testing.assert_close(reading, torch.cat(unit, 1))


def test_levels_below_the_last_are_pooled_outputs_of_the_stages() -> None:
    net: Any = NET.build().eval()
    x = shown_to(NET)
    first = net.stages[0](net.stem(x).relu())
    assert NET.levels_of(net, x)[0].equal(first.mean((2, 3)))
    tokens, deep = shown_to(TEXT), TEXT.build().eval()
    shallow = TEXT.model_copy(update={"depth": 1}).build().eval()
    own = shallow.state_dict()
    shallow.load_state_dict({name: deep.state_dict()[name] for name in own})
    shallow.norm = torch.nn.Identity()
    torch.testing.assert_close(TEXT.levels_of(deep, tokens)[0], shallow(tokens))  # means of the tokens there are


def test_widths_of_what_is_read() -> None:
    assert (Depths(encoder=NET).pieces, Depths(encoder=NET).dim) == (WIDTHS, 18)
    assert Depths(encoder=NET, last=2).pieces == (6, 8)
    assert Depths(encoder=NET, last=9).pieces == WIDTHS
    assert Depths().pieces is None
    assert (NET.pieces, TEXT.pieces) == ((), ())
    filled = SimCLR(encoder=Depths(), objective=Each(objective=HCL)).filled({"role": "image"})
    assert filled.objective == Each(objective=HCL)  # how many heads there are is not known before the network is


@pytest.mark.parametrize("net", [NgramBag(), Depths(encoder=NET), Timm(name="resnet10t", size=SIDE)])
def test_networks_that_tell_of_no_depth_are_refused_in_a_line(net: Encoder) -> None:
    depths = Depths(encoder=net)
    if net.levels:
        assert depths.dim == 896
        return
    for asked in (lambda: depths.dim, depths.build, lambda: SimCLR(encoder=depths).filled({})):
        with pytest.raises(WrongCall, match=f"{net.label()} does not tell its depths apart.*Residual, Timm") as caught:
            asked()
        assert "\n" not in str(caught.value)
    with pytest.raises(WrongCall, match=r"none is named: encoder\.encoder=NAME"):
        Depths().build()


# Methods --------------------------------------------------------------------------------------------------------------


def method(kind: type[OneTower] = SimCLR, objective: Objective | None = None, **more: Any) -> Any:
    small = {"prediction": 12, "prototypes": 10, "queue": 24}
    fields = {name: value for name, value in small.items() if name in kind.model_fields}
    known = {"encoder": Depths(encoder=NET), "projection": (12, D), **fields, **more}
    asked = known if objective is None else {**known, "objective": objective}
    torch.manual_seed(0)
    return kind(**asked).filled({"role": "image", "items": 100, "teacher": NET})


def loss(one: Method, parts: Any, batch: Batch) -> Tensor:
    return minimised(one.loss(parts, batch))[0]


def batch(**how: Any) -> Batch:
    return {"image": images(ITEMS, side=SIDE, **how)}


def hard(z: Tensor, item: Tensor) -> Tensor:
    """HCL of unit vectors, a query at a time: temperature .2, prior 0, beta 1."""
    cosines, losses = z @ z.T / 0.2, []
    for row in range(len(z)):
        same = (item == item[row]) & (torch.arange(len(z)) != row)
        positive, negative = cosines[row][same].exp().sum(), cosines[row][item != item[row]].exp()
        harder = len(negative) * (negative * negative).sum() / negative.sum()
        losses.append((positive + harder).log() - positive.log())
    return torch.stack(losses).mean()


def test_the_loss_is_the_mean_over_the_heads_of_each_depth_and_their_joint() -> None:
    one = method(objective=Each(objective=HCL))
    assert one.objective.pieces == one.heads == 4
    parts = one.build().double()
    x = batch(dtype=torch.float64)["image"]
    encoder, heads = parts.tower.encoder, parts.tower.head.heads
    net, total = encoder.encoder, torch.zeros((), dtype=torch.float64)
    levels = [level / level.norm(dim=1, keepdim=True) for level in net.levels(x.data)]
    for head, read_at in zip(heads, [*levels, torch.cat(levels, 1)], strict=True):
        out = head(read_at)
        total = total + hard(out / out.norm(dim=1, keepdim=True), x.origin.item)
    torch.testing.assert_close(loss(one, parts, {"image": x}), total / 4, rtol=1e-12, atol=0)


def test_a_cascade_has_a_piece_for_each_head_and_two_where_there_is_one() -> None:
    one, two, three = (method(encoder=net, objective=Cascade()) for net in (Depths(encoder=NET), NET, Depths()))
    assert (one.objective.pieces, two.objective.pieces, three.objective.pieces) == (4, 2, None)
    parts, asked = one.build(), method(objective=Cascade(pieces=4))
    assert loss(one, parts, batch()).equal(loss(asked, parts, batch()))
    assert SimCLR.of(two.tree()).objective == two.objective


def test_order_of_rows_means_nothing() -> None:
    one = method(objective=Each(objective=HCL))
    parts, views = one.build().eval(), batch()["image"]
    order = torch.randperm(len(views))
    torch.testing.assert_close(loss(one, parts, {"image": views[order]}), loss(one, parts, {"image": views}))


def test_every_weight_learns() -> None:
    one = method(objective=Each(objective=InfoNCE(learned=True)))
    parts = one.build()
    loss(one, parts, batch()).backward()
    weights = dict(parts.named_parameters())
    assert len([name for name in weights if name.startswith("objective")]) == 4  # a temperature a head
    for name, weight in weights.items():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    assert all(head[0].weight.grad.any() for head in parts.tower.head.heads)


@pytest.mark.parametrize("kind", [MoCo, BYOL, NNCLR, SwAV, DINO])
def test_what_methods_remember_and_predict_is_as_wide_as_all_heads(kind: type[OneTower]) -> None:
    one = method(kind)
    parts = one.build()
    assert parts.tower(batch()["image"]).vector.shape == (2 * ITEMS, one.width) == (2 * ITEMS, 4 * D)
    for _ in range(2):
        assert loss(one, parts, batch()).isfinite()
        for part in parts.modules():
            getattr(part, "advance", lambda progress: None)(0.5)


def test_without_a_projection_the_features_themselves_are_compared() -> None:
    one = method(MoCo, projection=(), objective=Each())
    assert (one.heads, one.width, one.objective.pieces) == (1, 18, 1)
    assert loss(one, one.build(), batch()).isfinite()


@pytest.mark.parametrize("projection", [(12, D), ()])
@pytest.mark.parametrize("kind", [SimCLR, MoCo, BYOL])
def test_heads_may_see_the_last_depth_alone(kind: type[OneTower], projection: tuple[int, ...]) -> None:
    one = method(kind, encoder=Depths(encoder=NET, heads="last"), projection=projection)
    parts, views = one.build(), batch()["image"]
    assert one.heads == 1
    features = parts.tower.encoder.eval()(views.data)
    assert features.shape[1] == sum(WIDTHS)
    seen = parts.tower.head.eval()(features)
    assert seen.shape[1] == one.width == (D if projection else WIDTHS[-1])
    other = torch.cat([torch.randn_like(features[:, : -WIDTHS[-1]]), features[:, -WIDTHS[-1] :]], 1)
    assert parts.tower.head(other).equal(seen)
    assert loss(one, one.build(), batch()).isfinite()


def test_distillation_has_one_head() -> None:
    one = method(Distil, projection=(12,), objective=Each())
    assert one.objective.pieces == 1
    assert loss(one, one.build(), batch()).isfinite()


def test_a_plain_encoder_makes_it_the_objective_itself() -> None:
    each, plain = (method(encoder=NET, objective=objective) for objective in (Each(objective=HCL), HCL))
    assert each.objective.pieces == 1
    parts = plain.build()
    assert loss(each, parts, batch()).equal(loss(plain, parts, batch()))
    assert each.chance(ITEMS, 2) == plain.chance(ITEMS, 2)


def test_is_yaml_is_python(tmp_path: Path) -> None:
    one = method(MoCo, objective=Each(objective=InfoNCE(learned=True)))
    one.to_yaml(tmp_path / "method.yaml")
    again = Method.from_yaml(tmp_path / "method.yaml")
    assert again == one
    assert again.fingerprint == one.fingerprint


# The objective --------------------------------------------------------------------------------------------------------


def asked(objective: Objective, z: Embeddings, pairing: Pairing | None = None) -> Tensor:
    return minimised({"": objective(z, z, (pairing or SameItem())(z, z), objective.build())})[0]


@pytest.mark.parametrize(
    "inner", [HCL, InfoNCE(learned=True), VICReg(), Triplet(), SogCLR(items=ITEMS)], ids=lambda one: one.label()
)
def test_it_is_the_mean_over_pieces(inner: Objective) -> None:
    z = pairs(ITEMS, dim=12)
    pieces = [Embeddings(part, z.origin) for part in z.vector.detach().split(4, 1)]
    value = asked(Each(objective=inner, pieces=3), z)
    torch.testing.assert_close(value, torch.stack([asked(inner, part) for part in pieces]).mean())
    value.backward()
    assert z.vector.grad is not None
    assert z.vector.grad.any(0).all()


@pytest.mark.parametrize("kind", [InfoNCE, HardNegatives])
def test_it_streams(kind: type[Objective]) -> None:
    grads = []
    for tile in (None, 5):
        z = pairs(ITEMS, dim=12)
        value = asked(Each(objective=kind(tile=tile), pieces=3), z)
        value.backward()
        grads.append((value.detach(), z.vector.grad))
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("pairing", [SameItem(), SameLabel(), LabelOrItem()], ids=lambda one: one.label())
def test_a_relation_that_is_asked_again_says_the_same(pairing: Pairing) -> None:
    views: Views = images(ITEMS)
    z = Embeddings(torch.randn(len(views), 4), views.origin)
    whole = pairing(z, z)
    once, tile = Remembered(whole), (slice(2, 7), slice(0, 9))
    for _ in range(2):
        torch.testing.assert_close(once.dense(), whole.dense())
        torch.testing.assert_close(once.block(*tile), whole.block(*tile))
        torch.testing.assert_close(once.weights(*tile), whole.weights(*tile))
        torch.testing.assert_close(once.positives(), whole.positives())
        torch.testing.assert_close(once.totals(), whole.totals())
        torch.testing.assert_close(once.T.dense(), whole.T.dense())
        assert (once.shape, once.own) == (whole.shape, whole.own)
    assert once.dense()[0] is once.dense()[0]  # made once


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(WrongCall, match="Swapped reads assignments"):
        Objective.of({"kind": "Each", "objective": "Swapped"})
    for outer in ("Each", "Cascade"):
        with pytest.raises(WrongCall, match=f"objective Cascade cuts vectors as {outer} does: take one"):
            Objective.of({"kind": outer, "objective": "Cascade"})
    with pytest.raises(WrongCall, match=r"pieces=5 .* vectors have 12 numbers"):
        asked(Each(pieces=5), pairs(ITEMS, dim=12))


# Training -------------------------------------------------------------------------------------------------------------

SMALL = {
    "encoder": {"kind": "Depths", "encoder": {"kind": "Residual", "widths": WIDTHS}},
    "projection": [12, 8],
    "batch": 16,
    "workers": 1,
    "device": "cpu",
    "precision": "float32",
    "objective": {"kind": "Each", "objective": "InfoNCE"},
}


@pytest.mark.parametrize("name", ["moco", "mocov3"])
def test_goes_on_bit_for_bit(name: str, shapes: Path) -> None:
    source, engine = read(shapes), Engine(torch.device("cpu"))
    more = {"queue": 20, "learned": True} if name == "moco" else {"prediction": 12}
    book = catalogue()
    tree = book.overridden(book.recipe(name), [*SMALL.items(), *more.items(), ("steps", 4)], name)
    plan = Once.of(tree).fitted(source, engine)
    assert plan.tree()["method"]["objective"]["pieces"] == 4
    states: list[Any] = [step.state() for step in plan.run(source, engine, Watch())]
    again = [step.state() for step in plan.run(source, engine, Watch(), states[1])][-1]
    assert again["step"] == 4
    for key, tensor in states[3]["learner"].items():
        assert tensor.nan_to_num().equal(again["learner"][key].nan_to_num()), key


def test_the_recipe_trains_and_its_run_loads(shapes: Path, tmp_path: Path) -> None:
    """The network is chosen where none is named; `likeness train PHOTOS depths`."""
    quick = {name: SMALL[name] for name in ("batch", "workers", "device", "precision", "projection")}
    run = likeness.train(shapes, "depths", out=tmp_path / "run", steps=2, **{"encoder.last": 2}, **quick)
    assert run.space.vectors.shape == (48, 64 + 256)
    halves = np.split(run.space.vectors, [64], 1)
    np.testing.assert_allclose([np.linalg.norm(half, axis=1) for half in halves], 1, rtol=1e-5)
    kept = json.loads((run.path / "encoder.json").read_text())["roles"]["image"]["encoder"]
    assert (kept["kind"], kept["last"], kept["encoder"]["kind"]) == ("Depths", 2, "Residual")
    x = torch.randn(3, 3, SIDE, SIDE)
    assert likeness.load(run.path)(x).shape == (3, 320)


def test_texts_have_depths_too() -> None:
    texts = [f"{who} {what}" for who in ("a cat", "the dog", "an owl") for what in ("sleeps", "sings", "eats", "runs")]
    net = {
        "kind": "TextTransformer",
        "dim": 16,
        "depth": 2,
        "heads": 2,
        "tokens": {"kind": "Trained", "vocabulary": 300},
    }
    known = {**SMALL, "batch": 6, "encoder": {"kind": "Depths", "encoder": net}}
    steps = list(likeness.steps(texts, "simclr", steps=3, holdout=0, **known))
    kept = next(iter(steps[-1].kept().values()))
    assert kept.recipe.pieces == (16, 16)
    assert kept.module(shown_to(TEXT)).shape == (20, 32)
    chosen = Depths().seeing("text", "Text")
    assert chosen.encoder == TextTransformer()  # the default, a bag, has one depth


def test_the_network_is_chosen_for_the_device_that_trains() -> None:
    inner = [Depths().seeing("image", "Image", torch.device(kind)).encoder for kind in ("cpu", "cuda")]
    assert inner == [Residual(), Timm(name="resnet18")]
    weighted = Saved(path="nowhere", weights="0", encoder=Depths()).seeing("image", "Image", torch.device("cuda"))
    assert weighted.encoder == Depths(encoder=inner[1])


def stored(path: Path, recipe: Encoder) -> tuple[Path, Any]:
    """A run with an encoder that has seen data."""
    torch.manual_seed(0)
    module = recipe.build()
    with torch.no_grad():
        module.train()(torch.randn(8, 3, SIDE, SIDE))
    path.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    write_encoder(path, {"image": Kept(recipe, module.eval())}, {"image": Image().fitted(list(pixels))})
    return path, module


def test_a_run_loads_back_and_its_onnx_gives_the_same(tmp_path: Path) -> None:
    import onnxruntime

    run, module = stored(tmp_path / "run", Depths(encoder=NET))
    loaded, x = likeness.load(run), torch.randn(4, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert loaded(x).equal(module(x))
    done = export(run, "onnx", tmp_path / "out")
    theirs = onnxruntime.InferenceSession(done.files[0]).run(None, {"input": x.numpy()})[0]
    np.testing.assert_allclose(theirs, module(x).detach().numpy(), atol=1e-4)


def test_it_starts_from_weights_of_the_network_and_of_its_depths(tmp_path: Path) -> None:
    """A run that was trained by its last layer alone can be read at its depths."""
    plain, net = stored(tmp_path / "plain", NET)
    x = torch.randn(4, 3, SIDE, SIDE)
    expected = Depths(encoder=NET).reading(net)(x)
    inner = Depths(encoder=Saved(path=str(plain))).filled({})
    outer = Saved(path=str(plain), encoder=Depths(encoder=NET)).filled({})
    deep, module = stored(tmp_path / "deep", Depths(encoder=NET))
    again = Saved(path=str(deep)).filled({})
    for recipe, value in ((inner, expected), (outer, expected), (again, module(x))):
        assert recipe.pieces == WIDTHS
        assert recipe.trained
        assert recipe.build().eval()(x).equal(value)
        assert recipe.bare == Depths(encoder=NET)
    assert Saved(path=str(deep)).pieces is None


def test_items_are_shown_as_the_weights_inside_have_seen_them(shapes: Path, tmp_path: Path) -> None:
    run, _ = stored(tmp_path / "run", NET)
    seen: Any = likeness.load(run).modality
    within = Depths(encoder=Saved(path=str(run)))
    plan = Once(method=SimCLR(encoder=within, projection=(8,)), steps=1)
    fitted = plan.fitted(read(shapes), Engine.start("cpu"))
    shown: Any = fitted.data.modality["image"]
    assert (shown.mean, shown.std, shown.size) == (seen.mean, seen.std, seen.size)
    assert fitted.untrained()["image"].recipe.pieces == WIDTHS


def test_the_network_inside_is_named_by_its_own_override(shapes: Path) -> None:
    quick = {**{name: SMALL[name] for name in SMALL if name not in ("encoder", "objective")}, "steps": 1}
    named = {"encoder.encoder": "residual", "widths": [4, 6]}
    (step,) = likeness.steps(shapes, "depths", **named, **quick)
    assert step.kept()["image"].recipe.pieces == (4, 6)
    with pytest.raises(WrongCall, match="NgramBag does not tell its depths apart"):
        next(likeness.steps(shapes, "depths", **{"encoder.encoder": "ngrambag"}, **quick))
