"""How much of the machine's memory a process may still take."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
BOUNDS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # of both versions


def headroom() -> float:
    """Bytes for each of this machine's processes of a run; of all its memory where the system does not say."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = available(Path("/proc/meminfo")), *map(left, cgroups(Path("/proc/self/cgroup")))
    return min(memory_size(), *free) / here


def memory_size() -> float:
    """Bytes of this machine's memory; infinite where the system does not say."""
    if sys.platform == "win32":  # has no sysconf
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available(meminfo: Path) -> float:
    """Bytes that Linux could give without swapping."""
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable")), math.inf)


def cgroups(own: Path, root: Path = CGROUPS) -> list[Path]:
    """Folders of the control groups of a process, whom /proc/self/cgroup names, and of those around them."""
    lines = [line.split(":", 2) for line in own.read_text().splitlines()] if own.exists() else []
    roots = {"": root, "memory": root / "memory"}
    found = [roots[kind] / path.lstrip("/") for _, kind, path in lines if kind in roots]
    return [folder for leaf in found for folder in (leaf, *leaf.parents) if folder.is_relative_to(root)]


def left(group: Path) -> float:
    """Bytes that a control group may still take; infinite where it has no limit, or is not seen from here."""
    for most, used in BOUNDS:
        if (group / most).exists() and (limit := (group / most).read_text().strip()) != "max":
            counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            cached = int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))  # given up when needed
            return float(int(limit) - int((group / used).read_text()) + cached)
    return math.inf
