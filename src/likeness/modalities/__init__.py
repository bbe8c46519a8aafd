"""Kinds of items: how each is read, shown to an encoder, and seen from different sides."""

from .audio import Audio
from .audio_augment import AudioAugmentation
from .augment import ImageAugmentation
from .base import Augmentation, Modality, Names, Prepared, Unreadable
from .clip_pieces import ClipPieces as ClipPieces
from .image import Image, default_size
from .several import Several
from .text import Text
from .text_augment import TextAugmentation

MODALITIES: tuple[tuple[type[Modality], type[Augmentation]], ...] = (
    (Image, ImageAugmentation),
    (Audio, AudioAugmentation),
    (Text, TextAugmentation),
)
"""Every modality of this package, in the order they are asked whether they claim a value, with its augmentation."""

__all__ = [
    "MODALITIES",
    "Audio",
    "AudioAugmentation",
    "Augmentation",
    "Image",
    "ImageAugmentation",
    "Modality",
    "Names",
    "Prepared",
    "Several",
    "Text",
    "TextAugmentation",
    "Unreadable",
    "default_size",
]
