"""What an encoder is scored beside and by: raw pixels, and the labels that are asked for."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from likeness.errors import WrongCall
from likeness.modalities.image import RAW, Image
from likeness.scoring import Split, _labelling, raw_spaces
from likeness.sources import read
from likeness.space import Space


def noise(seed: int, items: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (items, RAW, RAW), dtype=np.uint8)


def raw(train: np.ndarray, test: np.ndarray) -> tuple[Space, Space]:
    modality = Image().fitted(list(train[:20]))
    return raw_spaces(Split(read(train), read(test), ""), modality, "image", workers=1)


def test_raw_pixels_are_of_unit_length_about_the_training_mean() -> None:
    train, test = noise(0, 40), noise(1, 30)
    pixels = [side.reshape(len(side), -1) / 255 for side in (train, test)]
    for space, side in zip(raw(train, test), pixels, strict=True):
        assert space.vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(space.vectors, axis=1), 1, rtol=1e-5)
        shifted = side - pixels[0].mean(axis=0)
        cosines = (space.vectors * shifted).sum(axis=1) / np.linalg.norm(shifted, axis=1)
        np.testing.assert_allclose(cosines, 1, rtol=1e-5)


def test_raw_pixels_that_are_all_the_same_stay_zero() -> None:
    train, _ = raw(np.full((10, RAW, RAW), 9, np.uint8), noise(1, 30))
    assert not train.vectors.any()


def test_raw_pixels_are_in_memory_once() -> None:
    train, test = noise(0, 2000), noise(1, 300)
    tracemalloc.start()
    spaces = raw(train, test)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * sum(space.vectors.nbytes for space in spaces)


def test_labels_may_be_another_column() -> None:
    features = {"fine": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"fine": [1, 0], "tags": [["a"], ["b"]], "label": ["x", "y"]}).replace_schema_metadata(metadata)
    space = Space(np.eye(2, dtype=np.float32), ["p", "q"], table)
    labels = _labelling("fine")(space).labels
    assert labels is not None
    assert [labels.names[code] for code in labels.codes] == ["dog", "cat"]
    with pytest.raises(WrongCall, match=r"^column 'tags' holds list<.*>, not one class an item"):
        _labelling("tags")(space)
    with pytest.raises(WrongCall, match="there is no column 'nosuch'"):
        _labelling("nosuch")(space)
