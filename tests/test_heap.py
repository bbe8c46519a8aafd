"""Memory that is freed while a CPU trains is used again, and goes back to the system afterwards."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from likeness.heap import OWN

PROGRAM = """
import json, resource, torch
from pathlib import Path
from likeness.heap import freed_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(1 << 24)  # 64 MB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

found = {"before": faults(), "began": resident()}
with freed_kept(torch.device("DEVICE")):
    faults()
    found |= {"within": faults(), "held": resident()}
print(json.dumps(found | {"ended": resident()}))
"""


def told(device: str, **environment: str) -> dict[str, int]:
    program = PROGRAM.replace("DEVICE", device)
    given = {name: value for name, value in os.environ.items() if not name.startswith(OWN)} | environment
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=given)
    return json.loads(done.stdout)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@glibc
def test_a_step_takes_no_new_pages_and_all_go_back_in_the_end():
    found = told("cpu")
    assert found["within"] < found["before"] / 4
    assert found["held"] > found["began"] + (32 << 20)
    assert found["ended"] < found["began"] + (32 << 20)


@glibc
@pytest.mark.parametrize(("device", "own"), [("cuda", {}), ("cpu", {"MALLOC_ARENA_MAX": "2"})])
def test_accelerators_and_own_settings_are_left_alone(device, own):
    found = told(device, **own)
    assert found["within"] > found["before"] / 2
