"""Masked language modelling: hidden tokens of a text are told from those that are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ..chance import mixed, uniform
from ..errors import WrongCall
from ..parts import Follower
from ..recipe import Recipe
from ..stacks import Padded
from .base import Encoder
from .joined import Joined

PLACE = 0x9E3779B97F4A7C15 - 2**64  # an odd number that tells a token's places apart


class Masking(Recipe):
    """How tokens are hidden: BERT's (Devlin et al. 2019, arXiv:1810.04805, sec. 3.1), but that each is replaced by the
    mask token, none by another or by itself: BERT does so since it sees no whole text, which other terms show here.
    """

    share: float = Field(0.15, gt=0, lt=1)
    """Share of a text's tokens that are hidden at a step; one at least."""
    vocabulary: PositiveInt | None = None
    """How many tokens there are; null: as the tokenizer has."""
    mask: NonNegativeInt | None = None
    """The token that hides others; null: the tokenizer's."""
    special: tuple[NonNegativeInt, ...] | None = None
    """Tokens that are never hidden, such as marks of a text's ends; null: the tokenizer's."""

    def build(self, encoder: Encoder, net: nn.Module, role: str) -> nn.Module:
        """What tells them. net: the encoder built; it is no part of what is made here

        Raises:
            WrongCall: the encoder says nothing of single tokens, or none of these hides another.
        """
        width = encoder.token_dim
        if width is None:
            other = "" if isinstance(encoder, Joined) else f"take encoders.{role}=TextTransformer, or "
            raise WrongCall(f"mlm hides tokens of {role}, of which {encoder.bare.label()} says nothing: {other}mlm=0")
        if self.mask is None or self.vocabulary is None:
            raise WrongCall(f"mlm hides tokens of {role}, and its tokenizer has none that hides others: mlm=0")
        return MaskedTokens(net, width, self.share, self.vocabulary, self.mask, self.special or ())


class MaskedTokens(Follower):
    """Built by `Masking`: BERT's head, and which tokens are hidden now.

    That follows from a text's tokens and the number of the step, so that a loss may be asked twice, and neither chunks
    nor processes matter.
    """

    step: Tensor

    def __init__(
        self, net: nn.Module, width: int, share: float, vocabulary: int, mask: int, special: Sequence[int]
    ) -> None:
        super().__init__()
        self._net: list[Any] = [net]  # in a list, so that it is no second submodule
        self.share, self.mask, self.special = share, mask, torch.tensor(special, dtype=torch.long)
        self.register_buffer("step", torch.tensor(0))
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, vocabulary))

    def forward(self, tokens: Padded) -> Tensor:
        """(N, 2): what it costs to tell the hidden tokens of each text, in nats, and how many they are."""
        hidden = self.hidden(tokens)
        shown = Padded(tokens.values.masked_fill(hidden, self.mask), tokens.mask)
        tokenwise: Tensor = self._net[0].hidden(shown)
        hidden = hidden[:, : tokenwise.shape[1]]  # some encoders cut what is too long for them
        said = self.head(tokenwise[hidden])  # (H, vocabulary)
        cost = F.cross_entropy(said, tokens.values[:, : hidden.shape[1]][hidden], reduction="none")
        costs = cost.new_zeros(len(tokens)).index_add(0, hidden.nonzero()[:, 0], cost)
        return torch.stack([costs, hidden.sum(1).to(costs)], 1)

    def hidden(self, tokens: Padded) -> Tensor:
        """(N, L) which tokens are hidden: the share of each text's own that draws the lowest numbers."""
        values, there = tokens.values.cpu(), tokens.mask.bool().cpu()
        length = values.shape[1]
        named = mixed(values + PLACE * torch.arange(1, length + 1))
        drawn = uniform(length, torch.where(there, named, 0).sum(1), int(self.step))
        free = there & ~torch.isin(values, self.special)
        rank = drawn.masked_fill(~free, 1.0).argsort(dim=1, stable=True).argsort(1)
        many = (self.share * free.sum(1, keepdim=True)).round().clamp_min(1)
        hidden: Tensor = (free & (rank < many)).to(tokens.values.device)
        return hidden

    def advance(self, progress: float) -> None:
        self.step += 1
