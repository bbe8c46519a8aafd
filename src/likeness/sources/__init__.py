"""Where items come from: folders, tables and arrays. Nothing heavy is imported before something is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Source

Columns = Mapping[str, str | Sequence[str]]  # role or known name -> the column or columns that it is read from


def read(
    source: Any,
    columns: Columns | None = None,
    exclude: Sequence[str] = (),
    told: Callable[[int], None] | None = None,
) -> Source:
    """A source of items from whatever holds them.

    source:  a directory, a glob in quotes ("photos/**/*.jpg"), `@list.txt`, a `.csv .tsv .jsonl .parquet` table,
             `.txt` or `.txt.gz` (one text a line), `.tar` shards ("s-{000..099}.tar"), a `.npy` or `.npz` file, one
             image, a URL of any of these, `made:NAME[:SPLIT][,KEY=VALUE...]` (a generated set); in Python also such a
             set's recipe, a list of paths, of texts, of PIL images, of arrays or pairs (array, rate), a NumPy array or
             torch tensor (N, ...), a mapping of such columns, a pandas or polars frame, an Arrow table, a
             `datasets.Dataset`. A list of tuples has a role for each place: `sentence1` and
             `sentence2` of texts, with a number in third place as `score`; `anchor`, `positive` and `negative` of three
             alike; `image` and `text` of such. A `Source` is given back as it is
    columns: what a table's columns are, {"text": "caption1+caption2", "label": "y"}; several may share one role, and
             are then variants of one item. Where a role is named, other columns of its kind are not read
    exclude: patterns of paths to leave out of a folder, glob or list: `*.png`, `thumbs`, `raw/*/old`
    told:    hears how many files are listed so far, while a folder is

    Raises:
        WrongCall: the source does not exist or is of a form that is not read; the message says which are. Or there
            is something to exclude where there are no files.
        Failed: it is empty or broken.
    """
    from .openers import Request, opened
    from .walk import nobody

    return opened(source, Request(columns or {}, tuple(exclude), told or nobody))
