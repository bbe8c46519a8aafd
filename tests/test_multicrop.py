"""Views that differ: large and small crops, unlike branches; the same by name in any company, right at every size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY, Shell, in_two, lines
from PIL import Image as Pillow
from torch import Tensor, nn

from likeness.api import steps
from likeness.catalogue import catalogue
from likeness.choice import plan_of
from likeness.encoders import Residual, Timm
from likeness.engine import Engine, with_shared_norm
from likeness.errors import WrongCall
from likeness.journey import Watch
from likeness.keyvalue import pair
from likeness.modalities import Image, ImageAugmentation, Names, Several
from likeness.parts import Tower, mlp
from likeness.plans import Once
from likeness.sources import read
from likeness.sources.base import Listed
from likeness.sources.columns import Column
from likeness.sources.feed import Feed
from likeness.sources.sampling import Shuffle
from likeness.stacks import Sizes, encoded
from likeness.views import Views

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"resolution": 0.43, "crop": (0.05, 0.14)}
CROPS = Several(parts={"large": ImageAugmentation(crop=(0.14, 1)), "small": ImageAugmentation(views=6, **SMALL)})
DINO = Several(
    parts={
        "first": ImageAugmentation(views=1, blur=1),
        "second": ImageAugmentation(views=1, blur=0.1, solarise=0.2),
        "small": ImageAugmentation(views=6, **SMALL),
    }
)
WORD = (
    "views.image={kind: Several, parts: {large: {kind: ImageAugmentation}, "
    "small: {kind: ImageAugmentation, views: 6, resolution: 0.43, crop: [0.05, 0.14]}}}"
)
CHANCE = np.random.default_rng(0)
UNIFORM = list(CHANCE.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8))
MIXED = [CHANCE.integers(0, 256, (40 + n % 7, 60 - n % 11, 3), dtype=np.uint8) for n in range(12)]
KINDS = {"native": UNIFORM, "mixed": MIXED}
every = pytest.mark.parametrize("items", KINDS.values(), ids=KINDS)


def source(items: Sequence[Any], *roles: str) -> Listed:
    stored = dict.fromkeys(roles or ("image",), items)
    return Listed("pictures", [str(n) for n in range(len(items))], dict.fromkeys(stored, "Image"), pa.table({}), stored)


def feed(items: Sequence[Any], augmentation: Any = CROPS, roles: tuple[str, ...] = ("image",), **how: Any) -> Feed:
    modality = Image(size=32).fitted(list(items))
    suited = augmentation.suited(modality)
    settings = {"batch": 5, "seed": 3, "room": 0, **how}
    each = dict.fromkeys(roles, modality), dict.fromkeys(roles, suited)
    return Feed(source(items, *roles), *each, Shuffle(), **settings)


def seen(made: Feed, step: int = 1, size: int | None = None, role: str = "image") -> Views:
    return made.draw(made.prepare(step, size), CPU)[role]


def pictures(views: Views) -> dict[tuple[int, int], Tensor]:
    """(item, view) -> what it shows."""
    return {
        (int(item), int(view)): row
        for part in views.sizes()
        for item, view, row in zip(part.origin.item, part.origin.view, part.data, strict=True)
    }


def same(one: dict[tuple[int, int], Tensor], two: dict[tuple[int, int], Tensor]) -> bool:
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


# What is drawn --------------------------------------------------------------------------------------------------------


@every
def test_two_large_and_six_small_crops(items: list[np.ndarray]) -> None:
    views = seen(feed(items))
    assert CROPS.views == 8
    assert len(views) == 8 * 5
    assert views.origin.view.tolist() == [n for n in range(8) for _ in range(5)]
    assert views.origin.item.tolist() == views.origin.item[:5].tolist() * 8
    large, small = views.sizes()
    assert (large.data.shape, small.data.shape) == ((10, 3, 32, 32), (30, 3, 16, 16))
    assert set(large.origin.view.tolist()) == {0, 1}
    assert set(small.origin.view.tolist()) == {2, 3, 4, 5, 6, 7}
    assert all(row.isfinite().all() for row in pictures(views).values())


@every
def test_parts_draw_what_one_augmentation_of_all_these_views_would(items: list[np.ndarray]) -> None:
    whole = ImageAugmentation(views=5, blur=0.5, solarise=0.2)
    parts = {name: whole.model_copy(update={"views": n}) for name, n in {"a": 2, "b": 1, "c": 2}.items()}
    one, several = seen(feed(items, whole)), seen(feed(items, Several(parts=parts)))
    assert several.data.equal(one.data)
    assert several.origin.view.equal(one.origin.view)


@every
def test_rows_keep_their_places_where_parts_of_one_size_lie_apart(items: list[np.ndarray]) -> None:
    large, small = (ImageAugmentation(resolution=share) for share in (1, 0.5))
    parts = {"a": large.model_copy(update={"views": 1}), "b": small, "c": large}
    views = seen(feed(items, Several(parts=parts)))
    assert views.origin.view.tolist() == [n for n in range(5) for _ in range(5)]
    whole, halves = (pictures(seen(feed(items, part.model_copy(update={"views": 5})))) for part in (large, small))
    assert same(pictures(views), {name: (halves if name[1] in (1, 2) else whole)[name] for name in whole})
    assert [set(part.origin.view.tolist()) for part in views.sizes()] == [{0, 3, 4}, {1, 2}]


def test_small_crops_are_the_size_that_is_asked_for() -> None:
    """In multiples of 8 pixels, as SwAV's 96 of 224, never fewer than 8, never more than the encoder's."""
    small = ImageAugmentation(resolution=0.43)
    assert [small.sides(size) for size in (224, 64, 32, 16, 8)] == [(96,), (24,), (16,), (8,), (8,)]
    assert ImageAugmentation().sides(30) == (30,)
    assert ImageAugmentation(resolution=0.99).sides(30) == (30,)
    assert CROPS.sides(224) == (224, 96)
    assert CROPS.sides(8) == (8,)


@every
def test_they_grow_together(items: list[np.ndarray]) -> None:
    for size, sides in ((16, [16, 8]), (24, [24, 8]), (32, [32, 16])):
        assert [part.data.shape[-1] for part in seen(feed(items), size=size).sizes()] == sides
    assert isinstance(seen(feed(items), size=8).data, Tensor)  # where all sizes are one there is one tensor


@every
def test_views_are_the_same_in_any_batch_worker_and_process(items: list[np.ndarray]) -> None:
    once = pictures(seen(feed(items, DINO, batch=12), step=0))
    threads, memory = feed(items, DINO, batch=12, workers=3), feed(items, DINO, batch=12, room=1e9)
    for made in (threads, memory):
        assert same(pictures(seen(made, step=0)), once)
        made.close()
    parts: dict[tuple[int, int], Tensor] = {}
    for step in range(4):
        for rank in range(4):  # of 3 items one process has none
            parts |= pictures(seen(feed(items, DINO, batch=3, rank=rank, world=4), step))
    assert same(parts, once)
    assert len(once) == 12 * 8


def test_unlike_branches_differ_as_they_are_told() -> None:
    """BYOL's: one part is always grey, the other never; both are of one size, and pass the encoder together."""
    parts = {"first": ImageAugmentation(views=1, grey=1), "second": ImageAugmentation(views=1, grey=0)}
    views = seen(feed(UNIFORM, Several(parts=parts)))
    assert isinstance(views.data, Tensor)
    grey = [bool((unit(row).std(0) < 1e-5).all()) for row in views.data]
    assert grey == [True] * 5 + [False] * 5
    first, second = views.split(2)
    assert first.data.equal(views.data[:5])
    assert second.data.equal(views.data[5:])


def unit(row: Tensor) -> Tensor:
    """(C, S, S) where black is 0 and white 1."""
    modality = Image(size=32).fitted(UNIFORM)
    return row * torch.tensor(modality.std)[:, None, None] + torch.tensor(modality.mean)[:, None, None]


def test_two_columns_of_images_are_seen_differently() -> None:
    made = feed(UNIFORM, CROPS, ("left", "right"))
    left, right = (pictures(seen(made, role=role)) for role in ("left", "right"))
    assert {view for _, view in left} == set(range(8))
    assert {view for _, view in right} == set(range(8, 16))
    assert not any(row.equal(right[item, view + 8]) for (item, view), row in left.items())


def test_an_item_is_decoded_once_for_all_parts() -> None:
    asked: Counter[int] = Counter()

    def raw(row: int) -> Any:
        asked[row] += 1
        return MIXED[row]

    modality = Image(size=32).fitted(MIXED)
    items = source(Column(12, raw))
    made = Feed(items, {"image": modality}, {"image": DINO.suited(modality)}, Shuffle(), batch=12, seed=0, room=0)
    assert len(seen(made, step=0)) == 12 * 8
    assert asked == dict.fromkeys(range(12), 1)


def test_small_images_go_to_the_device_once() -> None:
    modality = Image(size=32).fitted(UNIFORM)
    names = Names(0, 0, torch.arange(12))
    prepared = DINO.suited(modality).prepare(UNIFORM, names, modality, None)
    assert prepared.data.shape == (12, 32, 32, 3)
    large = Image(size=32).fitted(MIXED)
    cut = DINO.suited(large).prepare(MIXED, names, large, None).to(CPU)
    assert [part.shape[:2] for part in cut.data] == [(12, 32), (12, 32), (72, 16)]


def test_strengths_are_chosen_for_every_part() -> None:
    small, large = (CROPS.suited(Image(size=size)).parts.values() for size in (64, 96))
    assert [part.blur for part in small] == [0, 0]  # type: ignore[attr-defined]
    assert [part.blur for part in large] == [0.5, 0.5]  # type: ignore[attr-defined]
    assert set(CROPS.operations) == {"crop", "flip", "grey"}
    assert "blur" in CROPS.suited(Image(size=96)).operations


# What comes of it -----------------------------------------------------------------------------------------------------


@every
def test_views_are_cut_apart_and_joined(items: list[np.ndarray]) -> None:
    views = seen(feed(items, DINO))
    whole = pictures(views)
    each = views.split(8)
    assert [set(view.origin.view.tolist()) for view in each] == [{n} for n in range(8)]
    assert same({name: row for view in each for name, row in pictures(view).items()}, whole)
    assert same(pictures(Views.cat(*reversed(each))), whole)
    order = torch.randperm(len(views))
    assert same(pictures(views[order].to(CPU)), whole)
    assert [len(part) for part in views[order].sizes()] == [10, 30]


def test_a_process_without_rows_has_batches_of_the_same_shape() -> None:
    empty = seen(feed(UNIFORM, batch=2, rank=2, world=3))
    assert len(empty) == 0
    assert isinstance(empty.data, Sizes)
    assert [part.data.shape for part in empty.sizes()] == [(0, 3, 32, 32), (0, 3, 16, 16)]
    assert [len(part.sizes()) for part in empty.split(8)] == [2] * 8


def net() -> nn.Module:
    torch.manual_seed(0)
    return Residual(widths=(6, 8), channels=3).build()


def test_a_size_that_nobody_has_leaves_batch_norm_alone() -> None:
    views, one, two = seen(feed(UNIFORM)), net(), net()
    large = views.split(8)[0]
    assert isinstance(large.data, Sizes)
    assert encoded(large.data, one).equal(two(views.sizes()[0].data[:5]))
    for name, buffer in one.named_buffers():
        assert buffer.equal(two.get_buffer(name)), name
    assert encoded(large.data[:0], one).shape == (0, 8)


def test_large_crops_of_two_parts_pass_batch_norm_together() -> None:
    views, one, two = seen(feed(UNIFORM, DINO)), net(), net()
    found = encoded(views.data, one)
    assert found[:10].equal(two(views.sizes()[0].data))
    assert found[10:].equal(two(views.sizes()[1].data))


def tower(split: int | None = None) -> Tower:
    torch.manual_seed(0)
    return Tower(net(), mlp(8, 16, 4), split).double()


def shares(views: Views, first: int) -> list[Views]:
    data = Sizes(tuple(part.double() for part in views.data.parts), views.data.order)
    whole = Views(data, views.origin)
    items = whole.origin.item.unique(sorted=True)[:first]
    mine = torch.isin(whole.origin.item, items)
    return [whole[mine], whole[~mine]]


def gradients(made: nn.Module, views: Views) -> dict[str, Tensor]:
    """Of a loss on all views at once, then on each view by itself, as methods have it whose branches differ."""
    total = sum((made(part).vector.square().sum() for part in [views, *views.split(8)]), torch.zeros(()).double())
    total.backward()
    return {name: p.grad for name, p in made.named_parameters() if p.grad is not None} | dict(made.named_buffers())


CASES: list[tuple[int, int | None]] = [(3, None), (5, None), (3, 7), (5, 7)]  # items of the first process, split


def half(rank: int) -> dict[Any, Any]:
    found = {}
    for first, split in CASES:
        mine = shares(seen(feed(UNIFORM)), first)[rank]
        found[first, split] = gradients(with_shared_norm(tower(split)), mine)
    return found


def test_two_processes_equal_one_whoever_has_which_rows(tmp_path: Path) -> None:
    one, two = in_two(half, tmp_path)
    whole = Views.cat(*shares(seen(feed(UNIFORM)), 3))
    alone = gradients(tower(), whole)
    for case in CASES:
        a, b = one[case], two[case]
        moved = [name for name in alone if "running" in name]
        assert all(a[name].equal(b[name]) for name in moved)
        if case[1]:  # chunks have statistics of their own: that nobody waits for ever is all
            continue
        for name in moved:
            torch.testing.assert_close(a[name], alone[name])
        for name, _ in tower().named_parameters():
            torch.testing.assert_close(a[name] + b[name], alone[name], rtol=1e-9, atol=1e-9)


# Training -------------------------------------------------------------------------------------------------------------


def test_a_run_with_small_crops(shell: Shell, shapes: Path) -> None:
    words = ["train", shapes, "simclr", *TINY, WORD, "views.small.views=3", "steps=3", "--out", "run", "--quiet"]
    assert shell(*words).code == 0
    run = shell.cwd / "run"
    assert lines(run)[-1]["chance"] == pytest.approx(np.log(16 * 5 - 1))  # 16 items, 5 views
    plan = Once.from_yaml(run / "recipe.yaml")
    assert plan.data.views["image"].views == 5
    assert plan.data.views["image"].suited(plan.data.modality["image"]) == plan.data.views["image"]


def test_it_goes_on_where_it_stopped(shapes: Path) -> None:
    plan = plan_of("simclr", [pair(word) for word in [*TINY, WORD, "steps=4", "grow=[0.5,1]"]])
    engine, items = Engine(CPU), read(shapes)
    plan = plan.fitted(items, engine)
    states = [step.state() for step in plan.run(items, engine, Watch())]
    on = [step.state() for step in plan.run(items, engine, Watch(), states[1])]
    assert len(on) == 2
    for name, weight in states[-1]["learner"].items():
        assert on[-1]["learner"][name].equal(weight), name


def test_the_sheet_shows_every_part(shell: Shell, shapes: Path) -> None:
    done = shell("doctor", shapes, "simclr", *TINY, WORD, "--views", "sheet.png", "--json")
    assert done.json["plan"]["views"] == ["crop", "flip", "colour", "grey"]
    assert any("views.image={kind: Several" in command for command in done.json["next"])
    plain = shell("doctor", shapes, "simclr", *TINY, "--views", "plain.png", "--json")
    assert plain.code == 0
    both, one = (np.asarray(Pillow.open(shell.cwd / name)) for name in ("sheet.png", "plain.png"))
    assert both.shape[0] > 2 * one.shape[0]
    assert both.shape[2] == 3
    assert both[one.shape[0] :].std() > 20


def test_parts_are_reached_and_borrowed_by_name() -> None:
    book = catalogue()

    def changed(*words: str) -> Any:
        tree = book.overridden(book.recipe("simclr"), [pair(word) for word in words], "simclr")
        return Once.of(tree).data.views["image"]

    assert changed(WORD, "views.image.small.views=4", "small.crop=[0.1,0.2]").parts["small"].views == 4
    assert changed(WORD).parts["small"].resolution == 0.43
    assert changed("views.image=swav") == Once.of(book.recipe("swav")).data.views["image"]
    assert changed(WORD, "views.image=imageaugmentation") == ImageAugmentation()
    tree = book.overridden(book.recipe("simclr"), [pair("objective=triplet"), pair("optimizer=swav")], "simclr")
    assert tree["method"]["objective"] == book.whole({"kind": "Triplet"}, "Objective")
    assert tree["optimizer"] == book.whole(book.recipe("swav"))["optimizer"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([WORD, "views=4"], "data.views.image.parts.large.views or data.views.image.parts.small.views: say which"),
        ([WORD, "views.colour=0"], "say which"),
        ([WORD, "views.smal.views=4"], "did you mean 'small'"),
        ([WORD, "views.small.resolution=0"], "above 0"),
        (
            ["views.image={kind: Several, parts: {large: {views: 2}}}"],
            "add `kind`, one of AudioAugmentation, ImageAugmentation, Several",
        ),
        (["views.image=severall"], "did you mean 'Several'"),
        (["views.image=null"], "expected AudioAugmentation or ImageAugmentation or Several"),
        (["views.image=Several"], "parts: give each part a name and an augmentation"),
    ],
)
def test_what_cannot_be_right_is_said_on_one_line(words: list[str], told: str) -> None:
    with pytest.raises(WrongCall) as said:
        plan_of("simclr", [pair(word) for word in words])
    assert told in str(said.value)
    assert "\n" not in str(said.value)


def test_parts_have_no_parts() -> None:
    with pytest.raises(WrongCall, match="inner has parts itself: name them here"):
        Several.of({"parts": {"inner": CROPS.tree()}})


def test_a_recipe_comes_back_from_yaml(tmp_path: Path) -> None:
    DINO.to_yaml(tmp_path / "views.yaml")
    assert Several.from_yaml(tmp_path / "views.yaml") == DINO
    assert list(Several.from_yaml(tmp_path / "views.yaml").parts) == ["first", "second", "small"]


class Patches(nn.Module):
    """Takes pictures whose side is a multiple of 8 and at least 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 8 or x.shape[-1] < 16:
            raise ValueError(f"side {x.shape[-1]} does not fit.")
        return x.mean((2, 3)) * self.scale


def test_an_encoder_that_takes_no_small_crops_is_refused_at_once(arrays: Path) -> None:
    words: dict[str, Any] = {"projection": [16, 8], "batch": 16, "steps": 1, "precision": "float32"}
    words["views.image"] = CROPS.tree()
    with pytest.raises(WrongCall, match=r"views of 8 of 16 pixels: side 8 does not fit; .* of 16: resolution=1$"):
        next(steps(arrays, "simclr", encoder=Patches(), **words))
    with pytest.raises(WrongCall, match=r"views of 8 of 24 pixels: side 8 does not fit; .* of 16: resolution=0.667"):
        next(steps(arrays, "simclr", encoder=Patches(), size=24, **words))
    words["views.small.resolution"] = 0.667
    assert next(steps(arrays, "simclr", encoder=Patches(), size=24, **words)).loss > 0


def test_transformers_of_timm_take_small_crops_where_there_are_any(arrays: Path) -> None:
    recipe = Timm(name="vit_tiny_patch16_224", channels=3, size=32)
    free = recipe.filled({"any_size": True})
    torch.manual_seed(0)
    fixed_net = recipe.build().eval()
    free_net = free.build().eval()
    free_net.load_state_dict(fixed_net.state_dict())
    with torch.inference_mode():
        assert free_net(torch.zeros(2, 3, 16, 16)).shape == (2, recipe.dim)
        x = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(free_net(x), fixed_net(x))
        with pytest.raises(AssertionError):
            fixed_net(torch.zeros(2, 3, 16, 16))
    assert "dynamic_img_size=True" in free.code
    items = read(arrays)
    for word, expected in ((WORD, True), ("views=2", False)):
        data = plan_of("simclr", [pair(word)]).data.fitted(items)
        assert recipe.filled(data.facts(items)).any_size is expected


def test_views_grow_where_every_size_on_the_way_fits(arrays: Path) -> None:
    """From 16 over 20 to 24 pixels: the second fits the residual net alone, the others train at full size."""
    words: dict[str, Any] = {"projection": [16, 8], "batch": 16, "precision": "float32", "size": 24, "steps": 6}
    grown = [pair(word) for word in [*TINY, "size=24", "grow=[0.67,1]", "steps=6"]]
    plan = plan_of("simclr", grown).fitted(read(arrays), Engine(CPU))
    assert {plan.growth.at(n / 6) for n in range(6)} == {16, 20, 24}
    assert len(list(steps(arrays, "simclr", encoder=Patches(), grow=[0.67, 1], **words))) == 6
