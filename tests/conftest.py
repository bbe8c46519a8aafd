"""What all tests share: one thread, so that "bit for bit" means something, small pictures, commands in processes."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in what is started from here

import importlib
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from likeness.evaluations import Missing, Result, Score
from likeness.space import Space
from likeness.views import Embeddings, Origin, Views

SIDE = 16
COLOURS = {"blue": 2, "red": 0}
VECTOR = 5  # numbers of what is known of each item beside its label
PATIENCE = 240.0  # seconds a command may take on a machine that is busy with other things
TINY = ["encoder=residual", "widths=[8,16]", "projection=[16,8]", "batch=16", "precision=float32", "workers=1"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is kept to save time is kept as a user has it, but not among the user's own."""
    os.environ["LIKENESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def interpreted(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Runs functions of the test's module in a process that knows before it imports triton that there is no GPU."""
    module = request.module.__name__
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            assert pool.submit(without_triton, module).result(timeout=120), f"importing {module} imports triton"
        yield lambda function, *args: pool.submit(function, *args).result(timeout=120)


def without_triton(module: str) -> bool:
    """Whether a module can be imported that leaves triton alone."""
    importlib.import_module(module)
    return "triton" not in sys.modules


@pytest.fixture(autouse=True)
def _quiet_machine() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


# Pictures -------------------------------------------------------------------------------------------------------------


def shape(colour: str, number: int, side: int = SIDE) -> np.ndarray:
    """(side, side, 3) uint8: a square of that colour somewhere on dark noise."""
    chance = np.random.default_rng([COLOURS[colour], number])
    picture = chance.integers(0, 60, (side, side, 3)).astype(np.uint8)
    top, left = chance.integers(0, side // 2, 2)
    picture[top : top + side // 2, left : left + side // 2, COLOURS[colour]] = 255
    return picture


def write_shapes(folder: Path, each: int = 24) -> Path:
    """A folder of PNGs, a sub-folder a colour."""
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for number in range(each):
            Pillow.fromarray(shape(colour, number)).save(folder / colour / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures in two folders; nobody writes to it."""
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as one .npz with labels `y`."""
    path = tmp_path_factory.mktemp("data") / "shapes.npz"
    pictures = [shape(colour, number) for colour in COLOURS for number in range(24)]
    np.savez(path, x=np.stack(pictures), y=np.repeat(np.arange(2), 24))
    return path


# Rows -----------------------------------------------------------------------------------------------------------------


def origin(item: Any, view: Any, **known: Any) -> Origin:
    item, view = torch.as_tensor(item), torch.as_tensor(view)
    return Origin(item, view, {name: torch.as_tensor(value) for name, value in known.items()})


def pairs(items: int, dim: int = 16, dtype: torch.dtype = torch.float64, seed: int = 0) -> Embeddings:
    """Two views of each item, all first views before all second ones."""
    source = torch.Generator().manual_seed(seed)
    one = torch.randn(items, dim, generator=source, dtype=torch.float64)
    vector = torch.cat([one, one + 1.5 * torch.randn(items, dim, generator=source, dtype=torch.float64)]).to(dtype)
    item, view = torch.arange(items).repeat(2), torch.arange(2).repeat_interleave(items)
    return Embeddings(vector.requires_grad_(), origin(item, view))


def images(items: int = 8, views: int = 2, side: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32) -> Views:
    """Views of noise, labelled by turns and with a vector for each item, as a batch holds them for one role."""
    source = torch.Generator().manual_seed(seed)
    item, view = torch.arange(items).repeat(views), torch.arange(views).repeat_interleave(items)
    data = torch.randn(items * views, 3, side, side, generator=source, dtype=torch.float64)
    vector = torch.outer(item + 1.0, torch.arange(1.0, 1 + VECTOR)).square().sin()
    vector[:, 0] = item % 2  # a cell, to those that read the first number so
    return Views(data.to(dtype), origin(item, view, label=(item % 3).float(), vector=vector.to(dtype)))


# Scores ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def digits() -> tuple[Space, Space]:
    """scikit-learn's digits as two labelled spaces: 1,200 to learn from, 597 to ask about."""
    from sklearn.datasets import load_digits  # here, since every command of a test imports this file

    x, y = load_digits(return_X_y=True)
    return Space.of(x[:1200], labels=y[:1200]), Space.of(x[1200:], labels=y[1200:])


def value(results: dict[str, Result], name: str) -> float:
    result = results[name]
    assert isinstance(result, Score), result
    return result.value


def why(results: dict[str, Result], name: str) -> str:
    result = results[name]
    assert isinstance(result, Missing), result
    return result.note


def classes_of(space: Space) -> np.ndarray:
    assert space.labels is not None
    return space.labels.codes


# Commands -------------------------------------------------------------------------------------------------------------


@dataclass
class Done:
    """A command that has ended: -9 where it was killed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def failed(self, code: int) -> str:
        """The one line that it said before it went, nothing on stdout that is not progress."""
        lines = self.err.strip().splitlines()
        assert self.code == code, self.err
        assert len(lines) == 1, self.err
        assert lines[0].startswith("likeness: "), self.err
        return lines[0].removeprefix("likeness: ")


class Command:
    """`likeness ...` in a process of its own, which can be killed for real."""

    def __init__(self, words: Sequence[str], cwd: Path, said: Path, changes: Mapping[str, Any]) -> None:
        self.said = said
        self.process = FORKS.Process(target=_run, args=(list(words), str(cwd), str(said), dict(changes)))
        self.process.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def wait(self) -> Done:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            pytest.fail(f"the command did not end: {self._text('err')}")
        code = self.process.exitcode
        assert code is not None
        return Done(code, self._text("out"), self._text("err"))

    def until(self, happened: Callable[[], bool]) -> bool:
        """Wait for something; whether it came before the command ended."""
        limit = time.monotonic() + PATIENCE
        while not happened():
            if not self.process.is_alive():
                return happened()
            assert time.monotonic() < limit, self._text("err")
            time.sleep(0.002)
        return True

    def _text(self, stream: str) -> str:
        path = Path(f"{self.said}.{stream}")
        return path.read_text() if path.exists() else ""


# Children are forked from a clean process that has imported torch once: as real as any, without seconds of import.
FORKS = multiprocessing.get_context("forkserver")
COMMANDS = ["likeness.cli", "likeness.commands.train", "likeness.commands.search", "likeness.commands.evaluate"]
LATER = ["torch.distributed", "torch._dynamo", "pandas", "pyarrow.parquet", "PIL.PngImagePlugin", "safetensors.torch"]
FORKS.set_forkserver_preload([*COMMANDS, *LATER])  # the latter are what torch and pyarrow import at first use


def in_two(body: Callable[..., Any], folder: Path, *given: Any) -> list[Any]:
    """What body(rank, *given) gives in each of two processes that talk by gloo; it stands at the top of its module."""
    processes = [FORKS.Process(target=_joined, args=(rank, folder, body, given)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        process.kill()
        assert process.exitcode == 0
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


def _joined(rank: int, folder: Path, body: Callable[..., Any], given: tuple[Any, ...]) -> None:
    import torch.distributed as dist  # takes a while, and most tests do without

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    torch.save(body(rank, *given), folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def _run(words: list[str], cwd: str, said: str, changes: dict[str, Any]) -> None:
    os.chdir(cwd)
    for stream, number in (("out", 1), ("err", 2)):
        file = os.open(f"{said}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    for name, value in changes.items():
        module, _, attribute = name.partition(":")
        if module == "call":
            value()
            continue
        *owners, last = attribute.split(".")
        setattr(reduce(getattr, owners, importlib.import_module(module)), last, value)
    from likeness.__main__ import main

    sys.exit(main(words))


class Shell:
    """Runs commands in a folder."""

    def __init__(self, cwd: Path) -> None:
        self.cwd, self.count = cwd, 0

    def start(self, *words: Any, changes: Mapping[str, Any] | None = None) -> Command:
        """Begin a command; `changes` sets names of modules ("likeness.runs:SAVE") in its process first."""
        self.count += 1
        return Command([str(word) for word in words], self.cwd, self.cwd / f".said-{self.count}", changes or {})

    def __call__(self, *words: Any, changes: Mapping[str, Any] | None = None) -> Done:
        return self.start(*words, changes=changes).wait()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Path:
    """A finished run of a few steps on `shapes`; nobody writes to it."""
    folder = tmp_path_factory.mktemp("trained")
    done = Shell(folder)("train", shapes, *TINY, "steps=4", "--out", "run", "--quiet")
    assert done.code == 0, done.err
    return folder / "run"


def lines(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl of a run."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
