"""Views drawn by the triton kernels, run by triton's interpreter in a process of its own, are those of torch's code."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from likeness.accelerator import fuses, sent
from likeness.modalities import Image, ImageAugmentation, Names, Several
from likeness.modalities.fused import OPTIONS, STORED, Shape, paints

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: it has no wheel here")

EVERYTHING = {"vertical_flip": 0.5, "colour": 0.8, "grey": 0.3, "blur": 0.5, "solarise": 0.5}
WHITE = {np.uint8: 255, np.uint16: 65535, np.float32: 7.5}
CPU = torch.device("cpu")
CLOSE = 1e-5  # where a view's numbers have a deviation of about 1
Interpreted = Callable[..., Any]  # a function of this module and its arguments -> what it returns there


def pictures(count: int, height: int, width: int, channels: int, kind: Any = np.uint8) -> list[np.ndarray]:
    chance = np.random.default_rng(0)
    return [(chance.random((height, width, channels)) * WHITE[kind]).astype(kind) for _ in range(count)]


def drawn(augmentation: Any, modality: Image, items: list[np.ndarray], fused: bool, device: torch.device = CPU) -> Any:
    names = Names(1, 2, torch.arange(len(items)) + 10)
    prepared = augmentation.prepare(items, names, modality, None).to(device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_FUSED", str(int(fused)))
        assert all(paints(rows) == fused for rows in tree_leaves(prepared.data))
        return augmentation.draw(prepared, names, modality, None)


def apart(items: list[np.ndarray], side: int, whole: bool, settings: dict[str, Any]) -> float:
    """The largest difference of any number of any view, of images handed over whole or as cut."""
    modality = Image(size=side).fitted(items).model_copy(update={} if whole else {"native": None})
    assert (modality.native is not None) == whole
    augmentation = ImageAugmentation(**settings).suited(modality)
    ours, torchs = (drawn(augmentation, modality, items, fused) for fused in (True, False))
    assert ours.isfinite().all()
    return largest(ours, torchs)


def largest(one: Tensor, other: Tensor) -> float:
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    return float((one - other).abs().max()) if one.numel() else 0.0


def of_kind(channels: int, kind: Any, whole: bool, settings: dict[str, Any]) -> float:
    return apart(pictures(4, 21, 18, channels, kind), 19, whole, EVERYTHING | settings)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_any_channels(interpreted: Interpreted, channels: int, whole: bool) -> None:
    assert interpreted(of_kind, channels, np.uint8, whole, {}) < CLOSE


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_any_depth(interpreted: Interpreted, kind: Any, whole: bool) -> None:
    assert interpreted(of_kind, 3, kind, whole, {}) < CLOSE


ALONE = {"crop": 0, "flip": 0, "vertical_flip": 0, "colour": 0, "grey": 0, "blur": 0, "solarise": 0}
SINGLE: list[dict[str, Any]] = [
    {"crop": 0.1},
    {"flip": 1},
    {"vertical_flip": 1},
    {"colour": 1, "colour_probability": 1},
    {"colour": 2.5, "colour_probability": 1},
    {"colour": 1, "colour_probability": 1, "hue": "linear"},
    {"grey": 1},
    {"blur": 1, "blur_sigma": (0.1, 3)},
    {"solarise": 1, "solarise_threshold": 0.3},
]


@pytest.mark.parametrize("settings", SINGLE, ids=str)
def test_each_operation_alone(interpreted: Interpreted, settings: dict[str, Any]) -> None:
    assert interpreted(of_kind, 3, np.uint8, "crop" in settings, ALONE | settings) < CLOSE


def of_sizes() -> list[float]:
    """Shrunk to a fourth, magnified, one tile, one row and column more than tiles have; nothing at all."""
    found = [apart(pictures(2, *shape, 3), side, True, EVERYTHING) for *shape, side in ((24, 20, 8), (9, 16, 33))]
    found += [apart(pictures(3, 40, 30, 3), side, False, EVERYTHING) for side in (8, 16, 33)]
    modality, few = Image(size=16).fitted(pictures(2, 20, 20, 3)), ImageAugmentation()
    for native in (modality.native, None):
        alike = modality.model_copy(update={"native": native})
        ours, torchs = (drawn(few.suited(alike), alike, [], fused) for fused in (True, False))
        assert len(ours) == 0
        found.append(largest(ours, torchs))
    return found


def test_any_size(interpreted: Interpreted) -> None:
    assert max(interpreted(of_sizes)) < CLOSE


def of_crops(whole: bool) -> float:
    """Multi-crop: large views and small ones, of one reading."""
    items = pictures(3, 24, 24, 3)
    modality = Image(size=24).fitted(items).model_copy(update={} if whole else {"native": None})
    large = ImageAugmentation(**EVERYTHING, views=2)
    small = ImageAugmentation(**EVERYTHING, views=3, resolution=0.4, crop=(0.05, 0.3))
    several = Several(parts={"large": large, "small": small}).suited(modality)
    ours, torchs = (drawn(several, modality, items, fused) for fused in (True, False))
    assert [len(part) for part in ours.parts] == [6, 9]
    assert ours.order.equal(torchs.order)
    return max(largest(a, b) for a, b in zip(ours.parts, torchs.parts, strict=True))


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_multi_crop(interpreted: Interpreted, whole: bool) -> None:
    assert interpreted(of_crops, whole) < CLOSE


def in_company() -> bool:
    """Whether a view has the same bits in every batch."""
    items, names = pictures(5, 20, 20, 3), torch.tensor([4, 0, 3, 1, 2])
    modality = Image(size=16).fitted(items)
    augmentation = ImageAugmentation(**EVERYTHING).suited(modality)

    def views(chosen: Tensor) -> Tensor:
        named = Names(1, 2, chosen)
        prepared = augmentation.prepare([items[n] for n in chosen.tolist()], named, modality, None)
        assert paints(prepared.data)
        return augmentation.draw(prepared, named, modality, None).unflatten(0, (2, len(chosen)))

    whole = views(torch.arange(5))
    return all(views(part).equal(whole[:, part]) for part in (names, names[:1], names[1:]))


def test_a_view_has_the_same_bits_in_any_batch(interpreted: Interpreted) -> None:
    assert interpreted(in_company)


# --- where it serves --------------------------------------------------------------------------------------------------


def where_it_paints() -> list[bool]:
    found = [paints(torch.zeros(1, 8, 8, 3, dtype=kind)) for kind in (*STORED, torch.float64, torch.int32)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_FUSED", "0")
        return [*found, paints(torch.zeros(1, 8, 8, 3))]


def test_it_paints_where_it_can(interpreted: Interpreted) -> None:
    assert interpreted(where_it_paints) == [True, True, True, False, False, False]
    assert where_it_paints() == [False] * 6  # here is no GPU and no interpreter
    assert not fuses(torch.device("meta"))


def test_what_is_sent_arrives() -> None:
    one, other = sent((torch.arange(3), torch.ones(2)), torch.device("cpu"))
    assert one.tolist() == [0, 1, 2]
    assert other.tolist() == [1, 1]


FORMS: list[tuple[str, str, dict[str, Any]]] = [
    ("sample", "u8", {"CHANNELS": 3}),
    ("sample", "u16", {"CHANNELS": 13}),
    ("mean_luma", "u8", {"CHANNELS": 3}),
    ("mean_luma", "fp32", {"CHANNELS": 13}),
    ("paint", "u8", {"CHANNELS": 3, "LINEAR": False}),
    ("paint", "u16", {"CHANNELS": 3, "LINEAR": True}),
    ("paint", "fp32", {"CHANNELS": 13, "LINEAR": False}),
    ("smooth", "", {"CHANNELS": 3, "LAST": False}),
    ("smooth", "", {"CHANNELS": 3, "LAST": True}),
]


@pytest.mark.parametrize(("name", "stored", "fixed"), FORMS, ids=str)
def test_they_compile_for_an_h100(
    name: str, stored: str, fixed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the interpreter takes, the compiler may not; and it should see that four numbers can be written at once."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget

    from likeness.modalities import kernels_paint

    kernel, shape = getattr(kernels_paint, name), Shape.on(torch.device("cuda"))
    high, broad = shape.along if fixed.get("LAST") else shape.down
    tiles = {"BLOCK": shape.sampled if name == "sample" else shape.painted, "HIGH": high, "BROAD": broad}
    fixed = {n: value for n, value in (fixed | tiles).items() if n in kernel.arg_names}
    kinds = dict.fromkeys(("numbers", "means", "turns", "white", "views", "inputs", "outputs"), "*fp32")
    kinds |= dict.fromkeys(("pixels", "images"), f"*{stored}") | {"rows": "*i32"}
    kinds |= dict.fromkeys(("low", "scale", "threshold"), "fp32") | dict.fromkeys(fixed, "constexpr")
    signature = {n: kinds.get(n, "i32") for n in kernel.arg_names}
    aligned = [n for n, each in enumerate(kernel.arg_names) if signature[each].startswith("*") or each == "side"]
    source = triton.compiler.ASTSource(kernel, signature, fixed, {(n,): [["tt.divisibility", 16]] for n in aligned})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=OPTIONS)
    assert ("st.global.v4.b32" in made.asm["ptx"]) == (name != "mean_luma")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
@pytest.mark.parametrize("channels", [3, 13])
@pytest.mark.parametrize("kind", WHITE)
def test_on_a_gpu_they_are_torchs(kind: Any, channels: int, whole: bool) -> None:
    items = pictures(40, 60, 64, channels, kind)
    modality = Image(size=56).fitted(items).model_copy(update={} if whole else {"native": None})
    augmentation = ImageAugmentation(**EVERYTHING).suited(modality)
    on_cpu = drawn(augmentation, modality, items, False)
    ours, again = (drawn(augmentation, modality, items, True, torch.device("cuda")) for _ in range(2))
    assert ours.equal(again)
    assert largest(ours.cpu(), on_cpu) < 10 * CLOSE  # a GPU's division and exponential are rougher
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn(augmentation, modality, items, True, torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
