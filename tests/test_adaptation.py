"""Weights that exist change gently: frozen warm-up, rates by layer, few layers, low-rank changes; all of it resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import images, in_two
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import likeness
from likeness import runs
from likeness.encoders import Residual, Saved
from likeness.encoders.layers import layers
from likeness.encoders.lora import LowRank, adapt, merged
from likeness.engine import Engine
from likeness.errors import WrongCall
from likeness.methods import BYOL, SimCLR
from likeness.training import LARS, SGD, AdamW, Adaptation, Descent, Learner, Muon, Optimizer

NET = Residual(channels=3, widths=(8, 12, 16))
ITEMS = 8
SETTINGS: dict[str, Any] = {"projection": [16, 8], "batch": 16, "precision": "float32", "workers": 1}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(NET.build().state_dict(), path)
    return path


def descent(
    file: Path | None, adaptation: Adaptation, optimizer: Optimizer | None = None, engine: Engine | None = None
) -> Descent:
    """SimCLR that starts from a file, or from random weights."""
    torch.manual_seed(0)
    saved = {"lora": adaptation.lora, "fresh": adaptation.fresh}
    encoder = NET if file is None else Saved(path=str(file), encoder=NET, **saved)
    method = SimCLR(role="image", encoder=encoder, projection=(16, 8))
    place = engine or Engine(torch.device("cpu"))
    return Descent(Learner(method), optimizer or AdamW(learning_rate=0.1, warmup=0), place, ITEMS, adaptation)


def encoder_of(descended: Descent) -> nn.Module:
    return descended.kept()["image"].module


def taken(descended: Descent, *progress: float) -> Descent:
    for number, now in enumerate(progress):
        descended.take({"image": images(ITEMS, seed=number)}, now)
    return descended


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {name for name, weight in module.named_parameters() if not weight.equal(before[name])}


# Layers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["conv1", *(f"layer{n}.{m}" for n in range(1, 5) for m in range(2))]),
        ("vit_tiny_patch16_224", ["patch_embed", *(f"blocks.{n}" for n in range(12))]),
        ("convnext_atto", ["stem.0", *(f"stages.{n}" for n in range(4))]),
        ("densenet121", ["features.conv0", *(f"features.{part}" for part in "denseblock1 transition1.conv".split())]),
    ],
)
def test_layers_follow_from_how_a_network_is_nested(name: str, expected: list[str]) -> None:
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=0)
    found = layers(net)
    assert [layer.name for layer in found][: len(expected)] == expected
    parts = [weight for layer in found for weight in layer.parameters]
    assert len(parts) == len(set(parts)) == len(list(net.parameters()))


def test_tokens_are_of_the_first_layer_and_norms_of_the_one_before() -> None:
    with torch.device("meta"):
        net: Any = timm.create_model("test_vit", num_classes=0)
    found = layers(nn.Sequential(net))  # what only wraps a network is looked through
    first, last = set(found[0].parameters), set(found[-1].parameters)
    assert {net.cls_token, net.pos_embed, net.patch_embed.proj.weight} <= first
    assert net.norm.weight in last


# Rates and freezing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [AdamW(), SGD(), LARS(), Muon()], ids=lambda optimizer: optimizer.label())
def test_rates_by_layer(optimizer: Optimizer, file: Path) -> None:
    """The last layer learns at `rate`, each one before it slower; the head, and what is drawn anew, at the whole."""
    descended = descent(
        file, Adaptation(rate=0.2, layer_decay=0.5, freeze=0.25, fresh=("stages.2.first.0",)), optimizer
    )
    plain = {id(p): g["share"] for g in optimizer.build(descended.learner).param_groups for p in g["params"]}
    taken(descended, 0.25)
    peak = optimizer.rate(0.25, ITEMS)
    rates = {
        id(p): group["lr"] / peak / plain[id(p)] for group in descended.mover.param_groups for p in group["params"]
    }
    for name, weight in descended.learner.parts.named_parameters():
        place = name.removeprefix("tower.encoder.")
        share = {"stem": 0.025, "stages.0": 0.05, "stages.1": 0.1, "stages.2": 0.2}
        expected = next((value for start, value in share.items() if place.startswith(start)), 1.0)
        expected = 1.0 if place.startswith("stages.2.first.0") else expected
        assert rates[id(weight)] == pytest.approx(expected), name


@pytest.mark.parametrize("optimizer", [AdamW(), SGD(), LARS(), Muon()], ids=lambda optimizer: optimizer.label())
def test_the_encoder_stands_still_while_the_head_warms_up(optimizer: Optimizer, file: Path) -> None:
    quick = optimizer.model_copy(update={"warmup": 0.0, "weight_decay": 0.1})
    descended = descent(file, Adaptation(freeze=0.3), quick)
    encoder, head = encoder_of(descended), descended.learner.parts.tower.head
    before, head_before = weights(encoder), weights(head)
    taken(descended, 0.0, 0.1, 0.2, 0.29)
    assert moved(before, encoder) == set()
    assert {"0.weight", "3.weight"} <= moved(head_before, head)
    taken(descended, 0.3)
    assert {name for name in before if "weight" in name} <= moved(before, encoder)


def test_without_weights_that_exist_nothing_is_slowed(file: Path) -> None:
    one, other = (taken(descent(None, each), 0.0, 0.5) for each in (Adaptation(), Adaptation(freeze=0.9, last=1)))
    assert moved(weights(encoder_of(one)), encoder_of(other)) == set()
    assert len(one.mover.param_groups) == 2


@pytest.mark.parametrize("last", [0, 1, 2])
def test_the_last_layers_learn_alone(last: int, file: Path) -> None:
    """What is held has no gradient, and its running statistics stand still too."""
    descended = descent(file, Adaptation(last=last, freeze=0, layer_decay=1))
    encoder = encoder_of(descended)
    before, statistics = weights(encoder), {name: value.clone() for name, value in encoder.named_buffers()}
    taken(descended, 0.0, 0.5)
    learning = tuple(f"stages.{n}" for n in range(3 - last, 3))
    assert {name.rpartition(".")[0] for name in moved(before, encoder)} <= {
        name for name, _ in encoder.named_modules() if name.startswith(learning)
    }
    assert bool(moved(before, encoder)) == bool(last)
    for name, value in encoder.named_buffers():
        assert value.equal(statistics[name]) != name.startswith(learning), name
    assert all(p.grad is None for layer in layers(encoder)[: 4 - last] for p in layer.parameters)


def test_running_statistics_are_those_of_the_start(trained: Path, shapes: Path, tmp_path: Path) -> None:
    """Unless they are to follow the batches: then they change at once, whatever stands still."""
    before = load_file(trained / "encoder.safetensors")
    for word in ("frozen", "batch"):
        settings = SETTINGS | {"start": str(trained), "steps": 2, "statistics": word, "last": 1}
        run = likeness.train(shapes, "simclr-cpu", out=tmp_path / word, **settings)
        after = load_file(run.path / "encoder.safetensors")
        moved = {name for name in before if "running" in name and not before[name].equal(after[name])}
        assert bool(moved) == (word == "batch")
        assert all(name.startswith("stages.1.") for name in moved)
        assert run.encoder.embed_one(shapes / "red/00.png").shape == (16,)


# Low-rank changes -----------------------------------------------------------------------------------------------------

NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "convolutions": lambda: (NET.build(), torch.randn(2, 3, 16, 16)),
    "transformer": lambda: (timm.create_model("test_vit", num_classes=0), torch.randn(2, 3, 160, 160)),
    "torch's attention": lambda: (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(2, 5, 16)),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_changes_begin_at_nothing_and_merge_exactly(network: str) -> None:
    net, x = NETWORKS[network]()
    net.eval()
    plain, before = deepcopy(net), net(x)
    adapt(net, 2)
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-6)
    learning = [p for p in net.parameters() if p.requires_grad]
    assert 0 < sum(p.numel() for p in learning) < 0.4 * sum(p.numel() for p in plain.parameters())
    for weight in learning:
        weight.data += 0.05 * torch.randn_like(weight)
    after = deepcopy(net)(x)
    assert not torch.allclose(after, before, atol=1e-3)
    plain.load_state_dict(merged(net))
    torch.testing.assert_close(plain(x), after, rtol=0, atol=1e-5)


def test_a_change_is_the_product_of_its_factors() -> None:
    weight = torch.randn(6, 3, 2, 2)
    change = LowRank(weight, 2)
    assert change(weight).equal(weight)
    change.up.data.normal_()
    expected = weight.clone()
    for out in range(6):
        for place in range(12):
            expected[out].view(-1)[place] += sum(change.up[out, r] * change.down[r, place] for r in range(2))
    torch.testing.assert_close(change(weight), expected)


def test_only_the_factors_learn(file: Path) -> None:
    descended = descent(file, Adaptation(lora=2, freeze=0))
    before = weights(encoder_of(descended))
    assert max(g["share"] for g in descended.mover.param_groups if g["share"] < 1) == 0.3  # weights have 0.1
    taken(descended, 0.0, 0.5)
    changed = moved(before, encoder_of(descended))
    assert changed
    assert all(name.endswith((".up", ".down")) for name in changed)


def test_a_momentum_target_follows_the_changes(file: Path) -> None:
    saved = Saved(path=str(file), encoder=NET, lora=2)
    method = BYOL(role="image", encoder=saved, projection=(16, 8), prediction=8, momentum=0.5)
    learner = Learner(method)
    descended = Descent(learner, AdamW(learning_rate=1.0), Engine(torch.device("cpu")), ITEMS, Adaptation(lora=2))
    taken(descended, 0.5, 0.6)
    mine, target = (dict(part.encoder.named_parameters()) for part in (learner.parts.tower, learner.parts.target.copy))
    assert any(not mine[name].equal(target[name]) and target[name].any() for name in mine if name.endswith(".up"))


# Runs -----------------------------------------------------------------------------------------------------------------

WAYS: dict[str, dict[str, Any]] = {
    "rates": {"optimizer": "adamw", "freeze": 0.4, "layer_decay": 0.7},
    "muon": {"optimizer": "muon", "freeze": 0.4},
    "low rank": {"optimizer": "adamw", "lora": 2, "freeze": 0.4},
    "last": {"optimizer": "lars", "last": 1, "freeze": 0.0},
}


@pytest.mark.parametrize("way", WAYS)
def test_stopped_and_resumed_is_bit_for_bit(
    way: str, trained: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SAVE", 0.0)
    settings = SETTINGS | WAYS[way] | {"start": str(trained), "steps": 6}

    one = likeness.train(shapes, "simclr", out=tmp_path / "one", **settings)
    for step in (1, 4):  # in the frozen warm-up, and after it
        again = {"out": tmp_path / "two", "resume": step > 1, "progress": stopping(step)}
        with pytest.raises(KeyboardInterrupt):
            likeness.train(shapes, "simclr", **settings, **again)
    two = likeness.train(shapes, "simclr", out=tmp_path / "two", resume=True, **settings)
    assert [line["loss"] for line in one.metrics] == [line["loss"] for line in two.metrics]
    for name in ("encoder.safetensors", "encoder.json", "forgotten.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes(), name
    about = json.loads((one.path / "encoder.json").read_text())["roles"]["image"]
    assert about["encoder"]["kind"] == "Residual"
    assert load_file(one.path / "encoder.safetensors").keys() == load_file(trained / "encoder.safetensors").keys()


def stopping(at: int) -> Callable[[Any], None]:
    def stop(event: Any) -> None:
        if event.step == at:
            raise KeyboardInterrupt

    return stop


# Several processes ----------------------------------------------------------------------------------------------------

CASES = {"held": Adaptation(freeze=0.3, last=1), "low rank": Adaptation(freeze=0.3, lora=2)}


def trained_by(file: Path, rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    """Case -> what a few steps leave of all parts, where this process holds its share of every batch."""
    found = {}
    for name, case in CASES.items():
        place = Engine(torch.device("cpu"), rank, world)
        descended = descent(file, case, SGD(learning_rate=0.5, warmup=0), place)
        for now in (0.1, 0.4, 0.6):
            views = images(ITEMS)
            descended.take({"image": views[views.origin.item % world == rank]}, now)
        found[name] = descended.learner.state_dict()
    return found


def half(rank: int, file: Path) -> dict[str, dict[str, Tensor]]:
    return trained_by(file, rank, 2)


def test_two_processes_adapt_as_one(file: Path, tmp_path: Path) -> None:
    both = in_two(half, tmp_path, file)
    for name, alone in trained_by(file, 0, 1).items():
        for two in (each[name] for each in both):
            assert two.keys() == alone.keys()
            for key, value in alone.items():
                torch.testing.assert_close(
                    two[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
                )


@pytest.mark.parametrize("asked", [{"last": 99}, {"lora": 1000}])
def test_more_than_an_encoder_has_is_refused(asked: dict[str, int], file: Path) -> None:
    name, value = next(iter(asked.items()))
    with pytest.raises(WrongCall, match=f"{name}={value}"):
        descent(file, Adaptation(**asked))


def test_more_layers_than_there_are_leave_no_folder_behind(trained: Path, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match="last=99: the encoder has 3 layers"):
        likeness.train(shapes, start=str(trained), last=99, out=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()
