"""How texts become numbers: hashed n-grams, or the pieces of a tokenizer, trained here or elsewhere."""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from ..errors import Failed, WrongCall
from ..recipe import Recipe
from ..stacks import Packed, Padded, Stack
from .alone import TOKENIZER, Alone, of_grams, of_pieces
from .grams import WORD, numbers

FINE = 20  # steps of an inverse document frequency of 1: a byte then reaches 12.7, which is one text in 130,000
TOKENS = 512  # most that a network sees of a text where nothing else is known: what most were trained with
OFTEN = 0.99  # of the texts are seen whole


class Tokens(Recipe, ABC):
    """Turns texts into a stack of token numbers. Fields left null are found from texts by `fitted`."""

    counted: ClassVar[str] = "tokens"
    """What `lengths` counts."""

    def unlike(self, other: Tokens) -> tuple[str, str] | None:
        """The first thing that both say and otherwise, as each says it: ("=Hashed", "=Trained"), (".words=1",
        ".words=2"); None where they agree, as far as they say."""
        if self.label() != other.label():
            return f"={self.label()}", f"={other.label()}"
        mine, its = self._said, other._said
        name = next((name for name in mine if name in its and mine[name] != its[name]), None)
        return None if name is None else (f".{name}={mine[name]}", f".{name}={its[name]}")

    @property
    def _said(self) -> dict[str, Any]:
        """Fields by which texts become tokens, but for what is learned from texts."""
        return self.model_dump(mode="json", exclude={"kind", "learned"})

    @abstractmethod
    def fitted(self, texts: Sequence[str]) -> Self:
        """With what is learned from texts."""

    @abstractmethod
    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(N,) how many tokens each has."""

    @abstractmethod
    def encode(self, texts: Sequence[str], length: int) -> Stack:
        """A stack of N rows of token numbers, of each text its first `length` tokens."""

    @abstractmethod
    def facts(self, texts: Sequence[str]) -> dict[str, Any]:
        """What encoders are filled from; some of it is only known where texts are at hand."""

    @abstractmethod
    def alone(self, prompt: str, length: int) -> Alone:
        """How texts, of so many tokens at most, become inputs where this package is not; prompt: stands before each."""


class Hashed(Tokens):
    """Runs of words and of characters, each by its hash: `Packed` numbers below `buckets`. Nothing is learned.

    Texts are lower-cased. Runs of characters stay within a word, whose ends are marked (as in fastText, Bojanowski
    et al. 2017, arXiv:1607.04606); a run that is the whole word counts once more.
    """

    words: PositiveInt = 1
    """Longest run of words that is a token; 2 tells `not good` from `good`."""
    characters: tuple[PositiveInt, PositiveInt] | None = (3, 5)
    """Shortest and longest run of characters that is a token; null: none, for words alone."""
    buckets: int = Field(2**16, ge=2**8, le=2**24)
    """How many numbers there are; runs that share one are not told apart."""

    counted: ClassVar[str] = "words"

    def fitted(self, texts: Sequence[str]) -> Self:
        return self

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.array([len(WORD.findall(text)) for text in texts], np.int64)

    def encode(self, texts: Sequence[str], length: int) -> Packed:
        found = [self._numbers(text, length) for text in texts]
        values = np.concatenate(found) if found else np.empty(0, np.int64)
        return Packed.of(torch.from_numpy(values), torch.tensor([len(one) for one in found], dtype=torch.long))

    def _numbers(self, text: str, length: int) -> NDArray[np.int64]:
        low, high = self.characters or (1, 0)
        return numbers(text, length, self.words, low, high, self.buckets)

    def facts(self, texts: Sequence[str]) -> dict[str, Any]:
        known = {"buckets": self.buckets}
        return {**known, "frequencies": frequencies(self.encode(texts, TOKENS), self.buckets)} if len(texts) else known

    def alone(self, prompt: str, length: int) -> Alone:
        low, high = self.characters or (1, 0)
        return of_grams(prompt, length=length, words=self.words, low=low, high=high, buckets=self.buckets)


def frequencies(bags: Packed, buckets: int) -> str:
    """How telling each bucket is, ln((1 + N) / (1 + n)) + 1 of n among N texts that have it: bytes, packed as text.

    That is scikit-learn's smooth inverse document frequency.
    """
    seen = np.unique(bags.owner.numpy() * buckets + bags.values.numpy()) % buckets
    inverse = np.log((1 + len(bags)) / (1 + np.bincount(seen, minlength=buckets))) + 1
    return packed(np.minimum(np.rint(FINE * inverse), 255).astype(np.uint8).tobytes())


def unpacked_frequencies(stored: str) -> torch.Tensor:
    """(buckets,) float32 inverse document frequencies."""
    return torch.frombuffer(bytearray(unpacked(stored)), dtype=torch.uint8).float() / FINE


def packed(content: bytes) -> str:
    """Bytes as a word that YAML and JSON keep."""
    return b64encode(zlib.compress(content, 9)).decode()


def unpacked(stored: str) -> bytes:
    """Raises: WrongCall: the word was damaged."""
    try:
        return zlib.decompress(b64decode(stored, validate=True))
    except (ValueError, zlib.error) as error:
        raise WrongCall(f"what was learned of the texts is damaged in this recipe: {error}") from None


class Pieces(Tokens, ABC):
    """Tokens of Hugging Face's tokenizers: `Padded` numbers."""

    learned: str | None = None
    """The tokenizer itself, packed, so that an encoder is never parted from it; null: found."""

    @property
    def _tokenizer(self) -> Any:
        assert self.learned is not None, "tokens must be fitted before they encode"
        return _made(self.learned)

    @property
    def content(self) -> bytes:
        """What `tokenizer.json` holds."""
        return unpacked(self.learned or packed(b""))

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.array([len(one.ids) for one in self._tokenizer.encode_batch_fast(list(texts))], np.int64)

    def encode(self, texts: Sequence[str], length: int) -> Padded:
        """A text that is cut keeps the special tokens at its end."""
        rows = [_cut(one, length) for one in self._tokenizer.encode_batch_fast(list(texts))]
        longest = max((len(ids) for ids in rows), default=0) or 1
        values = np.full((len(rows), longest), self.padding, np.int64)
        for row, ids in zip(values, rows, strict=True):
            row[: len(ids)] = ids
        sizes = np.array([len(ids) for ids in rows], np.int64)
        return Padded(torch.from_numpy(values), torch.from_numpy(np.arange(longest) < sizes[:, None]))

    @property
    def padding(self) -> int:
        """The number that fills rows up; what it is means nothing, since the mask tells."""
        return next((found for name in PADS if (found := self._tokenizer.token_to_id(name)) is not None), 0)

    @property
    def mask(self) -> int | None:
        """The number of the token that hides another; None where the tokenizer has none."""
        return next((found for name in MASKS if (found := self._tokenizer.token_to_id(name)) is not None), None)

    def facts(self, texts: Sequence[str]) -> dict[str, Any]:
        known = {"vocabulary": self._tokenizer.get_vocab_size(), "padding": self.padding, "mask": self.mask}
        return {**known, "special": tuple(sorted(self._tokenizer.get_added_tokens_decoder()))}

    def alone(self, prompt: str, length: int) -> Alone:
        return of_pieces(prompt, self.content, length, self.padding)


def _cut(text: Any, length: int) -> list[int]:
    """Numbers of an encoded text's first tokens, and of the special ones that end it."""
    ids: list[int] = text.ids
    if len(ids) <= length:
        return ids
    ends = next((n for n, special in enumerate(reversed(text.special_tokens_mask)) if not special), 0)
    return [*ids[: max(length - ends, 0)], *ids[len(ids) - ends :]][:length]


PADS, MASKS = ("[PAD]", "<pad>", "<|endoftext|>"), ("[MASK]", "<mask>")


class Trained(Pieces):
    """Byte pairs learned from the texts themselves (Sennrich et al. 2016, arXiv:1508.07909): no text has unknown ones.

    A text is [CLS] pieces [SEP], as BERT has it.
    """

    vocabulary: int = Field(8192, ge=300)
    """Pieces at most, bytes and special ones among them."""
    lower: bool = True
    """Whether capitals are as small letters."""

    def fitted(self, texts: Sequence[str]) -> Self:
        if self.learned is not None:
            return self
        return self.model_copy(update={"learned": packed(trained(texts, self.vocabulary, self.lower).encode())})


class Pretrained(Pieces):
    """The tokenizer that an encoder was trained with, from a folder that holds tokenizer.json."""

    prefix: ClassVar[str] = "hf"
    paths: ClassVar[bool] = True

    path: str
    """The folder, or OWNER/NAME among what Hugging Face's hub has stored on this machine; nothing is downloaded."""

    @property
    def _said(self) -> dict[str, Any]:
        return {} if self.path == str(Path()) else {"path": self.path}  # a tower without its weights names no folder

    def fitted(self, texts: Sequence[str]) -> Self:
        return self.settled()

    def settled(self) -> Self:
        if self.learned is not None:
            return self
        return self.model_copy(update={"learned": packed(stored_tokenizer(self.path))})


def trained(texts: Iterable[str], vocabulary: int, lower: bool) -> str:
    """tokenizer.json of byte pairs of these texts."""
    tokenizers = _library()
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))


def stored_tokenizer(path: str) -> bytes:
    """tokenizer.json of a folder or of what the hub has stored here.

    Raises:
        WrongCall: there is none.
    """
    from ..whereabouts import HUB, find

    folder = Path(path) if Path(path).is_dir() else find(f"{HUB}{path}").file.parent
    file = folder / TOKENIZER
    if not file.is_file():
        raise WrongCall(
            f"{folder} has no tokenizer.json: save it there with transformers' AutoTokenizer, use_fast=True"
        )
    return file.read_bytes()


@lru_cache(maxsize=8)
def _made(learned: str) -> Any:
    """The tokenizer of a packed tokenizer.json, which neither cuts nor pads."""
    try:
        tokenizer = _library().Tokenizer.from_str(unpacked(learned).decode())
    except Exception as error:  # noqa: BLE001, the library raises nothing more special
        raise WrongCall(f"the tokenizer in this recipe cannot be read: {str(error).splitlines()[0]}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _library() -> Any:
    if find_spec("tokenizers") is None:
        raise Failed(
            "this encoder reads pieces of words, for which tokenizers is missing: pip install 'likeness[text]'"
        )
    import tokenizers

    return tokenizers
