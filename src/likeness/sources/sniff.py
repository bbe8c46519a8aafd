"""Which modality a stored value is of, as the modalities themselves say."""

from __future__ import annotations

from typing import Any


def claimed(raw: Any) -> str | None:
    """Name of the modality that takes a stored value for one of its own, None where none does."""
    from ..modalities import MODALITIES

    return next((modality.label() for modality, _ in MODALITIES if modality.claims(raw)), None)


def speaking() -> str | None:
    """Name of the modality of texts; of strings that are asked for one by one, some look like paths."""
    return claimed([""])


def readable() -> str:
    """What can be read today: 'image'."""
    from ..modalities import MODALITIES

    return ", ".join(role_of(modality.label()) for modality, _ in MODALITIES)


def role_of(modality: str) -> str:
    """What the column of a modality is called where the user gave it no name: 'image'."""
    return modality.rpartition(":")[2].lower()
