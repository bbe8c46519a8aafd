"""Where weights lie on this machine, of which network they are, and what it was trained to see. Nothing is downloaded.

`RUN | FILE.safetensors | timm:NAME[:FILE] | hf:OWNER/NAME | FOLDER with config.json`: all that `from=` may say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .errors import Failed, WrongCall, meant
from .layout import ABOUT, WEIGHTS
from .weights import Tensors, Tree, fingerprint, load, of_role, read_about, read_json

SUFFIX = ".safetensors"
PUBLIC, CONFIG, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"  # a Hugging Face folder
TIMM, HUB = "timm:", "hf:"
FORMS = f"a run, a {SUFFIX} file, timm:NAME[:FILE], hf:OWNER/NAME or a folder with {CONFIG} and {PUBLIC}"
LARGE = 2**26  # bytes of a file that is not hashed again unless it changes


@dataclass(frozen=True)
class Found:
    """Weights and what is known of them.

    file:         where the tensors are
    architecture: the recipe of the network, as a tree; None: the file does not say
    role:         whose they are, in a run
    seen:         how the network's input was prepared: kind, size, channels, mean, std, as far as known
    about:        encoder.json of a run
    """

    file: Path
    architecture: Tree | None = None
    role: str | None = None
    seen: Tree = field(default_factory=dict)
    about: Tree | None = None

    def read(self) -> tuple[Tensors, str]:
        """The tensors by name, and their fingerprint; a run's is that of the run.

        Raises:
            Failed: the file is damaged, or not what the run's encoder.json describes.
        """
        tensors = load(self.file)
        roles = {} if self.about is None else self.about["roles"]
        about = self.file.stat()
        known = about.st_size > LARGE  # files change within a tick of the clock that stamps them: hash the small ones
        named = _named(self.file, about.st_mtime_ns, json.dumps(roles)) if known else fingerprint(tensors, roles)
        if self.about is not None and named != self.about["fingerprint"]:
            raise Failed(f"{self.file} is not what {ABOUT} describes: one of the two was changed")
        return of_role(tensors, self.role or "", roles), named


def must_be_there(text: str) -> None:
    """Whether weights that were asked for can be there; says so without torch.

    Raises:
        WrongCall: they are not on this machine, or of a form that is not read.
    """
    if text.startswith(TIMM):
        _, _, file = text.removeprefix(TIMM).partition(":")
        if file:
            _must_be_weights(Path(file))
    elif not text.startswith(HUB):
        path = Path(text)
        if not path.is_dir():
            _must_be_weights(path)
        elif not (path / ABOUT).exists() and not (path / CONFIG).exists():
            read_about(path)


def find(text: str, role: str | None = None) -> Found:
    """Where the weights of that name are, and what they are of.

    role: of a run that has several encoders

    Raises:
        WrongCall: they are not on this machine, or it is not clear which are meant.
    """
    must_be_there(text)
    if text.startswith(TIMM):
        return _timm(text.removeprefix(TIMM))
    path = _snapshot(text.removeprefix(HUB)) if text.startswith(HUB) else Path(text)
    if not path.is_dir():
        return Found(path)
    return _run(path, role) if (path / ABOUT).exists() else _folder(path)


def _must_be_weights(path: Path) -> None:
    if path.suffix == SUFFIX and path.is_file():
        return
    if path.is_file():
        raise WrongCall(f"{path} is no {SUFFIX} file: weights of other forms are not unpickled; save them as {SUFFIX}")
    folder = path.parent
    near = [str(other) for other in folder.glob("*")] if folder.is_dir() else []
    hub = len(path.parts) == 2 and not folder.exists()
    fetch = f"; is it a name on Hugging Face? `hf download {path}`, then hf:{path}" if hub else ""
    raise WrongCall(f"there are no weights at {path}{meant(str(path), near)}{fetch} (expected {FORMS})")


def _run(run: Path, role: str | None) -> Found:
    about = read_about(run)
    roles: Mapping[str, Any] = about["roles"]
    if role is None and len(roles) > 1:
        raise WrongCall(f"{run} has several encoders ({', '.join(roles)}): say which with encoder.role=")
    chosen = role or ""
    if len(roles) == 1:
        chosen = next(iter(roles))  # it may go by another name here
    if chosen not in roles:
        raise WrongCall(f"{run} has no role {chosen!r}{meant(chosen, roles)} (there are {', '.join(roles)})")
    part = roles[chosen]
    return Found(run / WEIGHTS, part["encoder"], chosen, part["preprocessing"], about)


def _timm(text: str) -> Found:
    """`NAME[:FILE]`: a network of timm, its public weights or a file."""
    import timm
    from timm.models import get_pretrained_cfg

    name, _, file = text.partition(":")
    if not timm.is_model(name):
        raise WrongCall(f"timm has no model {name!r}{meant(name, timm.list_models())}")
    settings: Any = get_pretrained_cfg(name)
    path = Path(file) if file else _cached(name, settings and settings.hf_hub_id)
    return Found(path, _usual(name), seen=_sight(settings.to_dict() if settings else {}))


def _usual(name: str) -> Tree:
    """A network of timm as its public weights know it."""
    return {"kind": "Timm", "name": name, "stem": "usual"}


def _sight(settings: Mapping[str, Any]) -> Tree:
    """timm's words for how pictures were prepared."""
    known = {name: list(settings[name]) for name in ("mean", "std") if settings.get(name)}
    size = settings.get("input_size")
    return {"kind": "Image", **known, **({"channels": size[0], "size": size[-1]} if size else {})}


def _cached(name: str, repository: str | None) -> Path:
    """Where a model's public weights lie, if they were downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, PUBLIC) if repository else None
    if not isinstance(found, str):
        raise WrongCall(
            f"the public weights of {name} are not on this machine, and nothing is downloaded unasked: "
            f"fetch them with `hf download {repository or name} {PUBLIC}`, or name a file: {TIMM}{name}:FILE{SUFFIX}"
        )
    return Path(found)


def _snapshot(repository: str) -> Path:
    """Where a model of Hugging Face lies in its cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, CONFIG) if "/" in repository else None
    if not isinstance(found, str):
        raise WrongCall(
            f"{HUB}{repository} is not on this machine, and nothing is downloaded unasked: "
            f"fetch it with `hf download {repository}`"
        )
    return Path(found).parent


def _folder(folder: Path) -> Found:
    """A folder as Hugging Face has them: timm's own, whose config.json names an `architecture`, or transformers'."""
    _must_be_weights(folder / PUBLIC)
    config = read_json(folder / CONFIG)
    if "architecture" in config:
        return Found(folder / PUBLIC, _usual(config["architecture"]), seen=_sight(config.get("pretrained_cfg", config)))
    if "model_type" not in config:
        raise WrongCall(f"{folder / CONFIG} names no network: expected `architecture` (timm) or `model_type`")
    processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).exists() else {}
    known = {name: processor.get(f"image_{name}") for name in ("mean", "std")}
    known |= {"size": config.get("image_size"), "channels": config.get("num_channels")}
    seen = {"kind": "Image", **{name: value for name, value in known.items() if value}}
    return Found(folder / PUBLIC, {"kind": "Transformers", "config": config}, seen=seen)


@cache
def _named(file: Path, changed: int, parts: str) -> str:
    """Fingerprint of a large file, read several times while a run begins; hashing takes a second a gigabyte."""
    return fingerprint(load(file), json.loads(parts))
