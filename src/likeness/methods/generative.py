"""Contrast and reconstruction: a second term asks the encoder for what a mask hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ..chance import hidden_patches
from ..chunks import buffers_kept
from ..encoders import Encoder, Kept
from ..errors import WrongCall
from ..objectives import Term
from ..parts import Parts, Tower, mlp
from ..views import Batch
from .base import Method
from .simclr import SimCLR
from .tower import OneTower


class GenerativeParts(Parts):
    method: Any
    decoder: nn.Module


class Generative(Method):
    """A method of one tower, and beside it a decoder that tells hidden patches from the features of what is left.

    As CAN (Mishra et al. 2022, arXiv:2210.16870) joins contrast with a masked autoencoder, made small: any encoder
    reads the masked picture whole, and from its features the decoder tells patches' mean colours. Which patches are
    hidden follows from the picture itself, so that processes agree and a loss may be asked twice.
    """

    method: OneTower = SimCLR()
    """What is learned by contrast."""
    role: str | None = None
    """The column whose pictures are masked; null: the only one there is."""
    channels: PositiveInt | None = None
    """Colour channels; null: as the data have."""
    weight: PositiveFloat = 1.0
    """How much reconstruction counts beside the method's own terms."""
    patches: PositiveInt = 8
    """Patches a side that a picture is cut into."""
    masked: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the patches that are hidden."""
    hidden: PositiveInt = 512
    """Width of the decoder's hidden layer."""

    def encoder_for(self, role: str, modality: str) -> Encoder | None:
        return self.method.encoder_for(role, modality)

    def with_encoders(self, towers: Sequence[Sequence[str]], chosen: Mapping[str, Encoder]) -> Self:
        inner = self.method.with_encoders(towers, chosen)  # whose encoder it is
        return super().with_encoders(towers, chosen).model_copy(update={"method": inner})

    def build(self) -> GenerativeParts:
        if self.channels is None or self.role is None:
            raise WrongCall(f"{self.label()} hides patches of pictures, and {self.role} has no colour channels")
        parts = self.method.build()
        dim = self.method.keep(parts)[self.role].recipe.dim
        return GenerativeParts(method=parts, decoder=mlp(dim, self.hidden, self.channels * self.patches**2))

    def loss(self, parts: GenerativeParts, batch: Batch) -> dict[str, Term]:
        assert self.role is not None
        terms = self.method.loss(parts.method, batch)
        for number, views in enumerate(batch[self.role].sizes()):
            apart = self._reconstructed(parts.method.tower, parts.decoder, views.data)
            terms[f"reconstruct {number}" if number else "reconstruct"] = self.weight * apart
        return terms

    def _reconstructed(self, tower: Tower, decoder: nn.Module, picture: Tensor) -> Term:
        """Squared error of hidden patches' mean colours, (N, C, H, W). Running statistics stay those of whole ones."""
        means = F.adaptive_avg_pool2d(picture, self.patches)  # (N, C, P, P)
        hidden = hidden_patches(means, self.masked)[:, None]  # (N, 1, P, P)
        shown = picture * (1 - F.interpolate(hidden, picture.shape[-2:]))
        with buffers_kept(tower.encoder):
            features = tower.encode(shown)
        told = decoder(features).view_as(means)
        error = ((told - means).square().mean(1, keepdim=True) * hidden).sum((1, 2, 3)) / hidden.sum((1, 2, 3))
        return Term(error.sum(), error.new_tensor(len(error)))

    def keep(self, parts: GenerativeParts) -> dict[str, Kept]:
        return self.method.keep(parts.method)
