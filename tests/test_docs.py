"""Every code block of the README and the docs runs, in order, page by page, on a few small pictures.

A page's Python blocks share one namespace and its shell blocks one folder. Of shell blocks, `$ likeness ...` is run.
An error that a page shows must be the error that comes, word for word; other output is there to be read. Marks:

    <!-- file: NAME -->    the block is the content of that file
    <!-- skip: REASON -->  the block is not run

So that pages may say what a user would type, budgets are cut to a second and steps to two.
"""

from __future__ import annotations

import gzip
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likeness.__main__ import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_SKIPPED = 8  # blocks of all pages together

BLOCK = re.compile(r"^(?:<!-- (\w+): (.+?) -->\n+)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.+(?:\\\n.+)*)\n((?:(?!\$ ).*\n?)*)", re.MULTILINE)
ERROR = "likeness: "
CUTS = ((r"budget(=\"?| )\d+[smh]\d*m?", r"budget\g<1>1s"), (r"\bsteps=\d+", "steps=2"))

CLASSES, SIDE = ("grass", "road", "roof"), 16
TRAIN, TEST = 14, 6  # pictures a class


@dataclass(frozen=True)
class Block:
    line: int
    mark: str
    about: str
    language: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        mark, about, language, code = found.groups(default="")
        yield Block(text[: found.start(4)].count("\n"), mark, about, language, code)


def cut(code: str) -> str:
    for pattern, less in CUTS:
        code = re.sub(pattern, less, code)
    return code


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """What the pages speak of: photos/ and photos_test/ with three classes, query.jpg, items.csv, images.npy, and
    texts: captions.parquet, notes.txt.gz, and tables of pairs.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    rng = np.random.default_rng(0)
    for name, many in (("photos", TRAIN), ("photos_test", TEST)):
        for n, kind in enumerate(CLASSES):
            (tmp_path / name / kind).mkdir(parents=True)
            for number in range(many):
                cv2.imwrite(f"{name}/{kind}/{number:04}.jpg", picture(rng, n))
    cv2.imwrite("query.jpg", picture(rng, 0))
    rows = [f"photos/{kind}/{n:04}.jpg,{kind},roll-{n % 4}" for kind in CLASSES for n in range(TRAIN)]
    Path("items.csv").write_text("\n".join(["file,class,roll", *rows]) + "\n")
    paths = [f"photos/{kind}/{n:04}.jpg" for kind in CLASSES for n in range(TRAIN)]
    words = [f"a {path.split('/')[1]} seen from above, number {n}" for n, path in enumerate(paths)]
    pq.write_table(pa.table({"image": paths, "caption": words}), "captions.parquet")
    Path("notes.txt.gz").write_bytes(gzip.compress("\n".join(words).encode()))
    np.save("images.npy", np.stack([picture(rng, n % len(CLASSES)) for n in range(TRAIN)]))
    write_sentences(words)
    return tmp_path


def write_sentences(words):
    """pairs.csv, nli.csv, sts.csv and intents.csv of some texts."""
    words = [text.replace(",", "") for text in words]
    labels = ("entailment", "neutral", "contradiction")
    tables = {
        "pairs.csv": ["question,answer", *(f"where is {text},it is {text}" for text in words)],
        "nli.csv": [
            "premise,hypothesis,label",
            *(f"{words[n // 3]},{text},{labels[n % 3]}" for n, text in enumerate(words)),
        ],
        "sts.csv": ["sentence1,sentence2,score", *(f"{text},{text} {n % 5},{n % 6}" for n, text in enumerate(words))],
        "intents.csv": ["text,label", *(f"{text},{text.split()[1]}" for text in words)],
    }
    for name, rows in tables.items():
        Path(name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def picture(rng, kind):
    """A noisy picture whose class is its colour."""
    colour = np.full(len(CLASSES), 60)
    colour[kind] = 180
    return np.clip(rng.normal(colour, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(page, capsys):
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if block.mark == "file":
            Path(block.about).write_text(block.code, encoding="utf-8")
        elif block.mark != "skip" and block.language == "python":
            code = "\n" * block.line + cut(block.code)
            exec(compile(code, str(page), "exec"), namespace)
        elif block.mark != "skip" and block.language == "console":
            run(block, page, capsys)
        else:
            assert block.mark == "skip", f"{page.name}:{block.line} is neither python nor console: mark it"


def run(block: Block, page: Path, capsys) -> None:
    """Every command of a console block, one after the other."""
    commands = COMMAND.findall(block.code)
    assert commands, f"{page.name}:{block.line} shows no command"
    for command, expected in commands:
        words = shlex.split(cut(command), comments=True)
        assert words[0] == "likeness", f"{page.name}:{block.line}: {words[0]} cannot be run here: mark the block"
        capsys.readouterr()
        code = main(words[1:])
        said = capsys.readouterr()
        if expected.startswith(ERROR):
            assert (said.err, code > 0) == (expected, True)
        else:
            assert code == 0, f"{command}: {said.err}"


def test_few_blocks_are_skipped_and_each_says_why():
    skipped = [block for page in PAGES for block in blocks(page) if block.mark == "skip"]
    assert len(skipped) <= MOST_SKIPPED
    assert all(len(block.about.split()) > 1 for block in skipped)


def test_every_fence_is_seen():
    """A block that the pattern above missed would never be run."""
    for page in PAGES:
        fences = re.findall(r"^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(list(blocks(page))), page.name


def test_links_between_pages_lead_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []
