"""Contrastive learning as a scikit-learn transformer: fit on items, transform to features, stand in a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .api import train
from .asking import source_of
from .encoders import Encoder
from .errors import Failed
from .loaded import LoadedEncoder, load
from .plans import Plan
from .sources.base import Quarantine

RUN = "run"  # the folder's name where nobody will see it


class ContrastiveEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learns features (N, dim) from items without labels.

    X is anything that `likeness.read` takes: images (N, H, W) or (N, H, W, C), a list of paths, of texts or of PIL
    images, a folder. Flat rows (N, F), which most of scikit-learn takes, are no images: give them their shape.

    recipe:    a name, a YAML file or a recipe; None: chosen for the machine
    encoder:   a name such as timm:resnet18, a recipe, or an nn.Module that maps a batch to (N, dim)
    out:       run folder to keep; None: a temporary one
    budget, steps, epochs: how long to train; 30 minutes where none is given
    batch:     items a step; None: as the recipe has it
    overrides: any other field of the recipe, such as {"temperature": 0.1}

    After `fit`: encoder_ (the encoder, as `likeness.load` gives it) and metrics_ (the log lines).
    """

    def __init__(
        self,
        recipe: str | Path | Plan | None = None,
        *,
        encoder: nn.Module | Encoder | str | None = None,
        out: str | Path | None = None,
        seed: int = 0,
        budget: str | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        batch: int | None = None,
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.recipe, self.encoder, self.out, self.seed = recipe, encoder, out, seed
        self.budget, self.steps, self.epochs, self.batch = budget, steps, epochs, batch
        self.device, self.overrides = device, overrides

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on all items of X; y is not looked at.

        Raises:
            WrongCall, Failed: as `likeness.train`; WrongCall is a ValueError.
        """
        with TemporaryDirectory() as folder:
            run = train(X, self.recipe, out=self.out or Path(folder, RUN), encoder=self.encoder, **self._fields())
            own = deepcopy(self.encoder) if isinstance(self.encoder, nn.Module) else None
            self.encoder_: LoadedEncoder = load(run.path, encoder=own, device=self.device)
            self.metrics_ = run.metrics
        self._n_features_out = self.encoder_.dim
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """(N, dim) features, a row for every item of X.

        Raises:
            NotFittedError: before `fit`.
            Failed: an item cannot be read, so that rows would not match.
        """
        check_is_fitted(self, "encoder_")
        encoder, bad = self.encoder_, Quarantine()
        source = source_of(X, {encoder.role: encoder.modality})
        space = encoder.embed(source, quarantine=bad)
        if len(space) < len(source):
            id, why = next(iter(bad.reasons.items()), ("one", "it holds nothing"))
            raise Failed(
                f"{len(source) - len(space):,} of {len(source):,} items cannot be read ({id}: {why}): leave them out"
            )
        return space.vectors

    def _fields(self) -> dict[str, Any]:
        """Fields of the recipe that are asked for. Nothing is held out: that is for whoever splits X."""
        given = {"budget": self.budget, "steps": self.steps, "epochs": self.epochs, "batch": self.batch}
        fixed = {"seed": self.seed, "device": self.device, "holdout": 0}
        return {
            **fixed,
            **{name: value for name, value in given.items() if value is not None},
            **(self.overrides or {}),
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array, tags.input_tags.string = False, True, True
        return tags
