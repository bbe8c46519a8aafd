"""The encoders of a run, loaded by role; they know each other, so that a text finds images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .aligned import Aligned, aligned
from .asking import asked, places, source_of
from .embedder import ROWS, LoadedEncoder, Progress, worded
from .engine import device_of
from .errors import WrongCall, meant
from .folder import build, read_head, read_weights
from .layout import CHECKPOINT, UNTRAINED, WEIGHTS
from .modalities import Modality
from .recipe import only_from
from .sources.base import Quarantine, Source
from .weights import SAME, read_about

__all__ = ["ROWS", "LoadedEncoder", "Progress", "Queries", "Towers", "embed_all", "load", "load_all", "taken_of"]


class Towers(Mapping[str, LoadedEncoder]):
    """The encoders of a run by role, each built when it is first asked for; roles may share one.

    modalities: how items of each role are read and preprocessed
    """

    def __init__(self, run: Path, allow: Iterable[str], given: nn.Module | None, device: str, untrained: bool) -> None:
        self.run, self.about, self.untrained = run, read_about(run), untrained
        self._allow, self._given, self._device = tuple(allow), given, device_of(device)
        self._roles: Mapping[str, Any] = self.about["roles"]
        with only_from(self._allow):
            self.modalities = {role: Modality.of(part["preprocessing"]) for role, part in self._roles.items()}
        self.fingerprint = f"{self.about['fingerprint']}{'-untrained' if untrained else ''}"
        self._built: dict[str, LoadedEncoder] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)

    def __getitem__(self, role: str) -> LoadedEncoder:
        if role not in self._built:
            self._built[role] = self._loaded(role)
        return self._built[role]

    @property
    def owners(self) -> dict[str, str]:
        """Role -> the role whose weights it has."""
        return {role: part.get(SAME, role) for role, part in self._roles.items()}

    def _loaded(self, role: str) -> LoadedEncoder:
        owner, about = self.owners[role], self.about
        module = self[owner].encoder if owner != role else self._module(role)
        head, classes = (None if self.untrained else read_head(self.run, about, role)) or (None, ())
        loaded = LoadedEncoder(
            module, self.modalities[role], role, self._roles[role]["dim"], self.fingerprint, head, classes
        )
        loaded.beside = Queries(self, role) if len(self) > 1 else None
        return loaded.to(self._device)

    def _module(self, role: str) -> nn.Module:
        tensors = read_weights(self.run, self.about, f"{CHECKPOINT}/{UNTRAINED}" if self.untrained else WEIGHTS)
        given = deepcopy(self._given) if self._built else self._given
        return build(self.run, self.about, role, tensors, self._allow, given)

    def only(self, role: str | None) -> str:
        """The role that is named, or the only one.

        Raises:
            WrongCall: there is no such role, or there are several.
        """
        if role is None and len(self) > 1:
            raise WrongCall(f"{self.run} has several encoders ({', '.join(self)}): name one with --role")
        if role is not None and role not in self._roles:
            raise WrongCall(f"{self.run} has no role {role!r}{meant(role, self._roles)} (there are {', '.join(self)})")
        return role or next(iter(self))


@dataclass(frozen=True)
class Queries:
    """Embeds queries to items of one role, each by the encoder of the run that takes it: images are found by a text."""

    towers: Towers
    gallery: str

    @property
    def fingerprint(self) -> str:
        return self.towers.fingerprint

    def embed_one(self, raw: Any) -> np.ndarray:
        """(dim,) the vector of one query: a file's name, a path, bytes, a text, a PIL image or an array."""
        role, value = asked(self.towers.modalities, raw, self.gallery)
        return self.towers[role].embed_one(value)


def embed_all(
    encoders: Mapping[str, LoadedEncoder],
    data: Any,
    *,
    workers: int = 2,
    quarantine: Quarantine | None = None,
    progress: Progress | None = None,
) -> Aligned:
    """Every item of a source by every encoder that takes something of it, in order; what cannot be read is left out.

    Raises:
        WrongCall: it has nothing that an encoder takes, or it is not clear which takes what.
    """
    modalities = {role: one.modality for role, one in encoders.items()}
    source, bad = source_of(data, modalities), Quarantine() if quarantine is None else quarantine
    there, how = taken_of(source, encoders), (ROWS, workers, bad, progress)
    rows, vectors = aligned({role: encoders[role].placed(source, place, *how) for role, place in there.items()})
    kept = source.only(rows)
    name = next(iter(encoders.values())).fingerprint
    return Aligned(vectors, kept.ids, worded(kept, there, modalities), name)


def taken_of(source: Source, encoders: Mapping[str, LoadedEncoder]) -> dict[str, str]:
    """Role -> the source's own role that its encoder takes; roles of which it has nothing are left out.

    Raises:
        WrongCall: it has nothing that an encoder takes, or it is not clear which takes what.
    """
    every = {role: one.encoder for role, one in encoders.items()}
    owners = {role: next(own for own in every if every[own] is net) for role, net in every.items()}
    return places(source, {role: one.modality for role, one in encoders.items()}, owners)


def load(
    run: str | Path,
    *,
    role: str | None = None,
    allow: Iterable[str] = (),
    encoder: nn.Module | None = None,
    device: str = "cpu",
    untrained: bool = False,
) -> LoadedEncoder:
    """The encoder that a run kept. No code from the folder is run, and nothing is unpickled.

    role:      which encoder, where the run has several
    allow:     packages from outside whose encoders may be imported
    encoder:   the module to fill with the weights, where training was given one
    untrained: with the weights of step 0 instead

    Raises:
        WrongCall: there is no such run, role or device, or the encoder is code from outside that is not allowed.
        Failed: the files are damaged.
    """
    towers = Towers(Path(run), allow, encoder, device, untrained)
    return towers[towers.only(role)]


def load_all(
    run: str | Path,
    *,
    allow: Iterable[str] = (),
    encoder: nn.Module | None = None,
    device: str = "cpu",
    untrained: bool = False,
) -> dict[str, LoadedEncoder]:
    """The encoders of all roles that a run kept, by role; those that share a module have the same one. As `load`.

    encoder: the module that training was given; copies of it where it stands in several towers

    Raises:
        WrongCall, Failed: as `load`.
    """
    return dict(Towers(Path(run), allow, encoder, device, untrained))
