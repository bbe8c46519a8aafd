"""What Parquet files say of themselves, before any row is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .blocked import Shard
from .files import guarded
from .pool import AdaptivePool


@dataclass(frozen=True)
class Footer:
    """What a file says of itself. meta: pyarrow's FileMetaData, sizes: bytes of each column in each row group"""

    meta: Any
    schema: pa.Schema
    rows: list[int]
    sizes: list[dict[str, int]]


def _footer(shard: Shard) -> Footer:
    return guarded(shard.name, _read_footer, shard)  # type: ignore[no-any-return]


def _read_footer(shard: Shard) -> Footer:
    import pyarrow.parquet as pq

    with shard.open() as opened, pq.ParquetFile(opened) as file:
        meta = file.metadata
        groups = [meta.row_group(n) for n in range(meta.num_row_groups)]
        return Footer(
            meta, file.schema_arrow, [group.num_rows for group in groups], [_sizes(group) for group in groups]
        )


def _sizes(group: Any) -> dict[str, int]:
    """Column -> its bytes, unpacked, with all that is nested in it."""
    sizes: dict[str, int] = {}
    for n in range(group.num_columns):
        leaf = group.column(n)
        name = leaf.path_in_schema.partition(".")[0]
        sizes[name] = sizes.get(name, 0) + leaf.total_uncompressed_size
    return sizes


def footers(shards: Sequence[Shard]) -> list[Footer]:
    """The footer of each file.

    Raises:
        Failed: one is broken.
    """
    with AdaptivePool() as pool:
        return list(pool.map(_footer, shards))
