"""`likeness search` and `likeness embed`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from ..asking import asked as taken_by
from ..asking import opposite, places
from ..disk import file_tree
from ..embedding import Embedded, embed_to
from ..errors import LikenessError, WrongCall, counted, meant
from ..layout import RECIPE, SPACE
from ..loaded import Towers, load_all
from ..modalities import Modality
from ..sources import read
from ..sources.base import Quarantine, Source
from ..space import Hit, Space
from ..space_read import holds_vectors, roles_of
from .asked import Asked, bar, name_bad, warnings_as_lines

NEARBY = 1000  # files and ids looked at for a suggestion
SCORED = 12  # characters of a line before what was found


def embed(asked: Asked, source: str, out: Path, dtype: str, dim: int | None = None) -> Embedded:
    """Embed a source into a file; dim: of each vector so many numbers."""
    to, bad = asked.console, Quarantine()
    with warnings_as_lines(to):
        encoders = load_all(asked.run, allow=asked.allow, device=asked.device) if asked.role is None else {}
    if asked.role is not None:
        encoders = {asked.role: asked.encoder(to)}
    if dim is not None:
        encoders = {role: one.shortened(dim) for role, one in encoders.items()}
    items = asked.source(source)
    with bar(to, "embedding") as move:
        done = embed_to(out, encoders, items, dtype=dtype, workers=asked.workers, quarantine=bad, progress=move)
    name_bad(to, bad)
    named = f" of {' and '.join(done.roles)}" if len(encoders) > 1 else ""
    to.print(f" {counted(done.rows, 'item')}, {done.dim} numbers each{named} · {out}", markup=False)
    return done


@dataclass(frozen=True)
class Answer:
    """What was found for one query, in vectors of the role `gallery`, by the encoder of the role `by`."""

    query: str
    raw: Any
    by: str
    gallery: str
    hits: Sequence[Hit]


def search(asked: Asked, queries: Sequence[str], inside: str | None, k: int, sheet: Path | None) -> dict[str, Any]:
    """Search the training source, another source, or stored vectors."""
    to = asked.console
    with warnings_as_lines(to):
        towers = Towers(asked.run, asked.allow, None, asked.device, untrained=False)
    if asked.role is not None:
        towers.only(asked.role)
    searched = Searched(asked, towers, inside, to)
    found = [searched.answer(query, k) for query in queries]
    for answer in found:
        space = searched.space(answer.gallery)
        to.print(f" {answer.query}", style="bold", markup=False)
        for n, hit in enumerate(answer.hits, 1):
            said = _words(space, answer.gallery, hit) or searched.path(answer.gallery, hit)
            to.print(f" {n:>3}  {hit.score:.2f}  {_line(to, hit, said)}", markup=False)
    items = len(searched.space(found[0].gallery))
    ways = dict.fromkeys(f" · {answer.by} > {answer.gallery}" for answer in found) if len(towers) > 1 else ()
    to.print(f" exact{''.join(ways)} · {items:,} items · {1000 * searched.seconds:.0f} ms", style="dim")
    if sheet is not None:
        draw(sheet, towers.modalities, found, searched.source)
        to.print(f" {sheet}", markup=False)
    results = [_plain(answer, searched.space(answer.gallery)) for answer in found]
    return {"results": results, "items": items, "exact": True}


class Searched:
    """What is searched: vectors of the run's source or of a file, or another source, embedded when it is asked for.

    inside: as it was named at the command line; None: what the run was trained on
    """

    def __init__(self, asked: Asked, towers: Towers, inside: str | None, to: Console) -> None:
        self.asked, self.towers, self.to = asked, towers, to
        stored = asked.run / SPACE if inside is None else Path(inside)
        self.stored = stored if (stored.exists() if inside is None else holds_vectors(stored)) else None
        self._items = None if self.stored or inside is None else asked.source(inside)
        self._spaces: dict[str, Space] = {}
        self._ids: dict[str, frozenset[str]] = {}
        self.seconds = 0.0  # that queries took, once all was loaded
        if inside is None and self.stored is None and self.source is None:
            raise WrongCall(f"{asked.run} has no {SPACE}, and its source is gone: say what to search with --in SOURCE")

    @cached_property
    def source(self) -> Source | None:
        """The items themselves, if it is known where they are."""
        return trained_on(self.asked.run) if self._items is None else self._items

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Whose vectors there are to be searched."""
        if self.stored is not None:
            unknown = self.asked.role or next(iter(self.towers))  # whoever wrote it did not say
            found = roles_of(self.stored)
            return found if len(found) > 1 or found[0] in self.towers else (unknown,)
        assert self.source is not None
        there = places(self.source, self.towers.modalities, self.towers.owners)
        return tuple(there)

    def gallery(self, by: str | None) -> str:
        """Which role is searched: the one that is asked for, the only one, or the other one of two.

        Raises:
            WrongCall: there is nothing of the one that is asked for.
        """
        if self.asked.role is not None:
            if self.asked.role not in self.roles:
                raise WrongCall(f"there is no {self.asked.role} to be searched, but {' and '.join(self.roles)}")
            return self.asked.role
        if by is None or len(self.roles) == 1:
            return self.roles[0]
        other = opposite(list(self.towers), by)
        return other if other in self.roles else self.roles[0]

    def space(self, gallery: str) -> Space:
        """The vectors of a role."""
        if gallery not in self._spaces:
            self._spaces[gallery] = self._loaded(gallery)
        return self._spaces[gallery]

    def _loaded(self, gallery: str) -> Space:
        if self.stored is not None:
            return Space.load(self.stored, role=gallery if len(self.roles) > 1 else None)
        with bar(self.to, "embedding") as move:
            return self.towers[gallery].embed(self.source, workers=self.asked.workers, progress=move)

    def answer(self, query: str, k: int) -> Answer:
        """The k nearest of a query: the id of an item, which is not found itself, a file, or a text.

        Raises:
            WrongCall: it is none of these.
        """
        try:
            by, raw = taken_by(self.towers.modalities, query, self.asked.role)
        except WrongCall as error:
            gallery = self.gallery(None)
            if not self.holds(query, gallery):
                raise WrongCall(f"{error}{meant(query, self._near(query, gallery))}") from None
            by, raw = gallery, query
        gallery = self.gallery(by)
        if self.holds(query, gallery):
            by, raw = gallery, query
        space = self.space(gallery)
        space = replace(space, encoder=self.towers[by].as_long_as(space))
        space.must_be_finite()
        began = time.perf_counter()
        hits = space.search(raw, k)
        self.seconds += time.perf_counter() - began
        return Answer(query, raw, by, gallery, hits)

    def holds(self, query: str, gallery: str) -> bool:
        """Whether it is the id of an item that is searched."""
        if gallery not in self._ids:
            self._ids[gallery] = frozenset(self.space(gallery).ids)
        return query in self._ids[gallery]

    def path(self, gallery: str, hit: Hit) -> str | None:
        """Where an item lies that is called by its number; None where that is not known on this machine."""
        row = self._rows.get(hit.id) if hit.id.isdecimal() else None
        if row is None or self.source is None:
            return None
        there = places(self.source, self.towers.modalities, self.towers.owners).get(gallery)
        raw = None if there is None else self.source.raw(there, row)
        return str(raw) if isinstance(raw, str | Path) else None

    @cached_property
    def _rows(self) -> dict[str, int]:
        """The row of each id; none where the source would have to be fetched."""
        named = file_tree(self.asked.run / RECIPE).get("data", {}).get("source") if self._items is None else None
        here = self._items is not None or Path(named or "").is_file()
        return {id: row for row, id in enumerate(self.source.ids)} if here and self.source is not None else {}

    def _near(self, query: str, gallery: str) -> list[str]:
        """Files and ids that may have been meant."""
        folder = Path(query).parent
        near = [str(other) for other in islice(folder.glob("*"), NEARBY)] if folder.is_dir() else []
        return near + list(self.space(gallery).ids[:NEARBY])


def _words(space: Space, gallery: str, hit: Hit) -> str | None:
    """What an item says, where it is made of words."""
    return space.table.column(gallery)[hit.row].as_py() if gallery in space.table.column_names else None


def _line(to: Console, hit: Hit, words: str | None) -> str:
    """Id and words of an item, in a line of the terminal."""
    line = hit.id if words is None else f"{hit.id}  {' '.join(words.split())}"
    room = to.width - SCORED
    return line if words is None or len(line) <= room else f"{line[: max(room - 1, 0)]}…"


def trained_on(run: Path) -> Source | None:
    """The source that a run was trained on, None where it is gone or was handed over in Python."""
    data = file_tree(run / RECIPE).get("data", {})
    try:
        return read(data["source"], columns=data["columns"], exclude=data["exclude"]) if data.get("source") else None
    except LikenessError:
        return None


def draw(sheet: Path, modalities: Mapping[str, Modality], found: Sequence[Answer], source: Source | None) -> None:
    """Queries and their hits as a picture.

    Raises:
        WrongCall: the items themselves are not at hand.
    """
    from ..sheet import contact_sheet

    if source is None:
        raise WrongCall("--sheet needs the items themselves, and what was trained on is gone: name a SOURCE with --in")
    rows_of = {id: row for row, id in enumerate(source.ids)}
    there = places(source, modalities, {})

    def stored(role: str, id: str, raw: Any) -> Any:
        return source.raw(there[role], rows_of[id]) if id in rows_of and role in there else raw

    galleries = {answer.gallery for answer in found}
    if len(galleries) > 1:
        raise WrongCall(f"one sheet cannot show hits of {' and '.join(sorted(galleries))}: say which with --role")
    gallery = galleries.pop()
    rows = [
        (
            answer.query,
            stored(answer.by, answer.query, answer.raw),
            [(hit.id, hit.score, stored(gallery, hit.id, Path(hit.id))) for hit in answer.hits],
        )
        for answer in found
    ]
    contact_sheet(modalities[gallery], rows, sheet, [modalities[answer.by] for answer in found])


def _plain(answer: Answer, space: Space) -> dict[str, Any]:
    hits = [
        {"id": hit.id, "score": round(hit.score, 6)} | ({} if words is None else {"text": words})
        for hit in answer.hits
        for words in [_words(space, answer.gallery, hit)]
    ]
    return {"query": answer.query, "hits": hits, "by": answer.by, "role": answer.gallery}
