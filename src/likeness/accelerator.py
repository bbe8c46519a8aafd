"""What keeps an accelerator busy: kernels of our own where triton can make them, and copies beside its work.

The one place that asks which kind of device a tensor is on; whoever asks it has a way in plain torch as well.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Any
from warnings import warn

import torch
from torch.utils import _pytree

AMPERE = (8, 0)  # the first devices with matrix units for bfloat16; older ones were never tried, nor AMD's


def fuses(device: torch.device) -> bool:
    """Whether triton's kernels run on a device. LIKENESS_FUSED=0 says no.

    On a CPU they run under triton's interpreter alone (TRITON_INTERPRET=1), which serves tests.
    """
    if os.environ.get("LIKENESS_FUSED") == "0":
        return False
    if device.type == "cuda":
        return _compiles(device)
    return device.type == "cpu" and interpreted() and find_spec("triton") is not None


def interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _compiles(device: torch.device) -> bool:
    """Whether triton makes code for a GPU here; it may be missing, or lack a C compiler."""
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < AMPERE:
        return False
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
    except Exception as error:  # noqa: BLE001, whatever it lacks, torch does without
        reason = " ".join(str(error).split())
        warn(f"triton does not work here ({reason}): slower code of torch's own is used", stacklevel=2)
        return False
    return True


def pinned(tensors: Any, device: torch.device) -> Any:
    """The same where a GPU can fetch them while it computes; where `device` is none, as they are."""
    if device.type != "cuda":
        return tensors
    with torch.cuda.device(device):  # or a thread would take memory of the first one
        return _pytree.tree_map(lambda x: x if x.is_cuda else x.pin_memory(), tensors)


def sent(tensors: Any, device: torch.device) -> Any:
    """The same on a device. A GPU fetches them beside what it is computing, and nobody waits but who reads them."""
    if device.type != "cuda":
        return _pytree.tree_map(lambda x: x.to(device, non_blocking=True), tensors)
    copying, computing = _copying(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copying):
        there = _pytree.tree_map(lambda x: x.to(device, non_blocking=True), pinned(tensors, device))
    computing.wait_stream(copying)
    for x in _pytree.tree_leaves(there):
        x.record_stream(computing)  # lest its memory is given away while it is read
    return there


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The stream of a device that copies to it."""
    return torch.cuda.Stream(device)
