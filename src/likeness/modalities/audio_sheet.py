"""A picture that shows what an augmentation does to sounds: views of a few recordings, and each operation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image as Pillow
from torch import Tensor

from .audio import Audio
from .audio_augment import OPERATIONS, AudioAugmentation
from .audio_looks import coloured
from .base import Names
from .sheet import OFF, TILE, laid_out
from .waves import Wave

NONE: Mapping[str, Any] = {name: None if name == "crop" else 0.0 for name in OPERATIONS}
SURE: Mapping[str, Any] = {"noise": 1.0}  # what makes an operation certain
SPAN = 2.5  # standard deviations from the mean that are drawn black, and light
UNITS = {"gain": "dB", "tone": "dB"}


def sheet(
    modality: Audio, augmentation: AudioAugmentation, items: Sequence[Wave], names: Names, views: int = 4
) -> Pillow.Image:
    """One row an item: unaugmented, some views as training draws them, then each operation alone; as for images."""
    views, rows = max(views, augmentation.views), len(items)
    full = _tiles(modality, augmentation.model_copy(update={"views": views}), items, names)
    length = f"{modality.seconds:g} s"
    columns = [("original", length, [_shown(view) for view in modality.plain(items)], True)]
    columns += [(f"view {n + 1}", length, full[n * rows : (n + 1) * rows], True) for n in range(views)]
    for name in OPERATIONS:
        tiles = _tiles(modality, only(augmentation, name), items, names)
        columns.append((name.replace("_", " "), _note(augmentation, name), tiles, bool(getattr(augmentation, name))))
    return laid_out(columns, rows, 1 + views)


def only(augmentation: AudioAugmentation, name: str) -> AudioAugmentation:
    """One operation, as strong as it is in the augmentation or, where it is off there, by default, and always done."""
    strength = getattr(augmentation, name) or AudioAugmentation.model_fields[name].default
    return augmentation.model_copy(update={**NONE, name: strength, **({name: 1.0} if name in SURE else {}), "views": 1})


def _note(augmentation: AudioAugmentation, name: str) -> str:
    """How strong an operation is, or how often it is done."""
    value = getattr(augmentation, name)
    if not value:
        return OFF
    if name == "crop":
        return f"{100 * value[0]:.0f} to {100 * value[1]:.0f} %"
    return f"{value:g} {UNITS[name]}" if name in UNITS else f"{100 * value:.0f} %"


def _tiles(modality: Audio, augmentation: AudioAugmentation, items: Sequence[Wave], names: Names) -> list[Pillow.Image]:
    prepared = augmentation.prepare(items, names, modality, None)
    return [_shown(view) for view in augmentation.draw(prepared, names, modality, None)]


def _shown(view: Tensor) -> Pillow.Image:
    """What an encoder is given, (1, mels, frames), as a picture as wide as a tile."""
    picture = coloured((view[0].numpy() / (2 * SPAN)) + 0.5)
    height = min(round(TILE * picture.height / picture.width), TILE)
    return picture.resize((TILE, height), Pillow.Resampling.NEAREST)
