"""Multistage training of two towers that are trained already, and a router that mixes stages, of two roles or one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Shell, shape, write_shapes
from safetensors.torch import load_file
from test_multistage import resumed
from test_two_processes import beside

import likeness
from likeness.encoders import Joined, Projected, Residual
from likeness.encoders.layers import layers
from likeness.errors import WrongCall

SHORT: dict[str, Any] = {"steps": 3, "batch": 16, "precision": "float32", "workers": 1, "device": "cpu", "holdout": 0}
TOWERS: dict[str, Any] = {
    "encoders.image": {"kind": "Residual", "widths": [8, 16]},
    "encoders.text": {"kind": "NgramBag", "dim": 12, "tokens": {"kind": "Hashed", "buckets": 512}},
    "embed_dim": 16,
}
ALONE: dict[str, Any] = {**SHORT, "encoder": "residual", "widths": [8, 16], "projection": [16, 8]}
ROUTED: dict[str, Any] = {"merge": "route", "begin": "previous"}
ROUTE = ["clusters=2", "begin=previous", "merge=route"]
PICTURES = np.stack([shape(colour, number) for colour in ("blue", "red") for number in range(24)])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    paths = sorted(write_shapes(folder / "shapes").rglob("*.png"))
    rows = [f"{path},a {path.parent.name} square {n}" for n, path in enumerate(paths)]
    (folder / "pairs.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def clip(pairs: Path) -> likeness.Run:
    return likeness.train(pairs, "clip", out=pairs.parent / "clip", **SHORT, **TOWERS)


def begun(clip: likeness.Run, **more: Any) -> dict[str, Any]:
    """What a run of stages on top of that one is asked for."""
    weights = {f"encoders.{role}": str(clip.path) for role in ("image", "text")}
    return {**SHORT, **weights, "clusters": 2, **more}


def weights(kept: Any, role: str) -> list[dict[str, torch.Tensor]]:
    return [one.state_dict() for one in kept[role].encoder.encoders]


def moved(net: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in net.items() if not value.equal(other[name])}


# Stages of towers that are trained already ----------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "parts"), [(1, ("projection",)), (2, ("projection", "encoder.stages.1"))])
def test_text_stands_still_and_the_last_layers_of_pictures_learn(last, parts, pairs, clip, tmp_path):
    run = likeness.train(pairs, "mcl-clip", out=tmp_path / "run", last=last, stages=3, **begun(clip))
    before = {role: clip.encoders[role].encoder.state_dict() for role in ("image", "text")}
    assert [moved(net, before["text"]) for net in weights(run.encoders, "text")] == [set()] * 3
    for net in weights(run.encoders, "image"):
        changed = moved(net, before["image"])
        assert changed
        assert all(name.startswith(parts) for name in changed)
        assert {part for part in parts if any(name.startswith(part) for name in changed)} == set(parts)
    assert run.encoders["image"].dim == run.encoders["text"].dim == 3 * 16  # no map beyond those that there were


def test_every_stage_begins_with_the_same_weights(pairs, clip):
    still = begun(clip, learning_rate=1e-30, weight_decay=0, last=1)
    kept = list(likeness.steps(pairs, "mcl-clip", **still))[-1].kept()
    before = clip.encoders["image"].encoder.state_dict()
    for net in kept["image"].module.encoders:
        assert {name for name in moved(net.state_dict(), before) if name.endswith("weight")} == set()


def test_the_run_itself_may_be_the_first_stage(pairs, clip, tmp_path):
    run = likeness.train(pairs, "mcl-clip", out=tmp_path / "run", after=[str(clip.path)], **begun(clip))
    first, second = weights(run.encoders, "image")
    before = clip.encoders["image"].encoder.state_dict()
    assert not moved(first, before)
    assert moved(second, before)
    assert run.summary.steps == 3


def test_cosines_across_roles_are_the_mean_of_the_stages(pairs, clip, tmp_path):
    run = likeness.train(pairs, "mcl-clip", out=tmp_path / "run", **begun(clip))
    image, text = (run.of(role).vectors for role in run.encoders)
    blocks = [image[:, half] @ text[:, half].T for half in (slice(16), slice(16, 32))]
    assert np.allclose(image @ text.T, sum(blocks), atol=1e-5)
    assert np.allclose(text[:, :16], text[:, 16:], atol=1e-6)


def test_layers_of_a_projected_network_are_the_network_s_and_the_map():
    net = Residual(widths=(8, 16))
    inner, whole = layers(net.build()), layers(Projected(encoder=net, dim=4).build())
    assert [layer.name for layer in whole] == [*(layer.name for layer in inner), "projection"]


def test_what_has_no_meaning_for_weights_of_several_roles_is_told(pairs, clip):
    with pytest.raises(WrongCall, match=r"lora=4 is for from=RUN: say it of a role's weights, as encoders.ROLE.lora=8"):
        next(likeness.steps(pairs, "mcl-clip", lora=4, **begun(clip)))
    with pytest.raises(WrongCall, match="last=9: the encoder has 4 layers"):
        next(likeness.steps(pairs, "mcl-clip", last=9, **begun(clip)))


# A router -------------------------------------------------------------------------------------------------------------


def test_a_gate_begins_as_the_mean_and_mixes_unit_features():
    net = Residual(widths=(8, 16))
    mean, route = (Joined(encoders=(net, net), merge=merge).build() for merge in ("average", "route"))
    route.encoders.load_state_dict(mean.encoders.state_dict())
    x = torch.randn(4, 3, 16, 16)
    assert torch.allclose(mean.eval()(x), route.eval()(x), atol=1e-6)
    torch.nn.init.constant_(route.gate.map.bias, 0.0)
    with torch.no_grad():
        route.gate.map.bias[0] = 50.0
    alone = torch.nn.functional.normalize(route.encoders[0](x), dim=1)
    assert torch.allclose(route(x), alone, atol=1e-6)


def test_networks_that_stand_still_do_so_in_training():
    net = Joined(encoders=(Residual(widths=(8, 16)),) * 2, merge="route", frozen=True).build().train()
    assert {name for name, weight in net.named_parameters() if weight.requires_grad} == {
        "gate.map.weight",
        "gate.map.bias",
    }
    assert not any(module.training for module in net.encoders.modules())


def test_a_router_learns_and_nothing_else_does(pairs, clip, tmp_path):
    asked = begun(clip, steps=5, merge="route", router=0.4, against="nothing")
    asked = {name: value for name, value in asked.items() if name != "clusters"}
    seen = list(likeness.steps(pairs, "mcl-clip", **asked))
    assert [step.number for step in seen] == [*range(1, 13)]
    assert {step.steps for step in seen} == {12}
    assert all(one.progress < two.progress < 1 for one, two in pairwise(seen))
    run = likeness.train(pairs, "mcl-clip", out=tmp_path / "run", **asked)
    plain = {name: value for name, value in asked.items() if name != "router"}
    mean = likeness.train(pairs, "mcl-clip", out=tmp_path / "mean", **{**plain, "merge": "average"})
    one, other = (load_file(each.path / "encoder.safetensors") for each in (run, mean))
    assert all(one[name].equal(other[name]) for name in other)
    assert one["image.gate.map.weight"].any()
    assert not one["text.gate.map.weight"].any()  # stages of a role that stands still are one
    assert run.encoders["image"].dim == 16
    assert np.allclose(run.encoders["image"].embed(pairs).vectors, run.of("image").vectors, atol=1e-6)


@pytest.mark.parametrize("method", ["simclr", "moco", "supcon", "byol"])
def test_a_router_of_one_role(method, tmp_path):
    np.savez(tmp_path / "shapes.npz", x=PICTURES, y=np.repeat([0, 1], 24))
    more: dict[str, Any] = {"moco": {"queue": 16}, "byol": {"prediction": 12}, "supcon": {"labels": "label"}}.get(
        method, {}
    )
    run = likeness.train(
        tmp_path / "shapes.npz", "mcl", out=tmp_path / "run", method=method, router=1, **ROUTED, **ALONE, **more
    )
    assert run.encoder.dim == 16
    assert run.encoder.encoder.gate.map.weight.any()
    assert len(run.metrics) == 9
    assert np.allclose(run.encoder.embed(PICTURES).vectors, run.space.vectors, atol=1e-6)


def test_depths_that_are_routed_keep_a_head_each(tmp_path):
    deep = {"encoder": {"kind": "Depths", "encoder": {"kind": "Residual", "widths": [8, 16]}, "last": 2}}
    each = {"objective": {"kind": "Each", "objective": {"kind": "InfoNCE"}}}
    asked = {name: value for name, value in ALONE.items() if name not in ("encoder", "widths")}
    run = likeness.train(PICTURES, "mcl", out=tmp_path / "run", **ROUTED, **asked, **deep, **each)
    assert run.encoder.dim == 24
    assert run.encoder.encoder.gate.map.weight.any()


@pytest.mark.parametrize("merge", ["route", "average"])
def test_stages_of_several_widths_cannot_be_mixed(merge, tmp_path):
    first = likeness.train(PICTURES, "simclr", out=tmp_path / "first", **{**ALONE, "widths": [8, 12]})
    with pytest.raises(WrongCall, match=rf"merge={merge} mixes features of one width, these have 12, 16: merge=conc"):
        next(likeness.steps(PICTURES, "mcl", after=[str(first.path)], merge=merge, **ALONE))


def test_what_is_mixed_begins_alike(tmp_path: Path) -> None:
    first = likeness.train(PICTURES, "simclr", out=tmp_path / "first", **ALONE)
    for asked in ({"merge": "average"}, {"merge": "route"}, {"merge": "average", "after": [str(first.path)]}):
        with pytest.raises(WrongCall, match=r"begin anew, each in its own: say begin=previous, .*merge=concatenate"):
            next(likeness.steps(PICTURES, "mcl", **ALONE, **asked))
    bare = {name: value for name, value in ALONE.items() if name not in ("encoder", "widths")}
    for more in ({**ALONE, "begin": "previous"}, {**bare, "encoder": {"kind": "Saved", "path": str(first.path)}}):
        next(likeness.steps(PICTURES, "mcl", merge="average", **more))


def test_killed_in_the_last_stage_or_the_router_and_resumed_is_bit_for_bit(shell: Shell, shapes: Path) -> None:
    call = ["train", str(shapes), "mcl", *TINY, *ROUTE, "router=1", "steps=4", "holdout=0"]
    assert any(name.startswith("gate.") for name in resumed(shell, call, (4, 7, 8, 10)))


def test_a_router_has_its_share_of_a_budget(shell: Shell, shapes: Path) -> None:
    call = ["train", str(shapes), "mcl", *TINY, *ROUTE, "--budget", "12s", "--out", "run"]
    done = shell(*call, "--quiet", "--json").json
    assert done["seconds"] < 30
    assert done["steps"] >= 3
    assert load_file(shell.cwd / "run/encoder.safetensors")["gate.map.weight"].any()


def test_two_processes_train_what_one_does(pairs: Path, clip: likeness.Run, tmp_path: Path) -> None:
    towers = [f"encoders.{role}={clip.path}" for role in ("image", "text")]
    length = ["steps=4", "router=1", "batch=15", "size=16", "optimizer=sgd", "holdout=0", "workers=1", "device=cpu"]
    first = ["stages=2", f"after=[{clip.path}]", "clusters=2", "merge=route", "precision=float32"]
    beside(tmp_path, "train", str(pairs), "mcl-clip", *towers, *first, *length, "--quiet")
    weight, other = (load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "two"))
    for name in weight:
        torch.testing.assert_close(weight[name], other[name], rtol=1e-2, atol=1e-3)


def test_a_picture_that_has_but_a_number_is_shown_by_where_it_lies(clip: likeness.Run, shell: Shell) -> None:
    found = shell("search", clip.path, "a red square", "-k", "2")
    assert found.code == 0, found.err
    assert found.out.count(".png") == 2
