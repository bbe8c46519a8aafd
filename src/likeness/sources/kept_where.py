"""Where items will be kept once they are read, and why, in words: foretold from a few of them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..modalities.base import Augmentation, Modality, Unreadable
from .base import Source
from .kept import Cache, device_room, room
from .kept_on_disk import SPARE, place_of
from .kept_values import bytes_of
from .kept_worth import TRIALS, Worth, pays

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
MILLI = 1e3
NOWHERE = "nowhere, each is read anew"


@dataclass(frozen=True)
class Told:
    """What a few items tell of all. bytes: that all take; decoding, reading: seconds an item; reading: None: no file"""

    bytes: float
    decoding: float
    reading: float | None


def foretold(
    source: Source,
    modalities: Mapping[str, Modality],
    views: Mapping[str, Augmentation],
    cache: Cache,
    device: torch.device,
) -> str:
    """One line: the place, how much it will hold, and why it was chosen; of each role where there are several."""
    each = {
        role: _place(source, role, modality, views[role], cache, device)
        for role, modality in modalities.items()
        if role in source.roles
    }
    alike: dict[str, list[str]] = {}
    for role, said in each.items():
        alike.setdefault(said, []).append(role)
    return "; ".join(f"{' and '.join(roles)}: {said}" if len(alike) > 1 else said for said, roles in alike.items())


def _place(
    source: Source, role: str, modality: Modality, views: Augmentation, cache: Cache, device: torch.device
) -> str:
    found = None if cache == "none" else told(source, role, modality)
    if found is None:
        return f"{NOWHERE}, as asked (cache=none)" if cache == "none" else f"{NOWHERE}: the first ones cannot be read"
    if not math.isfinite(found.bytes):
        return f"{NOWHERE}, in next to no time"
    size, most = f"{sized(found.bytes)} in all", room() / len(source.roles)
    if cache != "disk" and found.bytes <= most:
        there = device_room(device) if views.as_read(modality) is not None else 0.0
        place, least = (f"on the {device.type} device", there) if found.bytes < there else ("in RAM", most)
        return f"{place}: {size}, of {sized(least)} that they may take there"
    large = f"{size}, more than RAM may take ({sized(most)})" if cache != "disk" else f"{size}, as asked (cache=disk)"
    if cache == "memory":
        return f"{NOWHERE}: {large}, and cache=memory allows no file"
    path, why = _file(source, role, modality, found, cache == "disk")
    return f"{f'in {path}' if path else NOWHERE}: {large}; {why}"


def _file(source: Source, role: str, modality: Modality, found: Told, asked: bool) -> tuple[Path | None, str]:
    """The file's path, None where there will be none; and why."""
    place = place_of(source.name, role, modality.reading)
    if place is None:
        return None, "there is no folder for a file (LIKENESS_CACHE)"
    if found.reading is None:
        return None, "a file would save no time"
    data, most = place[0].with_suffix(".data"), place[1]
    have = data.stat().st_size if data.exists() else 0
    fitting = min(most, have + SPARE * shutil.disk_usage(data.parent).free)
    if found.bytes > fitting:
        return None, f"a file may take {sized(fitting)} (LIKENESS_CACHE_SIZE, and what is free)"
    decoding, reading = (f"{MILLI * seconds:.2g} ms" for seconds in (found.decoding, found.reading))
    return data if asked or pays(found.decoding, found.reading) else None, (
        f"an item takes {decoding} to decode, {reading} to read back from a file"
    )


def told(source: Source, role: str, modality: Modality) -> Told | None:
    """What the first items that can be read tell; None where none of some can."""
    worth, sizes = Worth(len(source)), []
    for row in range(min(len(source), TRIALS * TRIALS)):
        try:
            raw = source.raw(role, row)
            if raw is not None:
                sizes.append(bytes_of(worth.timed(raw, modality.read)))
        except (Unreadable, OSError):
            continue
        if len(sizes) == TRIALS:
            break
    if not sizes:
        return None
    whole = sum(sizes) / len(sizes) * len(source)
    return Told(whole, worth.decoding, worth.reading if worth.storable else None)


def sized(many: float) -> str:
    """'3.2 GB', '83 MB'."""
    unit, name = next(((unit, name) for unit, name in UNITS if many >= unit), UNITS[-1])
    return f"{many / unit:.2g} {name}" if many < 100 * unit else f"{many / unit:.0f} {name}"
