"""The shape of the package: who may import whom, what is never written, what is public, what a start costs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import likeness
from likeness import describe
from likeness.recipe import Recipe

PACKAGE = Path(likeness.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each module may import, at its top or inside a function, only what stands before it here.
ORDER = """
    errors
    cache disk headroom heap layout limits weights hubfolder whereabouts recipe describe keyvalue usual catalogue
    engine accelerator chance stacks chunks views parts
    relations objectives
    modalities encoders sources
    index rowfile space_write space_read space
    stored components
    methods memory training starting journey plans choice
    evaluations
    aligned asking predictions folder card embedder loaded forgetting teaching interpolation embedding live logbook runs
    public classnames beside mining paired scoring documents predicting sheet network exchange export
    api sklearn
    copies inspection forecast throughput diagnosis doctor findings
    screen commands
    words options cli_mine cli __main__
""".split()

LONGEST = 300  # lines a file
LONGEST_METHOD = 90  # lines a method's file
WINDOW = 6  # lines that two files may not share


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def called(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def place(path: Path) -> str:
    """The line of the order that a file belongs to: its folder, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Names directly below `likeness` that a file imports, anywhere in it, also for types alone."""
    package = ("likeness", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            wholes = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = list(package[: len(package) - node.level + 1]) if node.level else []
            start = above + (node.module.split(".") if node.module else [])
            wholes = [start] if len(start) > 1 else [[*start, alias.name] for alias in node.names]
        else:
            continue
        yield from (whole[1] for whole in wholes if whole[0] == "likeness" and len(whole) > 1)


def test_the_order_names_every_module():
    assert len(ORDER) == len(set(ORDER))
    assert {place(path) for path in FILES} - {"__init__"} == set(ORDER)


def test_imports_go_one_way():
    rank = {name: n for n, name in enumerate(ORDER)}
    wrong = {
        f"{called(path)} imports {name}"
        for path in FILES
        if place(path) in rank
        for name in imported(path)
        if rank.get(name, len(rank)) > rank[place(path)]
    }
    assert "\n".join(sorted(wrong)) == ""


DECIDE = ("isinstance", "issubclass", "startswith", "endswith")
KNOWING = ("modalities", "encoders", "sources")  # in sources these are columns, whose names interface and users fix
COLUMNS = ("text", "audio", "points", "image")


def names_of_kinds() -> set[str]:
    """Every way to write a modality's or a method's name: the class's, in any case."""
    from likeness.methods import Method
    from likeness.modalities import Modality

    kinds = {name for base in (Method, Modality) for name in base.names() if ":" not in name}
    papers = (
        "moco mocov3 byol simsiam dcl dclw supcon nnclr swav dino barlow vicreg lejepa clip siglip declip simcse mcl"
    )
    return {form.lower() for form in (*kinds, *papers.split(), "text", "audio", "points")}


def foreign(tree: ast.Module) -> set[str]:
    """Names that other packages' modules and classes have in a file, such as Pillow's Image."""
    return {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
        for alias in node.names
    }


def word(node: ast.expr, strange: set[str]) -> str:
    """What an expression names, if anything of ours: 'image', Image, image.Image."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Attribute):
        return "" if isinstance(node.value, ast.Name) and node.value.id in strange else node.attr
    if isinstance(node, ast.Name) and node.id not in strange | {node.id.lower()}:  # a variable names nothing
        return node.id
    return ""


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def branches(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of all that a decision could hang on: ==, in, isinstance, issubclass, startswith, match."""
    strange = foreign(tree)
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and name_of(node.func) in DECIDE:
            asked = node.args
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        for one in asked:
            members = one.elts if isinstance(one, ast.Tuple | ast.List | ast.Set) else [one]
            yield from ((one.lineno, word(member, strange)) for member in members)


def test_nothing_branches_on_the_name_of_a_modality_or_a_method():
    names = names_of_kinds()
    found = [
        f"{called(path)}:{line} {name}"
        for path in FILES
        for line, name in branches(parsed(path))
        if name.lower() in names and not (place(path) in KNOWING and name in COLUMNS)
    ]
    assert "\n".join(found) == ""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("if kind == 'image': pass", "image"),
        ("if modality in ('text', 'audio'): pass", "audio"),
        ("if isinstance(modality, Text): pass", "Text"),
        ("if role.startswith('text'): pass", "text"),
        ("if isinstance(method, (SimCLR, BYOL)): pass", "BYOL"),
        ("match method:\n case simclr.SimCLR(): pass", "SimCLR"),
        ("if 'simclr' in name: pass", "simclr"),
    ],
)
def test_a_branch_on_a_name_would_be_found(line, name):
    assert name in {found for _, found in branches(ast.parse(line))}


FORBIDDEN = {
    r"\bhasattr\(": "ask a type, not a name",
    r"\b(import|from)\s+(c?pickle|dill|joblib|marshal|shelve)\b": "nothing is unpickled",
    r"\btorch\.load\(": "nothing is unpickled: weights are safetensors",
    r"\ballow_pickle\s*=\s*(True|1)": "nothing is unpickled",
    r"\byaml\.(load|unsafe_load|full_load|Loader|UnsafeLoader)\b": "yaml.safe_load",
    r"(?<![\w.])(eval|exec|__import__)\(": "text is no code",
    r"\bshell\s*=\s*(True|1)|\bos\.(system|popen)\(": "no shell",
    r"(?i)\bregistr(y|ies)\b|\bdef register": "subclasses are found, not registered",
    r"\b(urllib\.request|requests|httpx|socket)\b": "no network",
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "do it or leave it",
}


@pytest.mark.parametrize("pattern", FORBIDDEN, ids=FORBIDDEN.values())
def test_some_things_are_never_written(pattern):
    found = [
        f"{called(path)}:{n} {line.strip()}"
        for path in FILES
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert "\n".join(found) == ""


def test_names_say_what_is_in_a_file():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base_classes"}
    assert {called(path) for path in FILES if set(re.split(r"\W|_", called(path))) & vague} == set()


def test_files_are_short():
    lengths = {called(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_methods_are_short():
    lengths = {called(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    methods = {name: length for name, length in lengths.items() if name.startswith("methods/")}
    assert methods
    assert {name: length for name, length in methods.items() if length > LONGEST_METHOD} == {}


def test_every_module_begins_by_saying_what_is_in_it():
    assert [called(path) for path in FILES if not ast.get_docstring(parsed(path))] == []


def test_no_six_lines_stand_in_two_files():
    seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in FILES:
        for window in windows(path):
            seen[window].add(called(path))
    shared = {" | ".join(sorted(names)): window for window, names in seen.items() if len(names) > 1}
    assert shared == {}


def windows(path: Path) -> Iterator[tuple[str, ...]]:
    """Every six lines that follow one another, blank lines, brackets that stand alone and imports aside."""
    importing = {
        line
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = [
        line.strip()
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if n not in importing and re.search(r"\w", line)
    ]
    return (tuple(lines[n : n + WINDOW]) for n in range(len(lines) - WINDOW + 1))


def test_public_names():
    assert sorted(likeness.__all__) == [
        "Failed",
        "Interrupted",
        "LikenessError",
        "Run",
        "Space",
        "WrongCall",
        "evaluate",
        "load",
        "mine",
        "read",
        "steps",
        "train",
    ]
    assert all(getattr(likeness, name).__doc__ for name in likeness.__all__)
    assert set(likeness.__all__) <= set(dir(likeness))


def test_no_module_hides_a_public_name():
    """Importing `likeness.train` as a module would put it in place of the function."""
    assert {place(path) for path in FILES} & set(likeness.__all__) == set()


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = likeness.trian


HEAVY = "torch timm torchvision sklearn scipy pandas polars cv2 PIL pyarrow onnx onnxruntime".split()
TRIES = 3  # a busy machine may be slow once

COST = """
import contextlib, io, json, sys, time
began, code, out = time.process_time(), 0, io.StringIO()
with contextlib.redirect_stdout(out):
    {work}
seconds, heavy = time.process_time() - began, sorted(set(sys.modules) & set({heavy!r}))
print(json.dumps(dict(seconds=seconds, heavy=heavy, code=code, out=out.getvalue())))
"""


def cost(work: str, limit: float) -> dict[str, Any]:
    """What some work comes to in a fresh Python: CPU seconds, heavy packages imported, exit code, output."""
    code = COST.format(work=work, heavy=HEAVY)
    for _ in range(TRIES):
        ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        found = json.loads(ran.stdout) | {"err": ran.stderr}
        if found["seconds"] < limit:
            break
    return found


def test_import_is_light():
    found = cost("import likeness", 0.2)
    assert found["heavy"] == []
    assert found["seconds"] < 0.2


def test_help_is_light():
    found = cost("from likeness.__main__ import main; code = main(['--help'])", 0.5)
    assert (found["code"], found["heavy"]) == (0, [])
    assert "evaluate" in found["out"]
    assert found["seconds"] < 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("train nosuch/", "nosuch/ does not exist"),
        ("train made:trifeture", "did you mean 'trifeature'"),
        ("train made:trifeature,sed=1", "did you mean 'seed'"),
        ("train photos --epoch 3", "did you mean epochs"),
        ("train photos simclr temprature=1", "did you mean 'temperature'"),
        ("train photos simclr batch=many", "a whole number"),
        ("train photos simclrr", "did you mean 'simclr'"),
        ("show nosuch", "nosuch"),
        ("search nosuch query.jpg", "nosuch"),
        ("trian photos", "id you mean 'train'"),
    ],
)
def test_wrong_calls_are_answered_quickly_in_one_line(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    found = cost(f"from likeness.__main__ import main; code = main({call.split()!r})", 0.5)
    assert (found["code"], found["out"], found["heavy"]) == (2, "", [])
    assert re.fullmatch(r"likeness: .+\n", found["err"])
    assert said in found["err"]
    assert found["seconds"] < 0.5


def test_catalogue_is_current():
    stored = json.loads(files("likeness").joinpath("catalogue.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(describe.everything()))
    now["kinds"] = {name: kind for name, kind in now["kinds"].items() if ":" not in name}  # other tests' own recipes
    assert stored == now, "bring it up to date: python -m likeness.describe"


def test_every_field_of_every_recipe_is_explained():
    describe.everything()
    kinds = {name: kind for name, kind in Recipe.names().items() if ":" not in name and kind is not Recipe}
    silent = [
        f"{n}.{f}" for n, kind in kinds.items() for f, about in kind.model_fields.items() if not about.description
    ]
    assert silent == []
