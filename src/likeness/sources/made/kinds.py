"""The data sets that can be made, by name."""

from __future__ import annotations

from ...errors import WrongCall
from .base import Made
from .digits import DigitOn
from .form import asked
from .pairs import TrifeaturePairs
from .tinted import Tinted
from .trifeature import Trifeature

__all__ = ["DigitOn", "Made", "Tinted", "Trifeature", "TrifeaturePairs", "named"]


def named(source: str) -> Made:
    """The recipe that `made:NAME[:SPLIT][,KEY=VALUE...]` stands for.

    Raises:
        WrongCall: nothing of that name is made, or all that is wrong with its fields.
    """
    kind, fields = asked(source)
    try:
        return Made.of({"kind": kind, **fields})
    except WrongCall as error:
        raise WrongCall(f"{source}: {str(error).removeprefix('recipe: ')}") from None
