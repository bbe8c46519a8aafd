"""What the C library does with memory that was freed: while a CPU trains, it keeps it for the next step."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt(3)
KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 << 20}
USUAL = {MMAP_MAX: 1 << 16, TRIM_THRESHOLD: 64 << 20, TOP_PAD: 128 << 10}  # its threshold comes to so much by itself
OWN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # settings of the user's, which stand


@contextmanager
def freed_kept(device: torch.device) -> Iterator[None]:
    """Within, tensors on the CPU that are freed are used again; at the end the memory goes back to the system.

    Every step frees what it kept for its gradients, and glibc hands pieces that large back to the kernel, which
    clears each page anew when the next step asks: thousands of page faults a step, a tenth of the CPU time of a
    small network (benchmarks/heap.py). What is held is what the fullest moment took. Nothing is done for
    accelerators, which have allocators of their own, with another C library, or where the user has tuned this one.
    """
    tuned = any(name.startswith(OWN) for name in os.environ)
    if device.type != "cpu" or tuned or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    try:
        for name, value in KEEPING.items():
            libc.mallopt(name, value)
        yield
    finally:
        for name, value in USUAL.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
