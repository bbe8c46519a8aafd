"""Encoders for use elsewhere: weights with a way to load them, or ONNX, checked to give the same features."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import getdoc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .encoders import Encoder, Kept
from .errors import Failed, WrongCall, meant
from .folder import write_encoder, write_json
from .layout import ABOUT, CARD, HEAD, WEIGHTS
from .loaded import LoadedEncoder, load
from .recipe import only_from
from .weights import read_about

ONNX, PREPROCESSING = "encoder.onnx", "preprocessing.json"
INPUT, OUTPUT = "input", "features"
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


def export(
    run: str | Path,
    format: str,
    out: str | Path,
    *,
    role: str | None = None,
    allow: Iterable[str] = (),
    encoder: nn.Module | None = None,
) -> Exported:
    """Write a run's encoder to a new folder.

    format: safetensors (weights under the encoder's own names, and how to load them) or onnx (the network itself)
    role, allow, encoder: as for `load`

    Raises:
        WrongCall: there is no such format, run or role, or the folder is not empty.
        Failed: an extra is not installed, the encoder cannot be exported, or the export gives other features.
    """
    folder = Path(out)
    if format not in FORMATS:
        raise WrongCall(
            f"no export format is called {format!r}{meant(format, FORMATS)} (there are {', '.join(FORMATS)})"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongCall(f"{folder} is not empty: name another --out, nothing is overwritten")
    loaded = load(run, role=role, allow=allow, encoder=encoder)
    tree = read_about(Path(run))["roles"][loaded.role]["encoder"]
    with only_from(allow):
        original = Original(loaded, Encoder.of(tree))
    folder.mkdir(parents=True, exist_ok=True)
    return FORMATS[format](original, folder)


def _safetensors(original: Original, folder: Path) -> Exported:
    """encoder.safetensors and encoder.json as in a run folder, so that `likeness.load` reads them too."""
    loaded = original.loaded
    kept = Kept(original.recipe, loaded.encoder, loaded.head)
    write_encoder(folder, {loaded.role: kept}, {loaded.role: loaded.modality}, loaded.classes)
    (folder / CARD).write_text(_card(original))
    files = [folder / WEIGHTS, folder / ABOUT, *([] if loaded.head is None else [folder / HEAD]), folder / CARD]
    return Exported(files)


def _card(original: Original) -> str:
    """How to load the weights, with and without this package, and what the numbers of the preprocessing mean."""
    loaded, code = original.loaded, original.recipe.code
    fields, values = type(loaded.modality).model_fields, loaded.modality.tree()
    rows = [f"| {name} | {values[name]} | {field.description} |" for name, field in fields.items()]
    parts = [
        f"# Encoder {loaded.fingerprint}\n\nMaps one {loaded.role} to {loaded.dim} numbers.\n",
        WITH,
        WITHOUT.format(code=code, weights=WEIGHTS) if code else "",
        f"## Preprocessing\n\n{getdoc(loaded.modality.plain)}\n\n| what | value | meaning |\n|---|---|---|\n"
        + "\n".join(rows),
        CLASSIFIER.format(head=HEAD, classes=", ".join(loaded.classes)) if loaded.head is not None else "",
    ]
    return "\n".join(part for part in parts if part) + "\n"


CLASSIFIER = """
## Classifier

`{head}` tells apart, in this order: {classes}. Of features x (N, dim) the logits are
`normalize(x) * dim**0.5 @ weight.T + bias`.
"""

WITH = """```python
import likeness

encoder = likeness.load(FOLDER)
features = encoder(encoder.preprocess(PATHS))
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


def _onnx(original: Original, folder: Path) -> Exported:
    missing = [package for package in EXTRA if find_spec(package) is None]
    if missing:
        raise Failed(f"format onnx needs {missing[0]}, which is not installed: pip install 'likeness[export]'")
    loaded = original.loaded
    about = {
        "fingerprint": loaded.fingerprint,
        "role": loaded.role,
        "dim": loaded.dim,
        "input": list(loaded.modality.example().shape[1:]),
        "preprocessing": loaded.modality.tree(),
    }
    path = folder / ONNX
    _write_onnx(loaded, path, about)
    difference = _difference(loaded, path)
    if not difference <= TOLERANCE:
        path.unlink()
        raise Failed(
            f"the ONNX encoder differs from torch by {difference:.1e}, more than {TOLERANCE:g}: it was deleted"
        )
    write_json(folder / PREPROCESSING, {**about, "difference": difference})
    if loaded.head is not None:
        warnings.warn("the classifier is left out: the ONNX file gives features", stacklevel=3)
    return Exported([path, folder / PREPROCESSING], difference)


def _write_onnx(loaded: LoadedEncoder, path: Path, about: dict[str, Any]) -> None:
    """The network with any number of rows, (N, ...) to (N, dim), its preprocessing among the metadata."""
    import onnx

    with _silent():
        try:
            torch.onnx.export(
                loaded.encoder.eval(),
                (loaded.modality.example(),),
                path,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: "batch"},),
                external_data=False,
            )
        except Exception as error:  # the exporter raises whatever it trips over
            raise Failed(f"{type(loaded.encoder).__name__} cannot be exported to ONNX: {_line(error)}") from error
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(model, path)


def _line(error: Exception) -> str:
    """The beginning of what went wrong; the exporter's messages are long."""
    return " ".join(str(error).split())[:TOLD]


def _difference(loaded: LoadedEncoder, path: Path) -> float:
    """Largest difference of features between torch and onnxruntime on random input, for several numbers of rows."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shape, chance = loaded.modality.example().shape[1:], torch.Generator().manual_seed(0)
    found = []
    for rows in BATCHES:
        data = torch.randn(rows, *shape, generator=chance)
        with torch.inference_mode():
            ours = loaded(data).numpy()
        theirs = session.run([OUTPUT], {INPUT: data.numpy()})[0]
        if theirs.shape != ours.shape:
            return float("inf")
        found.append(np.abs(ours - theirs).max() / max(1.0, np.abs(ours).max()))
    return float(np.max(found))  # NaN where any is


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps the exporter, which talks on every channel there is, from talking."""
    said, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


FORMATS: dict[str, Callable[[Original, Path], Exported]] = {"safetensors": _safetensors, "onnx": _onnx}
