"""A small transformer of texts, with a tokenizer learned from the texts themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ..chunks import by_length
from ..modalities.tokens import TOKENS, Tokens, Trained
from ..stacks import Padded
from .base import Encoder
from .pooling import CODE, Pooling, pooled
from .published import Published

STD = 0.02  # of positions when they are drawn, as in BERT
WIDER = 4  # times a token's width that the layer within a block has


class TextTransformer(Encoder):
    """Pre-norm transformer blocks over learned positions (Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020,
    arXiv:2002.04745): `Padded` tokens to (N, dim).
    """

    dim: PositiveInt = 256
    """Width of the features and of each token."""
    depth: PositiveInt = 4
    """Blocks."""
    heads: PositiveInt = 4
    """Attention heads of a block; they divide `dim`."""
    pooling: Pooling = "mean"
    """What stands for the text: the mean of its tokens, its first one ([CLS]), or its last."""
    dropout: NonNegativeFloat = Field(0.1, lt=1)
    """Share of numbers that each block leaves out in training: all that tells SimCSE's views apart."""
    tokens: Tokens = Trained()
    """How texts become tokens."""
    vocabulary: PositiveInt | None = None
    """How many tokens there are; null: as the tokenizer has."""
    length: PositiveInt | None = None
    """Most tokens of a text that are read; null: as the texts have."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} is no multiple of heads={self.heads}")
        return self

    @property
    def reads(self) -> Mapping[str, Any]:
        return {"tokens": self.tokens, "length": self.length}

    @property
    def token_dim(self) -> int:
        return self.dim

    @property
    def levels(self) -> tuple[int, ...]:
        return (self.dim,) * self.depth

    def published(self, module: Any) -> Published:
        """transformers' MegatronBERT: BERT whose blocks have their norms before, and one at the end."""
        config = {
            "model_type": "megatron-bert",
            "architectures": ["MegatronBertModel"],
            "vocab_size": self.vocabulary,
            "hidden_size": self.dim,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "intermediate_size": WIDER * self.dim,
            "hidden_act": "gelu",
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout,
            "max_position_embeddings": len(module.position),
            "type_vocab_size": 1,
            "layer_norm_eps": module.norm.eps,
        }
        return Published(config, megatron(module.state_dict()), self.dim, CODE[self.pooling], self.pooling)

    def build(self) -> nn.Module:
        assert self.vocabulary is not None, "a TextTransformer must be filled before it is built"
        return TextNet(self)


MEGATRON = {  # beginnings of names -> transformers' own
    "token.": "embeddings.word_embeddings.",
    "position": "embeddings.position_embeddings.weight",
    "norm.": "encoder.ln.",
    "blocks.": "encoder.layer.",
}
WITHIN = {
    ".before.": ".attention.ln.",
    ".out.": ".attention.output.dense.",
    ".between.": ".ln.",
    ".wide.": ".intermediate.dense.",
    ".narrow.": ".output.dense.",
}


def megatron(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A `TextNet`'s weights as transformers' MegatronBERT names them."""
    found = {"embeddings.token_type_embeddings.weight": torch.zeros(1, weights["position"].shape[1])}
    for name, value in weights.items():
        start = next(start for start in MEGATRON if name.startswith(start))
        theirs = MEGATRON[start] + name.removeprefix(start)
        if ".mix." in theirs:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[theirs.replace(".mix.", f".attention.self.{part}.")] = piece.contiguous()
            continue
        within = next((part for part in WITHIN if part in theirs), "")
        found[theirs.replace(within, WITHIN[within]) if within else theirs] = value
    return found


class TextNet(nn.Module):
    """Built by `TextTransformer`."""

    def __init__(self, recipe: TextTransformer) -> None:
        super().__init__()
        assert recipe.vocabulary is not None
        self.pooling, dim = recipe.pooling, recipe.dim
        self.token = nn.Embedding(recipe.vocabulary, dim)
        self.position = nn.Parameter(torch.zeros(recipe.length or TOKENS, dim))
        self.dropout = nn.Dropout(recipe.dropout)
        self.blocks = nn.Sequential(*(TextBlock(dim, recipe.heads, recipe.dropout) for _ in range(recipe.depth)))
        self.norm = nn.LayerNorm(dim)
        self._draw()

    def _draw(self) -> None:
        """Tokens of variance 1, blocks that add about as much: untrained vectors are near a bag of random ones, whose
        cosines tell what texts share. Were all drawn as small as BERT's, what blocks add to all texts alike would drown
        the tokens: all cosines would be near 1, from where SimCSE makes things worse and CoSENT collapses.
        """
        nn.init.normal_(self.position, std=STD)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=(2 * layer.in_features) ** -0.5)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.token.weight)

    def _after(self, tokens: Padded) -> Iterator[Tensor]:
        """(N, L, dim) the tokens after each block; longer texts than it was made for are cut."""
        values, mask = (x[:, : len(self.position)] for x in (tokens.values, tokens.mask))
        x = self.dropout(self.token(values) + self.position[: values.shape[1]])
        seen = mask | ~mask.any(1, keepdim=True)  # a text without a token attends to its padding, lest it be NaN
        for block in self.blocks:
            x = block(x, seen)
            yield x

    def hidden(self, tokens: Padded) -> Tensor:
        """(N, L, dim) the tokens as the last block leaves them, normed."""
        (last,) = deque(self._after(tokens), maxlen=1)
        normed: Tensor = self.norm(last)
        return normed

    def levels(self, tokens: Padded) -> list[Tensor]:
        """The mean of a text's tokens after each block but the last, and the features."""
        return list(by_length(tokens, self._deep).chunk(len(self.blocks), 1))

    def _deep(self, tokens: Padded) -> Tensor:
        *early, last = self._after(tokens)
        mask = tokens.mask[:, : len(self.position)]
        below = [pooled(x, mask, "mean") for x in early]
        return torch.cat([*below, pooled(self.norm(last), mask, self.pooling)], 1)

    def forward(self, tokens: Padded) -> Tensor:
        """(N, dim), texts of like length together."""
        return by_length(tokens, self._whole)

    def _whole(self, tokens: Padded) -> Tensor:
        return pooled(self.hidden(tokens), tokens.mask[:, : len(self.position)], self.pooling)


class TextBlock(nn.Module):
    """Attention, then two linear layers, each beside a shortcut."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.before, self.mix, self.out = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.between, self.wide, self.narrow = (
            nn.LayerNorm(dim),
            nn.Linear(dim, WIDER * dim),
            nn.Linear(WIDER * dim, dim),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, L, dim); mask: (N, L) which tokens may be attended to, one at least of each text."""
        rows, length, dim = x.shape
        mixed = self.mix(self.before(x)).view(rows, length, 3, self.heads, dim // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None], dropout_p=rate)
        x = x + self.dropout(self.out(seen.transpose(1, 2).reshape(rows, length, dim)))
        inner: Tensor = x + self.dropout(self.narrow(F.gelu(self.wide(self.between(x)))))
        return inner
