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
from .hubfolder import CONFIG, PUBLIC, SUFFIX, described, known, must_be_weights, timm_network, timm_sight, towers
from .layout import ABOUT, WEIGHTS
from .weights import Tensors, Tree, fingerprint, load, of_role, read_about

TIMM, HUB = "timm:", "hf:"
FORMS = f"a run, a {SUFFIX} file, timm:NAME[:FILE], hf:OWNER/NAME or a folder with {CONFIG} and {PUBLIC}"
LARGE = 2**26  # bytes of a file that is not hashed again unless it changes


@dataclass(frozen=True)
class Found:
    """Weights and what is known of them.

    file:         where the tensors are, or the first of them
    architecture: the recipe of the network, as a tree; None: the file does not say
    role:         whose they are, in a run
    seen:         how the network's input was prepared: kind, size, channels, mean, std, as far as known
    about:        encoder.json of a run
    more:         further files of tensors, after what stands before their names
    """

    file: Path
    architecture: Tree | None = None
    role: str | None = None
    seen: Tree = field(default_factory=dict)
    about: Tree | None = None
    more: tuple[tuple[str, Path], ...] = ()

    def read(self) -> tuple[Tensors, str]:
        """The tensors by name, and their fingerprint; a run's is that of the run.

        Raises:
            Failed: the file is damaged, or not what the run's encoder.json describes.
        """
        files = (("", self.file), *self.more)
        tensors = _read(files)
        roles = {} if self.about is None else self.about["roles"]
        about = [file.stat() for _, file in files]
        if sum(one.st_size for one in about) > LARGE:
            named = _named(files, tuple(one.st_mtime_ns for one in about), json.dumps(roles))
        else:  # files change within a tick of the clock that stamps them: hash the small ones
            named = fingerprint(tensors, roles)
        if self.about is not None and named != self.about["fingerprint"]:
            raise Failed(f"{self.file} is not what {ABOUT} describes: one of the two was changed")
        return of_role(tensors, self.role or "", roles), named


def _read(files: tuple[tuple[str, Path], ...]) -> Tensors:
    return {f"{start}{name}": tensor for start, file in files for name, tensor in load(file).items()}


def encoders_in(text: str) -> tuple[str, ...]:
    """Names of the encoders that weights are of, where there are several; none where there is one."""
    path = Path(text.removeprefix(HUB))
    if (path / ABOUT).exists():
        roles = read_about(path)["roles"]
        return tuple(roles) if len(roles) > 1 else ()
    folder = path if path.is_dir() or not text.startswith(HUB) else _snapshot(text.removeprefix(HUB))
    return towers(folder)


def must_be_there(text: str) -> None:
    """Whether weights that were asked for can be there; says so without torch.

    Raises:
        WrongCall: they are not on this machine, or of a form that is not read.
    """
    if text.startswith(TIMM):
        _, _, file = text.removeprefix(TIMM).partition(":")
        if file:
            must_be_weights(Path(file), FORMS)
    elif not text.startswith(HUB) or Path(text.removeprefix(HUB)).is_dir():
        path = Path(text.removeprefix(HUB))
        if not path.is_dir():
            must_be_weights(path, FORMS)
        elif not (path / ABOUT).exists() and not known(path):
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
    path = Path(text.removeprefix(HUB))
    if text.startswith(HUB) and not path.is_dir():
        path = _snapshot(text.removeprefix(HUB))
    if not path.is_dir():
        return Found(path)
    return _run(path, role) if (path / ABOUT).exists() else _folder(path, role)


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
    return Found(path, timm_network(name), seen=timm_sight(settings.to_dict() if settings else {}))


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

    hub = repository.count("/") == 1 and not repository.startswith((".", "/", "~"))
    found = try_to_load_from_cache(repository, CONFIG) if hub else None
    if not isinstance(found, str):
        raise WrongCall(
            f"{HUB}{repository} is not on this machine, and nothing is downloaded unasked: "
            f"fetch it with `hf download {repository}`"
        )
    return Path(found).parent


def _folder(folder: Path, role: str | None) -> Found:
    """A folder as others have them."""
    about = described(folder, role)
    (_, first), *more = about.files
    return Found(first, about.network, about.role, about.seen, more=tuple(more))


@cache
def _named(files: tuple[tuple[str, Path], ...], changed: tuple[int, ...], parts: str) -> str:
    """Fingerprint of large files, read several times while a run begins; hashing takes a second a gigabyte."""
    return fingerprint(_read(files), json.loads(parts))
