"""Kinds of items: how each is read, shown to an encoder, and seen from different sides."""

from .augment import ImageAugmentation
from .base import Augmentation, Modality, Names, Prepared, Unreadable
from .image import Image, default_size
from .several import Several

MODALITIES: tuple[tuple[type[Modality], type[Augmentation]], ...] = ((Image, ImageAugmentation),)
"""Every modality of this package, in the order they are asked whether they claim a value, with its augmentation."""

__all__ = [
    "MODALITIES",
    "Augmentation",
    "Image",
    "ImageAugmentation",
    "Modality",
    "Names",
    "Prepared",
    "Several",
    "Unreadable",
    "default_size",
]
