"""Encoders for use elsewhere: weights with a way to load them, or ONNX, checked to give the same features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from inspect import getdoc
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from torch import nn

from .encoders import Encoder, Kept
from .errors import Failed, WrongCall, meant
from .exchange import onnx_card, read_back, write_sentences, write_transformers
from .folder import beside, owners, write_beside, write_encoder, write_json
from .layout import ABOUT, CARD, HEAD, WEIGHTS
from .loaded import LoadedEncoder, load, load_all
from .network import asked, described, drawn, write_network
from .recipe import only_from
from .weights import read_about

ONNX, PREPROCESSING = "encoder{}.onnx", "preprocessing{}.json"
# Largest difference of a feature between torch and ONNX; a share of the largest feature where that is above 1.
TOLERANCE = 1e-4
TOLD = 200  # characters of the exporter's own message
BATCHES = (1, 2, 5)  # numbers of rows that the exported encoder is asked for
EXTRA = ("onnx", "onnxscript", "onnxruntime")  # what the extra `export` installs


@dataclass(frozen=True)
class Exported:
    """Files written. difference: the largest of a feature against torch; None where weights alone are written."""

    files: list[Path]
    difference: float | None = None


@dataclass(frozen=True)
class Original:
    """What is exported: the encoder in use, and the recipe that builds it."""

    loaded: LoadedEncoder
    recipe: Encoder


Originals = Mapping[str, Original]  # by role


def export(
    run: str | Path,
    format: str,
    out: str | Path,
    *,
    role: str | None = None,
    allow: Iterable[str] = (),
    encoder: nn.Module | None = None,
) -> Exported:
    """Write a run's encoders to a new folder.

    format: safetensors (weights under the encoder's own names, and how to load them), onnx (the network itself, a file
            a role: encoder-ROLE.onnx where there are several), hf or sentence-transformers (a folder that transformers
            or sentence-transformers load, or one a role in it)
    role:   one of several encoders; None: all
    allow, encoder: as for `load`

    Raises:
        WrongCall: there is no such format, run or role, or the folder is not empty.
        Failed: an extra is not installed, an encoder cannot be exported, or the export gives other features.
    """
    folder = Path(out)
    if format not in FORMATS:
        raise WrongCall(
            f"no export format is called {format!r}{meant(format, FORMATS)} (there are {', '.join(FORMATS)})"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongCall(f"{folder} is not empty: name another --out, nothing is overwritten")
    if role is None:
        every = load_all(run, allow=allow, encoder=encoder)
    else:
        every = {role: load(run, role=role, allow=allow, encoder=encoder)}
    roles = read_about(Path(run))["roles"]
    with only_from(allow):
        originals = {name: Original(one, Encoder.of(roles[name]["encoder"])) for name, one in every.items()}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FORMATS[format](originals, folder)
    except Failed:
        rmtree(folder)  # nothing was in it
        raise


def _safetensors(originals: Originals, folder: Path) -> Exported:
    """encoder.safetensors and encoder.json as in a run folder, so that `likeness.load` reads them too."""
    loaded = {role: one.loaded for role, one in originals.items()}
    kept = {role: Kept(one.recipe, one.loaded.encoder, one.loaded.head) for role, one in originals.items()}
    classes = next((one.classes for one in loaded.values() if one.head is not None), ())
    name = write_encoder(folder, kept, {role: one.modality for role, one in loaded.items()}, classes)
    own = len(set(owners(kept).values())) == 1
    cards = [_card(one, several=len(kept) > 1, own=own) for one in originals.values()]
    (folder / CARD).write_text("\n".join([f"# Encoder {name}\n", *cards]))
    head = [folder / HEAD] if any(one.head is not None for one in kept.values()) else []
    tokenizers = sorted(folder.glob("tokenizer*.json"))
    return Exported([folder / WEIGHTS, folder / ABOUT, *tokenizers, *head, folder / CARD])


def _card(original: Original, several: bool, own: bool) -> str:
    """How to load the weights, with and without this package, and what the numbers of the preprocessing mean.

    own: whether the file has the network's own names for its weights
    """
    loaded, code = original.loaded, original.recipe.code
    title = f"## {loaded.role}\n\n" if several else ""
    fields, values = type(loaded.modality).model_fields, loaded.modality.tree()
    rows = [f"| {name} | {_cell(values[name])} | {field.description} |" for name, field in fields.items()]
    parts = [
        f"{title}Maps one {loaded.role} to {loaded.dim} numbers.\n",
        WITH.format(role=f", role={loaded.role!r}" if several else ""),
        WITHOUT.format(code=code, weights=WEIGHTS) if code and own else "",
        f"## Preprocessing\n\n{getdoc(loaded.modality.plain)}\n\n| what | value | meaning |\n|---|---|---|\n"
        + "\n".join(rows),
        CLASSIFIER.format(head=HEAD, classes=", ".join(loaded.classes)) if loaded.head is not None else "",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _cell(value: Any) -> str:
    """A value in a table: what was learned of the data can be long."""
    shown = str(value).replace("|", "\\|")
    return shown if len(shown) <= TOLD else f"{shown[:TOLD]}… (see {ABOUT})"


CLASSIFIER = """
## Classifier

`{head}` tells apart, in this order: {classes}. Of features x (N, dim) the logits are
`normalize(x) * dim**0.5 @ weight.T + bias`.
"""

WITH = """```python
import likeness

encoder = likeness.load(FOLDER{role})
features = encoder(encoder.preprocess(ITEMS))
```
"""

WITHOUT = """Without likeness; the keys load unchanged:

```python
from safetensors.torch import load_file
{code}
model.load_state_dict(load_file({weights!r}))
model.eval()
```
"""


def _onnx(originals: Originals, folder: Path) -> Exported:
    missing = [package for package in EXTRA if find_spec(package) is None]
    if missing:
        raise Failed(f"format onnx needs {missing[0]}, which is not installed: pip install 'likeness[export]'")
    suffixes = {role: f"-{role}" * (len(originals) > 1) for role in originals}
    done = [_onnx_of(one.loaded, folder, suffixes[role]) for role, one in originals.items()]
    called = beside({role: one.loaded.modality for role, one in originals.items()})
    cards = [onnx_card(one.loaded, ONNX.format(suffixes[role]), called[role]) for role, one in originals.items()]
    (folder / CARD).write_text("\n".join(cards))
    files = [*(file for one in done for file in one.files), *write_beside(folder, called), folder / CARD]
    return Exported(files, max(one.difference or 0.0 for one in done))


def _theirs(
    write: Callable[[LoadedEncoder, Encoder, Path], list[Path]], originals: Originals, folder: Path
) -> Exported:
    """A folder that others load, or one a role in it; roles that share an encoder and are seen alike share one."""
    apart = {
        (id(one.loaded.encoder), one.loaded.modality.fingerprint): role
        for role, one in reversed(list(originals.items()))
    }
    files: list[Path] = []
    differences: list[float] = []
    for role in reversed(list(apart.values())):
        place = folder / role if len(apart) > 1 else folder
        place.mkdir(exist_ok=True)
        files += write(originals[role].loaded, originals[role].recipe, place)
        difference = read_back(originals[role].loaded, originals[role].recipe, place)
        differences += [] if difference is None else [difference]
    if not max(differences, default=0.0) <= TOLERANCE:
        raise Failed(f"{folder} read again gives other features than the run, by {max(differences):.1e}: do not use it")
    return Exported(files, max(differences, default=None))


def _onnx_of(loaded: LoadedEncoder, folder: Path, suffix: str) -> Exported:
    """The network of one role, and how its input is made."""
    example, path = loaded.modality.example(), folder / ONNX.format(suffix)
    about = {
        "fingerprint": loaded.fingerprint,
        "role": loaded.role,
        "dim": loaded.dim,
        "input": described(example),
        "preprocessing": loaded.modality.tree(),
    }
    write_network(loaded.encoder, example, path, about)
    difference = _difference(loaded, path)
    if not difference <= TOLERANCE:
        path.unlink()
        raise Failed(
            f"the ONNX encoder differs from torch by {difference:.1e}, more than {TOLERANCE:g}: it was deleted"
        )
    preprocessing = folder / PREPROCESSING.format(suffix)
    write_json(preprocessing, {**about, "difference": difference})
    if loaded.head is not None:
        warnings.warn("the classifier is left out: the ONNX file gives features", stacklevel=3)
    return Exported([path, preprocessing], difference)


def _difference(loaded: LoadedEncoder, path: Path) -> float:
    """Largest difference of features between torch and onnxruntime on random input, for several numbers of rows."""
    chance, example = torch.Generator().manual_seed(0), loaded.modality.example()
    found = []
    for rows in BATCHES:
        data = drawn(example, rows, chance)
        with torch.inference_mode():
            ours = loaded(data).numpy()
        theirs = asked(path, data)[0]
        if theirs.shape != ours.shape:
            return float("inf")
        found.append(np.abs(ours - theirs).max() / max(1.0, np.abs(ours).max()))
    return float(np.max(found))  # NaN where any is


FORMATS: dict[str, Callable[[Originals, Path], Exported]] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "hf": partial(_theirs, write_transformers),
    "sentence-transformers": partial(_theirs, write_sentences),
}
