"""What is easiest to see of items, without an encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import shape
from torch.nn import functional as F

import likeness
from likeness.components import COMPONENTS, components
from likeness.errors import WrongCall
from likeness.sources.data import Data

PICTURES = np.stack([shape(colour, number) for colour in ("blue", "red") for number in range(20)])


def found(data):
    source = likeness.read(data)
    role = next(iter(source.roles))
    return components(source, role, Data().fitted(source).modality[role], 1)


def test_of_pictures_they_are_nearly_the_mean_colour():
    vectors = found(PICTURES)
    cosine = F.normalize(vectors[:, :1], dim=1) @ F.normalize(vectors[:, :1], dim=1).T
    assert vectors.shape == (40, COMPONENTS)
    assert (cosine[:20, :20] > 0).all()
    assert (cosine[:20, 20:] < 0).all()


def test_they_are_the_principal_components_of_raw_items():
    flat = torch.from_numpy(PICTURES).double().flatten(1) / 255
    small = flat.view(40, 16, 16, 3).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)  # as 32 x 32
    centred = small - small.mean(0)
    first = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]
    correlation = np.corrcoef(first.numpy(), found(PICTURES)[:, 0].numpy())[0, 1]
    assert abs(correlation) > 0.99


def test_texts_have_them_too_and_what_cannot_be_read_has_none(tmp_path):
    vectors = found(["a dog"] * 5 + ["a green cat"] * 5 + ["one bird"] * 5)
    assert vectors.isfinite().all()
    likeness.read(PICTURES)
    for number, picture in enumerate(PICTURES[:6]):
        from PIL import Image

        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"nothing")
    assert found(tmp_path).isnan().any(1).tolist() == [False, False, False, True, False, False]


@pytest.mark.filterwarnings("error")
def test_items_that_are_all_the_same_or_of_two_kinds_have_them_too():
    same = found(np.full((100, 12, 12, 3), 90, np.uint8))
    assert same.isfinite().all()
    assert (same == same[0]).all()
    two = found(np.repeat(np.uint8([10, 200]), 50)[:, None, None, None] * np.ones((12, 12, 3), np.uint8))
    assert (two[:50, 0] - two[50:, 0]).abs().min() > 1
    assert (two[:50] - two[0]).abs().max() < 1e-3


def test_they_weigh_negatives_in_training():
    how = {"encoder": "residual", "widths": [8, 16], "projection": [16, 8], "batch": 16, "steps": 2, "workers": 1}
    plain = list(likeness.steps(PICTURES, "simclr", **how))
    weighed = list(likeness.steps(PICTURES, "simclr", pairing="softnegatives", vectors="raw", **how))
    assert np.isfinite(weighed[-1].loss)
    assert weighed[0].loss != plain[0].loss


def test_other_items_of_the_same_names_have_their_own():
    one, other = ["a dog"] * 5 + ["a cat"] * 5, ["a dog", "a cat"] * 5
    first, second = found(one), found(other)
    assert (first[0] == first[1]).all()
    assert (second[0] != second[1]).any()


def test_they_are_nothing_to_distil():
    with pytest.raises(WrongCall, match="vectors=raw are three numbers that no encoder has learned: name one with"):
        next(likeness.steps(PICTURES, "distil", vectors="raw", steps=1))
    with pytest.raises(WrongCall, match="vectors=rwa is neither a file nor raw; did you mean 'raw'"):
        next(likeness.steps(PICTURES, "simclr", vectors="rwa", steps=1))
