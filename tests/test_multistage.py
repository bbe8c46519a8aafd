"""Multistage training: any method, stage after stage; what is joined, what resumes, what cells are."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Shell, lines, shape
from safetensors.torch import load_file
from test_two_processes import beside
from torch.nn import functional as F

import likeness
from likeness.api import Call, begin
from likeness.encoders import Depths, Joined, Residual
from likeness.errors import Failed, Interrupted, WrongCall
from likeness.journey import Slot
from likeness.methods import MoCo
from likeness.plans import Cells, Multistage
from likeness.plans.cells import clustered, crossed, described, pooled

SMALL: dict[str, Any] = {
    "encoder": "residual",
    "widths": [8, 16],
    "projection": [16, 8],
    "batch": 16,
    "precision": "float32",
    "workers": 1,
    "device": "cpu",
}
SHORT: dict[str, Any] = {**SMALL, "steps": 3, "holdout": 0}
PICTURES = np.stack([shape(colour, number) for colour in ("blue", "red") for number in range(24)])
AGAINST = ("cells", "soft", "uncorrelated", "nothing")


def vectors(*angles: float) -> torch.Tensor:
    turned = torch.tensor(angles).deg2rad()
    return torch.stack([turned.cos(), turned.sin()], 1)


def steps(recipe: Any = "mcl", data: Any = PICTURES, **fields: Any) -> list[Any]:
    return list(likeness.steps(data, recipe, **{**SHORT, **fields}))


def spread_of(x: torch.Tensor) -> float:
    """Squared distances from the mean, added up."""
    return float((x.double() - x.double().mean(0)).square().sum())


def only(kept: Any) -> Any:
    return next(iter(kept.values()))


class TestCells:
    def test_items_that_lie_together_share_a_cluster_and_unknown_ones_have_none(self):
        placed = torch.cat([vectors(0, 5, 90, 95, 3), torch.full((1, 2), torch.nan)])
        found = clustered(placed, 0, clusters=2)
        assert found[0] == found[1] == found[4] != found[2] == found[3] >= 0
        assert found[5] == -1

    @pytest.mark.filterwarnings("error")
    def test_of_items_that_are_the_same_there_are_fewer(self):
        assert set(clustered(torch.cat([vectors(0)] * 9), 0, clusters=4)) == {0}

    def test_all_later_stages_find_the_same_clusters_in_a_stage(self):
        placed = [F.normalize(torch.randn(200, 6, generator=torch.Generator().manual_seed(n)), dim=1) for n in (0, 1)]
        cells = Cells(clusters=4, least=1)
        coarse, fine = cells.groups(placed[:1], 1, [5]), cells.groups(placed, 1, [5, 6])
        assert all(len(set(coarse[fine == cell])) == 1 for cell in set(fine))

    def test_cells_are_what_all_clusterings_agree_on(self):
        one, two = np.array([0, 0, 1, 1, 0, -1]), np.array([0, 1, 0, 0, 0, 0])
        found = crossed([one, two])
        assert found[2] == found[3]
        assert found[0] == found[4]
        assert len({*found[:4]}) == 3
        assert found[5] == -1
        assert found.max() == 2

    def test_the_smallest_cell_joins_the_nearest(self):
        cells = np.array([0, 0, 1, 1, 1, 2, -1])
        found = pooled(cells, torch.cat([vectors(0, 4, 90, 94, 98, 20), torch.full((1, 2), torch.nan)]), least=2)
        assert found[5] == found[0] == found[1] != found[2]
        assert found[6] == -1

    def test_of_too_few_items_one_cell_is_left(self):
        assert set(pooled(np.array([0, 1, 2]), vectors(0, 10, 20), least=9)) == {0}
        assert set(pooled(np.array([-1, -1]), vectors(0, 10), least=9)) == {-1}

    def test_the_smallest_joins_the_one_at_wards_least_cost_until_none_is_too_small(self):
        rng = np.random.default_rng(0)
        placed = F.normalize(torch.from_numpy(rng.normal(size=(300, 5))), dim=1).float()
        cells = rng.choice(40, 300, p=rng.dirichlet(np.full(40, 0.7)))
        cells = np.unique(cells, return_inverse=True)[1]
        members = {cell: [*np.flatnonzero(cells == cell)] for cell in range(cells.max() + 1)}
        while min(map(len, members.values())) < 6:
            small = members.pop(min(members, key=lambda cell: (len(members[cell]), cell)))
            spread = {
                cell: spread_of(placed[[*rows, *small]]) - spread_of(placed[rows]) for cell, rows in members.items()
            }
            members[min(spread, key=lambda cell: spread[cell])] += small
        found = pooled(cells, placed, least=6)
        assert {tuple(np.flatnonzero(found == cell)) for cell in set(found)} == {
            tuple(sorted(rows)) for rows in members.values()
        }
        sizes = sorted(map(len, members.values()))
        assert described(found, 6) == f"{len(sizes)} cells of {sizes[0]} to {sizes[-1]} items"

    def test_no_cell_swallows_what_two_stages_tell_apart(self):
        rng, draw = np.random.default_rng(0), torch.Generator().manual_seed(0)
        told, placed = [rng.integers(0, 10, 2400) for _ in range(2)], []
        for one in told:
            means = torch.randn(10, 64, generator=draw)
            items = means[torch.from_numpy(one)] + 0.3 * torch.randn(2400, 64, generator=draw)
            placed.append(F.normalize(items, dim=1))
        sizes = np.bincount(pooled(crossed(told), torch.cat(placed, 1), least=240))
        assert sizes.min() >= 240
        assert sizes.max() < 1200

    def test_where_a_batch_holds_several_cells_it_is_said(self):
        cells = np.repeat([0, 1, 2], [10, 12, 14])
        mixed = (
            "3 cells of 10 to 14 items, smaller than a batch of 32, which so mixes several: batch=12 keeps them apart"
        )
        assert described(cells, 32) == mixed
        assert described(cells, 12) == "3 cells of 10 to 14 items"
        assert described(np.zeros(9, dtype=int), 4).startswith("one cell, of all items: this stage learns as the first")

    def test_the_released_code_looks_at_the_last_stage_alone(self):
        placed = [vectors(0, 90, 0, 90), vectors(0, 0, 90, 90)]
        paper = Cells(clusters=2, least=1).groups(placed, 1, [0, 0])
        code = Cells(clusters=2, least=1, crossing="last").groups(placed, 1, [0, 0])
        assert len(set(paper)) == 4
        assert code[0] == code[1] != code[2] == code[3]


@pytest.mark.parametrize("against", AGAINST)
def test_stages_count_on_and_widths_add_up(against):
    seen = steps(against=against, stages=3)
    assert [step.number for step in seen] == [*range(1, 10)]
    assert {step.steps for step in seen} == {9}
    assert all(np.isfinite(step.loss) for step in seen)
    assert only(seen[0].kept()).recipe.dim == 16
    assert only(seen[-1].kept()).recipe.dim == 48


def test_the_first_stage_is_the_run_that_has_one():
    stage, alone = steps(stages=1)[-1], steps("simclr", temperature=0.2, optimizer="adamw", weight_decay=1e-6)[-1]
    one, other = only(stage.kept()).module.encoders[0].state_dict(), only(alone.kept()).module.state_dict()
    assert all(one[name].equal(other[name]) for name in other)


def test_a_later_stage_begins_with_weights_of_its_own_or_with_the_last_ones():
    def begun(step):
        first, second = (net.state_dict() for net in only(step.kept()).module.encoders)
        return all(first[name].equal(second[name]) for name in first if "num_batches" not in name)

    assert not begun(steps(learning_rate=1e-30)[-1])
    still = {"learning_rate": 1e-30, "weight_decay": 0, "begin": "previous"}
    before, after = (net.state_dict() for net in only(steps(**still)[-1].kept()).module.encoders)
    assert all(before[name].equal(after[name]) for name in before if name.endswith("weight"))


def test_features_are_unit_blocks_side_by_side():
    kept = only(steps(stages=2)[-1].kept())
    x = torch.randn(5, 3, 16, 16)
    net = kept.module.eval()
    blocks = [torch.nn.functional.normalize(one(x), dim=1) for one in net.encoders]
    joined = net(x)
    assert torch.allclose(joined, torch.cat(blocks, 1) / 2**0.5)
    cosine = sum(block @ block.T for block in blocks) / 2
    assert torch.allclose(joined @ joined.T, cosine, atol=1e-6)


METHODS = {
    "simclr": {},
    "moco": {"queue": 16},
    "byol": {"projection": [16, 8], "prediction": 12},
    "dcl": {"objective": "decoupled"},
    "supcon": {"pairing": "samelabel", "labels": "label"},
    "vicreg": {"objective": "vicreg"},
    "swav": {"prototypes": 4, "queue": 16},
}


@pytest.mark.parametrize("method", METHODS)
def test_it_wraps_any_method(method, tmp_path):
    np.savez(tmp_path / "shapes.npz", x=PICTURES, y=np.repeat([0, 1], 24))
    kind = method if method in ("moco", "byol", "swav") else "simclr"
    fields = {"method": kind, **{k: v for k, v in SHORT.items() if k not in METHODS[method]}, **METHODS[method]}
    run = likeness.train(tmp_path / "shapes.npz", "mcl", out=tmp_path / "run", **fields)
    assert run.encoder.dim == 32
    space = run.encoder.embed(PICTURES)
    assert np.allclose(space.vectors, run.space.vectors, atol=1e-6)
    assert len(run.metrics) == 6


def test_it_wraps_texts_and_pairs():
    words = ["a red dog", "a blue cat", "one green bird", "two small fish"]
    texts = [f"{words[n % 4]} {n}" for n in range(40)]
    fields = {"steps": 2, "batch": 16, "holdout": 0, "device": "cpu", "workers": 1}
    alone = list(likeness.steps(texts, "mcl", method="simcse-ngrams", **fields))[-1]
    assert only(alone.kept()).recipe.dim == 2 * 256
    both = [(a, a.upper()) for a in texts]
    kept = list(likeness.steps(both, "mcl", method="clip", **fields))[-1].kept()
    assert len(kept) == 2
    assert all(one.module is only(kept).module for one in kept.values())  # texts and texts share one encoder


def test_stages_that_exist_are_not_trained_again(tmp_path):
    first = likeness.train(PICTURES, "simclr", out=tmp_path / "first", steps=3, temperature=0.2, holdout=0, **SMALL)
    run = likeness.train(PICTURES, "mcl", out=tmp_path / "both", after=[str(first.path)], **SHORT)
    assert run.summary.steps == 3
    net = run.encoder.encoder.encoders[0].state_dict()
    assert all(net[name].equal(value) for name, value in first.encoder.encoder.state_dict().items())
    untrained = likeness.load(run.path, untrained=True).encoder.encoders[0].state_dict()
    assert not all(net[name].equal(untrained[name]) for name in net)


class Own(Residual):
    """Code from outside this package."""


def test_stages_that_exist_may_hold_code_from_outside(tmp_path):
    own = {**SHORT, "encoder": Depths(encoder=Own(widths=(8, 16)), last=2)}
    del own["widths"]
    first = likeness.train(PICTURES, "simclr", out=tmp_path / "first", **own)
    run = likeness.train(PICTURES, "mcl", out=tmp_path / "both", after=[str(first.path)], **own)
    one, both = (likeness.load(path, allow=[__name__]).encoder for path in (first.path, run.path))
    net = both.encoders[0].state_dict()
    assert all(net[name].equal(value) for name, value in one.state_dict().items())


def test_what_it_keeps_is_an_encoder_like_any_other(tmp_path: Path, shell: Shell, shapes: Path) -> None:
    run = likeness.train(shapes, "mcl", out=tmp_path / "run", **SHORT)
    scores = shell("evaluate", run.path, shapes, "--json").json["scores"]["knn"]
    assert scores["encoder"]["value"] > scores["chance"]["value"]
    assert scores["untrained"] is not None
    exported = shell("export", run.path, "--format", "onnx", "--out", tmp_path / "onnx")
    assert exported.code == 0, exported.err
    found = shell("search", run.path, shapes / "red" / "00.png", "--json").json["results"][0]["hits"]
    assert found[0]["id"] == "red/00.png"
    pupil = likeness.train(shapes, "distil", out=tmp_path / "pupil", teacher=str(run.path), **SHORT)
    assert pupil.encoder.dim == 16


def test_a_module_of_ones_own_is_trained_once_a_stage(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 6))
    fields = {name: value for name, value in SHORT.items() if name not in ("encoder", "widths")}
    run = likeness.train(PICTURES, "mcl", out=tmp_path / "run", encoder=net, **fields)
    assert run.encoder.dim == 12
    assert np.allclose(run.encoder.embed(PICTURES).vectors, run.space.vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stages": 1, "after": ["x"]}, "ask for one more"),
        ({"after": ["x"], "begin": "previous"}, "leave out after="),
        ({"by": "text"}, "no encoder of that role"),
        ({"stages": 10**9}, "stages=1,000,000,000 of .* each take .* GB, and .* of memory are free: ask for fewer"),
        ({"sampling": "distinct"}, "sampling=Distinct and against=Cells both say who shares a batch"),
        ({"method": "triplet", "against": "soft"}, "objective Triplet of SimCLR weighs no negatives"),
        ({"router": 0.5}, "router=0.5 is how long a router is trained, and merge=concatenate has none"),
        ({"method": "swav", "against": "uncorrelated"}, "SwAV compares no vectors, which against=Uncorrelated changes"),
        ({"against": "soft", "objective": {"kind": "Each", "objective": "Align"}}, "of SimCLR weighs no negatives"),
        (
            {"against": "soft", "objective": {"kind": "Matryoshka", "objective": "Align"}},
            "of SimCLR weighs no negatives",
        ),
    ],
)
def test_what_cannot_be_is_told(fields, said):
    with pytest.raises(WrongCall, match=said):
        steps(**fields)


def test_yaml_round_trip(tmp_path):
    plan = Multistage.of({"method": "SimCLR", "stages": 3, "against": {"kind": "Soft", "temperature": 0.2}})
    plan.to_yaml(tmp_path / "plan.yaml")
    assert Multistage.from_yaml(tmp_path / "plan.yaml") == plan


def resumed(shell: Shell, call: list[str], marks: Iterable[int]) -> dict[str, torch.Tensor]:
    """The encoder of a run that is killed at these steps and resumed, which must be that of one left alone."""
    whole, run = shell(*call, "--quiet", "--out", "whole"), shell.cwd / "run"
    assert whole.code == 0, whole.err
    chance, pointer = random.Random(0), run / "checkpoint" / "latest"
    for mark in marks:
        resume, least = ["--resume"] if run.exists() else [], f"step-{mark:09d}"
        command = shell.start(*call, "--quiet", "--out", "run", *resume, changes={"likeness.runs:SAVE": 0.0})
        if command.until(lambda least=least: pointer.exists() and pointer.read_text() >= least):
            time.sleep(chance.uniform(0, 0.02))
            command.kill(signal.SIGKILL)
        if command.wait().code == 0:
            break
    done = shell(*call, "--quiet", "--out", "run", "--resume")
    assert done.code == 0, done.err
    one, other = load_file(shell.cwd / "whole/encoder.safetensors"), load_file(run / "encoder.safetensors")
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    assert [line["loss"] for line in lines(shell.cwd / "whole")] == [line["loss"] for line in lines(run)]
    return one


@pytest.mark.parametrize("against", ["cells", "soft"])
def test_killed_in_any_stage_and_resumed_is_bit_for_bit(against: str, shell: Shell, shapes: Path) -> None:
    extra = ["clusters=2"] if against == "cells" else ["against=soft"]
    resumed(shell, ["train", str(shapes), "mcl", *TINY, *extra, "steps=6", "stages=3", "holdout=0"], range(4, 18, 3))


def test_a_budget_is_split_over_stages(shell: Shell, shapes: Path) -> None:
    call = ["train", str(shapes), "mcl", *TINY, "clusters=2", "--budget", "12s", "--out", "run", "--quiet", "--json"]
    began = time.monotonic()
    done = shell(*call).json
    assert time.monotonic() - began < 60
    assert done["seconds"] < 30
    epochs = [line["epoch"] for line in lines(shell.cwd / "run")]
    assert epochs == sorted(epochs)
    assert done["steps"] >= 2


@pytest.mark.parametrize("against", ["cells", "soft"])
def test_two_processes_train_what_one_does(against, tmp_path: Path, shapes: Path) -> None:
    extra = ["clusters=2"] if against == "cells" else ["against=soft"]
    words = ["train", str(shapes), "mcl", *TINY, "batch=15", "steps=3", "optimizer=sgd", *extra, "holdout=0", "--quiet"]
    beside(tmp_path, *words)
    one, two = (lines(tmp_path / name) for name in ("one", "two"))
    assert [line["loss"] for line in one] == pytest.approx([line["loss"] for line in two], rel=1e-3)
    weight, other = (load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "two"))
    for name in weight:
        torch.testing.assert_close(weight[name], other[name], rtol=1e-2, atol=1e-3)


def test_classifiers_are_taught_to_what_stages_leave(tmp_path: Path) -> None:
    labelled = {"x": PICTURES, "label": np.repeat(["blue", "red"], 24)}
    first = likeness.train(PICTURES, "simclr", out=tmp_path / "first", **SHORT)
    fields = {name: value for name, value in SHORT.items() if name not in ("encoder", "widths", "projection")}
    with pytest.raises(WrongCall, match="Finetune teaches a classifier, and stages have none"):
        next(likeness.steps(labelled, "mcl", method="finetune", labels="label", start=str(first.path), **fields))


def test_runs_of_another_modality_are_refused(tmp_path: Path) -> None:
    texts = [
        f"a {kind} in the {place}" for kind in ("dog", "cat", "bird") for place in ("house", "tree", "rain", "sun")
    ]
    how = {"steps": 1, "batch": 4, "holdout": 0, "device": "cpu", "workers": 1}
    first = likeness.train(texts, "simcse-ngrams", out=tmp_path / "first", **how)
    with pytest.raises(WrongCall, match=r"first was trained on text, and 'image' is image: name weights of that"):
        steps(after=[str(first.path)])
    with pytest.raises(WrongCall, match=r"first was trained on text, and 'image' is image"):
        next(likeness.steps(PICTURES, "simclr", start=str(first.path), **how))
    with pytest.raises(WrongCall, match=r"first was trained on text, and the source holds image: name a run of that"):
        next(likeness.steps(PICTURES, "distil", teacher=str(first.path), **how))
    with pytest.raises(WrongCall, match=r"made for another kind of data than text; .*encoders.text="):
        next(likeness.steps(texts, "simclr", encoder="residual", **how))


def test_waiting_is_a_share_in_every_stage(tmp_path: Path) -> None:
    run = likeness.train(PICTURES, "mcl", out=tmp_path / "run", **SHORT, stages=3)
    assert all(0 <= line["waiting"] <= 1 for line in lines(run.path))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "byol"}, "objective Align of BYOL weighs no negatives, which against=Soft changes: take Cells"),
        ({"method": "swav"}, "of SwAV weighs no negatives"),
        ({"pairing": "softnegatives", "vectors": "raw"}, "vectors=raw and against=Soft both tell of each item"),
    ],
)
def test_weighing_what_has_no_weight_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongCall, match=said):
        steps(against="soft", **fields)


def test_a_momentum_target_begins_where_its_stage_does() -> None:
    still = {"learning_rate": 1e-30, "weight_decay": 0, "momentum": 1.0, "begin": "previous", "queue": 16}
    state = steps(method="moco", **still)[-1].state()["learner"]
    target = "parts.target.copy."
    names = [name for name in state if name.startswith(f"{target}encoder.") and name.endswith("weight")]
    assert names
    assert all(state[name].equal(state[name.replace(target, "parts.tower.")]) for name in names)


def test_stages_that_read_items_in_different_ways_are_refused(tmp_path: Path) -> None:
    folders = [tmp_path / "small", tmp_path / "large"]
    for folder, size in zip(folders, (8, 16), strict=True):
        likeness.train(PICTURES, "simclr", out=folder, size=size, **{**SHORT, "steps": 1})
    with pytest.raises(WrongCall, match=r"small and .*large read items in different ways \(size\)"):
        steps(after=[*map(str, folders)], stages=3)


def test_roles_that_share_an_encoder_share_it_in_stages_that_exist(tmp_path: Path) -> None:
    both = [(f"a dog {n}", f"A DOG {n}") for n in range(40)]
    how = {"steps": 1, "batch": 16, "holdout": 0, "device": "cpu", "workers": 1}
    first = likeness.train(both, "ranking", out=tmp_path / "first", **how)
    run = likeness.train(both, "mcl", method="ranking", after=[str(first.path)], out=tmp_path / "run", **how)
    one, other = run.encoders.values()
    assert one.encoder is other.encoder


def test_what_a_queue_remembers_of_other_cells_is_no_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, loss = [], MoCo.loss

    def looking(method: MoCo, parts: Any, batch: Any) -> Any:
        past, (one, _) = parts.queue.read(), method.seen(batch).split(2)
        if "vector" in one.origin.known:
            weight = method.pairing(one, past).only_negatives().dense()[1]
            cell, other = one.origin.known["vector"], past.origin.known["vector"]
            assert weight.bool().equal((cell == other.T) & (one.origin.item[:, None] != past.origin.item))
            seen.append((int(weight.sum()), weight.numel()))
        return loss(method, parts, batch)

    with monkeypatch.context() as patched:
        patched.setattr(MoCo, "loss", looking)
        steps(method="moco", queue=24, clusters=2, steps=6)
    compared, asked = map(sum, zip(*seen, strict=True))
    assert 0 < compared < asked
    with pytest.raises(WrongCall, match=r"vectors=raw and against=Cells both tell of each item"):
        steps(method="moco", vectors="raw")


def test_time_for_the_end_is_taken_off_once_and_what_is_left_is_shared() -> None:
    first = Slot(60.0, began=2.0, share=1 / 2).end(finish=10.0)
    assert first == 26.0
    assert Slot(60.0, began=first, share=1.0).end(finish=10.0) == 50.0
    assert Slot(60.0, began=58.0, share=1.0).end(finish=10.0) == 58.0


def test_stopped_while_items_are_placed_it_has_the_whole_stage(tmp_path: Path) -> None:
    call = {"recipe": "mcl", "out": tmp_path / "run", **SHORT}
    likeness.train(PICTURES, **{**call, "out": tmp_path / "whole"})
    session = begin(PICTURES, Call(None, "mcl", (*SHORT.items(),)), tmp_path / "run", resume=False)
    said = []

    def heard(line: str) -> None:
        said.append(line)
        session.watch.stop.set()

    session.watch.say = heard
    with pytest.raises(Interrupted, match=r"stopped between two stages, all saved; go on with .*--resume"):
        list(session)
    assert said == ["stage 1 of 2 is trained: placing 48 items"]
    assert (tmp_path / "run/checkpoint/latest").read_text() == "step-000000003"
    likeness.train(PICTURES, **call, resume=True)
    one, other = (load_file(tmp_path / name / "encoder.safetensors") for name in ("whole", "run"))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_first_stage_that_was_replaced_is_not_gone_on_with(tmp_path: Path) -> None:
    for seed, name in enumerate(("first", "other")):
        likeness.train(PICTURES, "simclr", out=tmp_path / name, **SHORT, seed=seed)
    likeness.train(PICTURES, "mcl", out=tmp_path / "run", **SHORT, after=[str(tmp_path / "first")])
    (tmp_path / "first").rename(tmp_path / "away")
    (tmp_path / "other").rename(tmp_path / "first")
    with pytest.raises(Failed, match=r"first are others than this recipe began with"):
        next(likeness.steps(PICTURES, str(tmp_path / "run/recipe.yaml")))
    with pytest.raises(WrongCall, match=r"safetensors has weights and does not say of which network: name a run"):
        steps(after=[str(tmp_path / "first/encoder.safetensors")])
    with pytest.raises(WrongCall, match=r"merge=route mixes stages, and stages=1: leave one of the two out"):
        steps(stages=1, merge="route")


def test_a_first_stage_is_there_once_and_what_it_is_shown_otherwise_is_said(tmp_path: Path) -> None:
    first = str(likeness.train(PICTURES, "simclr", out=tmp_path / "first", **{**SHORT, "steps": 1}).path)
    with pytest.raises(WrongCall, match=r"first is there twice"):
        steps(after=[first, first], stages=3)
    for recipe, more in (("mcl", {"after": [first]}), ("distil", {"teacher": first, "size": 8})):
        for size in (8, 16):
            asked = (*{**SHORT, **more, "size": size}.items(),)
            session = begin(PICTURES, Call(None, recipe, asked), tmp_path / f"{recipe}-{size}", resume=False)
            said = f"{next(iter(more))}={first} is shown size=8 (trained with 16)"
            assert (said in session.plan.because) is (size == 8)


@pytest.mark.parametrize("merge", ["average", "route"])
def test_looking_at_what_is_kept_changes_nothing(merge: str) -> None:
    """Also not what is drawn next: whoever has dropout in his network would train another one."""
    for step in likeness.steps(PICTURES, "mcl", merge=merge, begin="previous", **SHORT):
        before = torch.get_rng_state()
        step.kept()
        assert torch.get_rng_state().equal(before)


def test_a_router_is_where_its_networks_are() -> None:
    recipe = Joined(encoders=(Residual(widths=(8,)), Residual(widths=(8,))), merge="route")
    nets = [encoder.filled({"channels": 3}).build().to("meta") for encoder in recipe.encoders]
    net = recipe.model_copy(update={"encoders": tuple(one.filled({"channels": 3}) for one in recipe.encoders)})
    assert net.joining(nets)(torch.zeros(2, 3, 8, 8, device="meta")).device.type == "meta"


@pytest.mark.parametrize(("more", "said"), [({}, True), ({"pairing": "softnegatives"}, False)])
def test_vectors_that_nothing_reads_are_told(more: dict[str, Any], said: bool, tmp_path: Path) -> None:
    asked = (*{**SHORT, "vectors": "raw", **more}.items(),)
    session = begin(PICTURES, Call(None, "simclr", asked), tmp_path / "run", resume=False)
    assert ("vectors=raw: nothing here reads them, as pairing=SoftNegatives would" in session.plan.because) is said
