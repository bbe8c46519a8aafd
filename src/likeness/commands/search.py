"""`likeness search` and `likeness embed`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from ..disk import file_tree
from ..embedding import Embedded, embed_to
from ..errors import LikenessError, WrongCall, meant
from ..layout import RECIPE, SPACE
from ..loaded import LoadedEncoder
from ..sources import read
from ..sources.base import Quarantine, Source
from ..space import Hit, Space
from ..space_read import holds_vectors
from .asked import Asked, bar, name_bad

NEARBY = 1000  # files and ids looked at for a suggestion
Found = Sequence[tuple[str, Sequence[Hit]]]


def embed(asked: Asked, source: str, out: Path, dtype: str) -> Embedded:
    """Embed a source into a file."""
    to, bad = asked.console, Quarantine()
    encoder, items = asked.encoder(to), asked.source(source)
    with bar(to, "embedding") as move:
        done = embed_to(out, encoder, items, dtype=dtype, workers=asked.workers, quarantine=bad, progress=move)
    name_bad(to, bad)
    to.print(f" {done.rows:,} vectors of {done.dim} numbers · {out}", markup=False)
    return done


def search(asked: Asked, queries: Sequence[str], inside: str | None, k: int, sheet: Path | None) -> dict[str, Any]:
    """Search the training source, another source, or stored vectors."""
    to = asked.console
    encoder = asked.encoder(to)
    space, source = _searched(asked, encoder, inside, to)
    began = time.perf_counter()
    found = [(query, space.search(_query(query, space), k)) for query in queries]
    took = 1000 * (time.perf_counter() - began)
    for query, hits in found:
        to.print(f" {query}", style="bold", markup=False)
        for n, hit in enumerate(hits, 1):
            to.print(f" {n:>3}  {hit.score:.2f}  {hit.id}", markup=False)
    to.print(f" exact · {len(space):,} items · {took:.0f} ms", style="dim")
    if sheet is not None:
        draw(sheet, encoder, found, source)
        to.print(f" {sheet}", markup=False)
    results = [{"query": query, "hits": [_plain(hit) for hit in hits]} for query, hits in found]
    return {"results": results, "items": len(space), "exact": True}


def _searched(asked: Asked, encoder: LoadedEncoder, inside: str | None, to: Console) -> tuple[Space, Source | None]:
    """What is searched: stored vectors or a source embedded now; and where the items themselves are, if known."""
    stored = asked.run / SPACE if inside is None else Path(inside)
    if (inside is None and stored.exists()) or (inside is not None and holds_vectors(stored)):
        return replace(Space.load(stored), encoder=encoder), trained_on(asked.run)
    source = trained_on(asked.run) if inside is None else asked.source(inside)
    if source is None:
        raise WrongCall(f"{asked.run} has no {SPACE}, and its source is gone: say what to search with --in SOURCE")
    with bar(to, "embedding") as move:
        return encoder.embed(source, workers=asked.workers, progress=move), source


def _query(query: str, space: Space) -> Any:
    """An id of the space, else a file.

    Raises:
        WrongCall: it is neither.
    """
    path = Path(query)
    if query in set(space.ids):
        return query
    if path.exists():
        return path
    near = [str(other) for other in islice(path.parent.glob("*"), NEARBY)] if path.parent.is_dir() else []
    near += space.ids[:NEARBY]
    raise WrongCall(f"query {query!r} is neither a file nor an id of the space{meant(query, near)}")


def trained_on(run: Path) -> Source | None:
    """The source that a run was trained on, None where it is gone or was handed over in Python."""
    data = file_tree(run / RECIPE).get("data", {})
    try:
        return read(data["source"], columns=data["columns"], exclude=data["exclude"]) if data.get("source") else None
    except LikenessError:
        return None


def draw(sheet: Path, encoder: LoadedEncoder, found: Found, source: Source | None) -> None:
    """Queries and their hits as a picture.

    Raises:
        WrongCall: the items themselves are not at hand.
    """
    from ..sheet import contact_sheet

    if source is None:
        raise WrongCall("--sheet needs the items themselves, and what was trained on is gone: name a SOURCE with --in")
    place = {id: row for row, id in enumerate(source.ids)}

    def stored(id: str) -> Any:
        return source.raw(encoder.role, place[id]) if id in place else Path(id)

    rows = [(query, stored(query), [(hit.id, hit.score, stored(hit.id)) for hit in hits]) for query, hits in found]
    contact_sheet(encoder.modality, rows, sheet)


def _plain(hit: Hit) -> dict[str, Any]:
    return {"id": hit.id, "score": round(hit.score, 6)}
