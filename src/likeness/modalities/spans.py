"""Shares, and spans of them, as augmentations have them for fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

Share = Annotated[float, Field(ge=0, le=1)]


def _span(value: Any) -> Any:
    """0 and false switch it off; a lone number is the least share."""
    return None if not value else (value, 1.0) if isinstance(value, int | float) else value


Span = Annotated[
    tuple[Share, Share] | None, BeforeValidator(_span, json_schema_input_type=tuple[Share, Share] | Share | None)
]
"""Least and largest share, or None; also written as the least alone, or as 0."""
