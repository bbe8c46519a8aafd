"""Damaged files and bombs: does any crash, hang or fill the memory? Each must be decoded, or refused with a reason.

    python benchmarks/fuzz.py --files 10000

Files are told by their numbers (tests/damaged.py). They are read in a process that may take `ROOM` bytes more than it
has after its imports; when it dies or hangs, the file it was at is named and another process goes on after it. Then a
folder of them, bombs included, is embedded as a user's folder would be, with several threads.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from damaged import bombs, damaged, originals

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
ROOM = 3 << 30  # bytes that one file may take
HANGS = 60.0  # seconds after which a file is said to hang
WORST, REASONS = 5, 30  # files and reasons named
WORKERS = (0, 2, 4)  # threads that read the folder


@dataclass
class Verdict:
    """What came of one file: decoded, refused, or what should not be; megabytes: most that it took."""

    name: str
    came: str
    reason: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def memory(field: str) -> int:
    """Bytes, as Linux counts them for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def written(place: Path, first: int, files: int) -> tuple[list[Path], list[Path]]:
    """Bombs and damaged files, in folders of their own, and whole ones beside them: most of a source can be read."""
    for name in ("bombs", "damaged", "whole"):
        (place / name).mkdir()
    for number in range(files + len(bombs())):
        (place / "whole" / f"{number:05}.png").write_bytes(originals()["plain.png"])
    for name, make in bombs().items():
        (place / "bombs" / name).write_bytes(make())
    for number in range(first, first + files):
        name, data = damaged(number)
        (place / "damaged" / name).write_bytes(data)
    return sorted((place / "bombs").iterdir()), sorted((place / "damaged").iterdir())


def child() -> None:
    """Reads paths from stdin, and tells what came of each."""
    from likeness.modalities import Image, Unreadable

    modality = Image(size=64, channels=3, depth="uint8", mean=(0.5,) * 3, std=(0.5,) * 3)
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + ROOM,) * 2)
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, began = memory("VmRSS"), time.perf_counter()
        try:
            modality.read(path)
            came, reason = "decoded", ""
        except Unreadable as error:
            came, reason = "refused", str(error)
        except Exception as error:  # noqa: BLE001, this is what is looked for
            came, reason = "broke", f"{type(error).__name__}: {error}"
        taken = time.perf_counter() - began
        verdict = Verdict(path.name, came, reason, round(taken, 4), round((memory("VmHWM") - before) / 1e6, 1))
        print(json.dumps(asdict(verdict)), flush=True)


def judged(paths: Sequence[Path]) -> Iterator[Verdict]:
    """Each file's verdict, by as many processes as it takes."""
    left = deque(paths)
    while left:
        process = subprocess.Popen(
            [sys.executable, __file__, "--child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdin is not None
        assert process.stdout is not None
        answered = True
        while left and answered:
            process.stdin.write(f"{left[0]}\n")
            ready = select.select([process.stdout], [], [], HANGS)[0]
            line = process.stdout.readline() if ready else ""
            answered = bool(line)
            if answered:
                yield Verdict(**json.loads(line))
            else:
                process.kill()
                yield Verdict(left[0].name, f"crashed ({process.wait()})" if ready else "hung", seconds=HANGS)
            left.popleft()
        process.stdin.close()
        process.wait()


def folder(place: Path, workers: int) -> dict[str, Any]:
    """All files read as a source by several threads: counts, seconds, and the most that memory grew."""
    import likeness
    from likeness.modalities import Image
    from likeness.sources.base import Quarantine
    from likeness.sources.feed import plain

    source = likeness.read(place, exclude=["*.npy", "*.txt"])
    modality = Image(size=64, channels=3, depth="uint8", mean=(0.5,) * 3, std=(0.5,) * 3)
    quarantine, began, before = Quarantine(), time.perf_counter(), memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    read = sum(len(rows) for rows, _ in plain(source, modality, "image", 256, workers, quarantine))
    return {
        "workers": workers,
        "items": len(source),
        "read": read,
        "quarantined": len(quarantine),
        "unaccounted": len(source) - read - len(quarantine),
        "seconds": round(time.perf_counter() - began, 1),
        "megabytes": round((memory("VmHWM") - before) / 1e6),
    }


def kind(reason: str) -> str:
    """Reasons without what is particular to a file."""
    return reason.split(":")[0][:40] if ":" in reason else "".join(c for c in reason if not c.isdigit())[:40]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="how many, from --first on, beside the bombs")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child()
        return
    with TemporaryDirectory() as place:
        bombs_, files = written(Path(place), asked.first, asked.files)
        began, verdicts = time.perf_counter(), []
        for verdict in judged([*bombs_, *files]):
            verdicts.append(verdict)
            if verdict.came not in ("decoded", "refused"):
                print(verdict, flush=True)
        taken = time.perf_counter() - began
        folders = [folder(Path(place), workers) for workers in WORKERS]
    found = {
        "files": len(verdicts),
        "verdicts": dict(Counter(verdict.came for verdict in verdicts).most_common()),
        "seconds": round(taken, 1),
        "slowest": [asdict(v) for v in sorted(verdicts, key=lambda v: -v.seconds)[:WORST]],
        "largest": [asdict(v) for v in sorted(verdicts, key=lambda v: -v.megabytes)[:WORST]],
        "reasons": dict(Counter(kind(v.reason) for v in verdicts if v.reason).most_common(REASONS)),
        "bombs": [asdict(verdict) for verdict in verdicts[: len(bombs_)]],
        "folders": folders,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for name in ("files", "verdicts", "seconds", "slowest", "largest", "reasons", "folders"):
        print(name, found[name])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
