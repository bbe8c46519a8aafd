"""Which form a source is of, and what opens it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import WrongCall
from . import Columns, arrays, files, lines, listing, lists, remote, rowgroups, tar
from .base import Source
from .blocked import Shard, Sharded
from .folders import folder_source
from .forms import ARRAYS, READ, TEXTS, check, expanded, is_glob, is_range, is_url
from .made.form import is_made
from .made.kinds import Made, named
from .ranges import Local
from .roles import NEGATIVE, PICTURED, SPOKEN, TRIPLE
from .sniff import claimed, readable
from .tables import table_source
from .walk import Told, nobody


@dataclass(frozen=True)
class Request:
    """How a source is asked for; see `likeness.read`."""

    columns: Columns
    exclude: tuple[str, ...] = ()
    told: Told = nobody

    def columns_alone(self, name: str) -> Columns:
        """The columns of something whose items are no files.

        Raises:
            WrongCall: files should be left out.
        """
        if self.exclude:
            patterns = ", ".join(self.exclude)
            raise WrongCall(f"{name} has no files to exclude ({patterns}); exclude is for folders, globs and lists")
        return self.columns


def opened(source: Any, request: Request) -> Source:
    """The source that a value stands for; types of other libraries are known by module and name, not imported."""
    for kind in type(source).__mro__:
        foreign = FOREIGN.get((kind.__module__, kind.__name__))
        if foreign is not None:
            return foreign(source, request)
    return _opened(source, request)


@singledispatch
def _opened(source: Any, request: Request) -> Source:
    raise WrongCall(f"{READ}; in Python also lists, frames and tensors, not {type(source).__name__}")


@_opened.register
def _(source: Source, request: Request) -> Source:
    if request.columns or request.exclude:
        raise WrongCall(f"{source.name} is read already; give columns and exclude where it is read first")
    return source


@_opened.register
def _(source: Made, request: Request) -> Source:
    return source.items(request.columns, request.exclude)


@_opened.register
def _(source: os.PathLike, request: Request) -> Source:  # type: ignore[type-arg]
    return _opened(os.fspath(source), request)


@_opened.register
def _(source: str, request: Request) -> Source:
    check(source)
    if is_made(source):
        return _opened(named(source), request)
    path = os.path.expanduser(source)
    if is_url(source):
        return _distant(source, request)
    if source.startswith("@"):
        return _listed(listing.listed_in(source, request.exclude), request)
    if os.path.isdir(path):
        return _listed(listing.below(source, path, exclude=request.exclude, told=request.told), request)
    if is_range(source):
        return _listed(listing.named(source, expanded(path), exclude=request.exclude), request)
    if is_glob(source):
        return _listed(listing.matching(source, request.exclude, request.told), request)
    return _file(source, path, request)


def _distant(source: str, request: Request) -> Source:
    """What lies elsewhere; a name that ends as tables, arrays or items do, or in braces, is a file without asking."""
    if is_range(source):
        return _listed(listing.named(source, expanded(source), os.path.dirname(source), request.exclude), request)
    if is_glob(source):
        return _listed(listing.matching(source, request.exclude, request.told), request)
    if remote.is_folder(source):
        return _listed(listing.below(source, source, exclude=request.exclude, told=request.told), request)
    return _file(source, source, request)


def _file(source: str, path: str, request: Request) -> Source:
    ending = os.path.splitext(path)[1].lower()
    if path.lower().endswith(TEXTS):
        return _values(lines.line_source(source, path), request)
    if ending in SHARDED:
        columns = request.columns_alone(source)
        return SHARDED[ending](listing.named(source, [os.path.basename(path)], os.path.dirname(path)), columns)
    if ending in ARRAYS:
        return _array_file(source, path, ending, request)
    if ending in FILES:
        texts = _texts(request.columns)
        columns = request.columns_alone(source)
        table = FILES[ending](path, _content(path), texts)
        return table_source(source, table, os.path.dirname(path), columns)
    if claimed(Path(path)) is None:
        raise WrongCall(
            f"{READ} and single files of {readable()}; {ending or 'a file without ending'} is none ({source})"
        )
    return _listed(listing.named(source, [os.path.basename(path)], os.path.dirname(path), request.exclude), request)


def _texts(columns: Columns) -> list[str]:
    """Columns of a CSV that are text, whatever they look like."""
    given = [name for role, names in columns.items() if role not in ("label", "score") for name in _parts(names)]
    return [*given, "id", "group", *PICTURED, *SPOKEN, *TRIPLE, NEGATIVE]


def _parts(names: str | Sequence[str]) -> list[str]:
    return [names, *names.split("+")] if isinstance(names, str) else list(names)


FILES: dict[str, Callable[[str, Any, Sequence[str]], pa.Table]] = {
    ".csv": lambda path, content, texts: files.separated(path, content, ",", texts),
    ".tsv": lambda path, content, texts: files.separated(path, content, "\t", texts),
    ".jsonl": lambda path, content, texts: files.json_lines(path, content),
}


def _content(path: str) -> Any:
    """What readers take: the path, or what lies elsewhere, fetched."""
    return pa.BufferReader(remote.contents(path)) if is_url(path) else path


def _parquet(found: listing.Listing, columns: Columns) -> Source:
    at = remote.below(found.root) if is_url(found.root) else None
    shards = [remote.shard(at(name)) if at else Shard.local(os.path.join(found.root, name)) for name in found.names]
    return _sharded(found, rowgroups.parquet(shards), columns)


def _tars(found: listing.Listing, columns: Columns) -> Source:
    at = remote.below(found.root) if is_url(found.root) else partial(_local, found.root)
    return _sharded(found, tar.tars(found.name, list(found.names), at), columns)


def _local(root: str, name: str) -> Local:
    return Local.of(os.path.join(root, name))


def _sharded(found: listing.Listing, table: Sharded, columns: Columns) -> Source:
    notes, unlisted = (*found.notes, *table.notes), {**found.unlisted, **table.unlisted}
    return table_source(found.name, table, found.root, columns, notes, unlisted, table.blocks)


SHARDED: dict[str, Callable[[listing.Listing, Columns], Source]] = {".parquet": _parquet, ".tar": _tars}


def _array_file(source: str, path: str, ending: str, request: Request) -> Source:
    if ending == ".npz":
        return arrays.named_arrays(source, files.arrays(path, _content(path)), request.columns_alone(source))
    return _values(arrays.one_array(source, files.array(path, _content(path) if is_url(path) else None)), request)


def _listed(found: listing.Listing, request: Request) -> Source:
    """Files as items, or shards as one table."""
    if found.kind in SHARDED:
        return SHARDED[found.kind](found, request.columns)
    return _untabled(folder_source(found), request)


def _untabled(source: Source, request: Request) -> Source:
    if request.columns:
        raise WrongCall(f"{source.name} has no columns to choose from; columns are for tables and named arrays")
    return source


def _values(source: Source, request: Request) -> Source:
    """Values of one kind: they have neither columns nor files."""
    request.columns_alone(source.name)
    return _untabled(source, request)


@_opened.register
def _(source: np.ndarray, request: Request) -> Source:
    if source.dtype.hasobject or source.dtype.kind == "U":
        return _opened(source.tolist(), request)
    return _values(arrays.one_array("array", source), request)


@_opened.register
def _(source: pa.Table, request: Request) -> Source:
    return table_source("table", source, "", request.columns_alone("table"))


@_opened.register
def _(source: Mapping, request: Request) -> Source:  # type: ignore[type-arg]
    columns, label = request.columns_alone("mapping"), {"label": arrays.LABEL} if arrays.LABEL in source else {}
    try:
        texts = any(isinstance(next(iter(column), None), str) for column in source.values())
        table = pa.table(dict(source)) if texts else None
    except (
        pa.ArrowException,
        TypeError,
        ValueError,
    ):  # it holds arrays or images as well, or columns are unequal
        table = None
    if table is None:
        return arrays.named_arrays("mapping", source, columns)
    return table_source("mapping", table, "", {**({} if "label" in source else label), **columns})


@_opened.register(list)
@_opened.register(tuple)
def _(source: Sequence[Any], request: Request) -> Source:
    if lists.are_paths(source):
        paths = lists.paths("list", source)
        return _listed(listing.named("list", paths, exclude=request.exclude), request)
    make = lists.tuples if lists.are_tuples(source) else arrays.values
    return _values(make("list", source), request)


def _tensor(source: Any, request: Request) -> Source:
    return _opened(source.detach().cpu().numpy(), request)


def _pandas(source: Any, request: Request) -> Source:
    named, columns = source.rename(columns=str), request.columns_alone("frame")
    try:
        table = pa.Table.from_pandas(named, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # images as Python objects, say
        return arrays.named_arrays("frame", {name: named[name].tolist() for name in named}, columns)
    return table_source("frame", table, "", columns)


def _polars(source: Any, request: Request) -> Source:
    return table_source("frame", source.to_arrow(), "", request.columns_alone("frame"))


def _dataset(source: Any, request: Request) -> Source:
    return table_source("dataset", source.with_format("arrow")[:], "", request.columns_alone("dataset"))


def _datasets(source: Any, request: Request) -> Source:
    first = next(iter(source), "train")
    raise WrongCall(f"a DatasetDict holds several sets ({', '.join(source)}); give one, as in dataset[{first!r}]")


FOREIGN: dict[tuple[str, str], Callable[[Any, Request], Source]] = {
    ("torch", "Tensor"): _tensor,
    ("pandas.core.frame", "DataFrame"): _pandas,
    ("pandas", "DataFrame"): _pandas,  # since pandas 3
    ("polars.dataframe.frame", "DataFrame"): _polars,
    ("datasets.arrow_dataset", "Dataset"): _dataset,
    ("datasets.dataset_dict", "DatasetDict"): _datasets,
}
