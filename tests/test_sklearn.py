"""The scikit-learn transformer keeps scikit-learn's conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from likeness.errors import Failed, WrongCall
from likeness.sklearn import ContrastiveEncoder

DIGITS, CLASSES = load_digits(return_X_y=True)
IMAGES = DIGITS.reshape(-1, 8, 8)
QUICK = {"steps": 3, "batch": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def fitted() -> ContrastiveEncoder:
    return ContrastiveEncoder(**QUICK).fit(IMAGES[:100])


def test_every_item_gets_a_row_of_features(fitted: ContrastiveEncoder) -> None:
    features = fitted.transform(IMAGES[:30])
    assert features.shape == (30, fitted.encoder_.dim)
    assert features.dtype == np.float32
    one_by_one = np.concatenate([fitted.transform(IMAGES[n : n + 1]) for n in range(3)])
    np.testing.assert_allclose(one_by_one, features[:3], atol=1e-5)
    names = fitted.get_feature_names_out()
    assert (len(names), names[0]) == (features.shape[1], "contrastiveencoder0")


def test_training_moves_weights_and_is_repeatable(fitted: ContrastiveEncoder) -> None:
    def features(seed: int, steps: int) -> NDArray[np.float32]:
        again = clone(fitted).set_params(seed=seed, steps=steps)
        return again.fit_transform(IMAGES[:100])

    same = fitted.transform(IMAGES[:100])
    assert np.array_equal(features(0, 3), same)
    assert not np.allclose(features(1, 3), same)
    assert len(fitted.metrics_) == 3


def test_it_stands_in_a_pipeline() -> None:
    pipeline = make_pipeline(ContrastiveEncoder(**QUICK), KNeighborsClassifier(5))
    pipeline.fit(IMAGES[:300], CLASSES[:300])
    assert pipeline.score(IMAGES[300:500], CLASSES[300:500]) > 0.6  # chance is 0.1, an untrained network far above it


def test_parameters_are_kept_as_they_were_given() -> None:
    overrides = {"temperature": 0.2}
    encoder = ContrastiveEncoder("simclr", steps=2, overrides=overrides)
    assert encoder.get_params()["overrides"] is overrides
    again = clone(encoder).set_params(seed=7)
    assert (again.recipe, again.steps, again.overrides, again.seed) == ("simclr", 2, overrides, 7)
    with pytest.raises(ValueError, match="Invalid parameter 'temprature'"):
        encoder.set_params(temprature=1)


def test_overrides_reach_the_recipe() -> None:
    with pytest.raises(WrongCall, match="temperature"):
        ContrastiveEncoder(overrides={"temprature": 0.2}, **QUICK).fit(IMAGES[:40])


def test_a_module_of_ones_own_is_trained_on_a_copy(tmp_path: Path) -> None:
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    before = own[1].weight.detach().clone()
    with pytest.raises(NotFittedError):
        ContrastiveEncoder(encoder=own).transform(IMAGES[:3])
    encoder = ContrastiveEncoder(encoder=own, out=tmp_path / "run", **QUICK)
    assert encoder.fit_transform(IMAGES[:40]).shape == (40, 5)
    assert torch.equal(own[1].weight, before)
    assert (tmp_path / "run" / "encoder.safetensors").exists()


def test_items_that_cannot_be_read_are_refused_because_rows_must_match(
    fitted: ContrastiveEncoder, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    for path in paths:
        Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    assert len(fitted.transform(paths)) == 4
    paths[2].write_bytes(b"no image")
    with pytest.raises(Failed, match=r"1 of 4 items cannot be read \(.*2\.png"):
        fitted.transform(paths)
