"""Texts: what of their tokens and captions an encoder is shown."""

from __future__ import annotations

import re
import unicodedata
from codecs import getincrementaldecoder
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image as Pillow
from pydantic import PositiveInt, PrivateAttr

from ..errors import Failed, WrongCall, counted
from ..stacks import Stack
from .alone import Alone
from .base import Looks, Modality, Unreadable
from .baseline import Baseline, Fitting, Ranker, Train
from .grams import WORD
from .remote import Remote
from .tokens import OFTEN, TOKENS, Hashed, Tokens

Texts = tuple[str, ...]  # an item as read: what is said of it, one or several captions

SUFFIX = ".txt"
MOST = 2**16  # characters of a text that are read: some 40 pages, more than any encoder takes
CAPTIONS = 16  # of an item that count at most
STEP = 8  # lengths are multiples of it
MARK = "\ufeff"  # that some programs begin texts with
REPLACED = "\ufffd"  # what decoders put where a byte was none of their encoding
DOUBLED = re.compile("[ÃÂ][\u0080-\u00bf]|â€")  # UTF-8 that was read as Latin-1
MARKUP = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
DIGEST = 8  # bytes


class Text(Modality):
    """Texts of any language; an item may have several, its captions. Fields left null are found from samples."""

    tokens: Tokens | None = None
    """How texts become numbers; null: as the encoder asks, else hashed n-grams."""
    length: PositiveInt | None = None
    """Most tokens of a text that an encoder sees; null: so that 99 % of the texts are seen whole, at most 512."""
    captions: PositiveInt | None = None
    """Most captions of an item that are known as its own wherever they appear; null: as many as one has, at most 16."""
    prompt: str | None = None
    """What is put before every text that an encoder sees; null: what it was trained with, else nothing."""

    samples: ClassVar[int] = 50_000
    counted_in: ClassVar[str] = "words"
    unread: ClassVar[tuple[str, ...]] = ("tokens", "length", "captions", "prompt")

    _known: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def claims(cls, raw: Any) -> bool:
        return said(raw)

    def must_agree(self, reads: Mapping[str, Any]) -> None:
        theirs: Tokens | None = reads.get("tokens")
        apart = None if self.tokens is None or theirs is None else theirs.unlike(self.tokens)
        if apart is not None:
            one, other = apart
            raise WrongCall(
                f"encoder.tokens{one} and modality.text.tokens{other} differ, and texts become tokens in one way: set "
                "encoder.tokens alone, with modality.text.tokens=null"
            )

    def fitted(self, samples: Sequence[Any]) -> Self:
        items = list(self._readable(samples))
        if not items:
            raise Failed("none of the first texts can be read: they are empty, or no text")
        texts = [text for item in items for text in item]
        tokens = (self.tokens or Hashed()).fitted(texts)
        length = self.length or _length(tokens, self._whole(texts))
        captions = self.captions or min(max(map(len, items)), CAPTIONS)
        found = self.model_copy(update={"tokens": tokens, "length": length, "captions": captions})
        found._known = tokens.facts(texts)
        return found

    def _readable(self, samples: Sequence[Any]) -> Iterable[Texts]:
        for raw in samples:
            try:
                if raw is not None:
                    yield self.read(raw)
            except (Unreadable, OSError):
                continue

    def read(self, raw: Any) -> Texts:
        """Its texts, composed alike (NFC), with single blanks; empty ones are left out."""
        texts = tuple(dict.fromkeys(filter(None, map(tidy, spoken(raw)))))
        if not texts:
            raise Unreadable("empty: there is no text in it")
        return texts

    def plain(self, items: Sequence[Texts]) -> Stack:
        """The first text of each item as tokens."""
        return self.encoded([item[0] for item in items])

    def encoded(self, texts: Sequence[str]) -> Stack:
        """(N) texts as the encoder takes them."""
        assert self.tokens is not None, "a Text must be fitted before it shows anything"
        return self.tokens.encode(self._whole(texts), self.length or TOKENS)

    def _whole(self, texts: Sequence[str]) -> Sequence[str]:
        """What an encoder is shown of them."""
        return [self.prompt + text for text in texts] if self.prompt else texts

    def alone(self) -> Alone:
        assert self.tokens is not None
        return self.tokens.alone(self.prompt or "", self.length or TOKENS)

    def contents(self, item: Texts) -> tuple[int, ...]:
        return tuple(digest(text) for text in item[: self.captions])

    def baseline(self, train: Train, rows: int) -> Baseline:
        from .tfidf import words

        return words(train, rows)

    @property
    def baselines(self) -> Mapping[str, Fitting]:
        from .tfidf import characters

        return {"tfidf-char": characters}

    @property
    def rankers(self) -> Mapping[str, Ranker]:
        from .bm25 import bm25

        return {"bm25": bm25}

    def looks(self, raw: Any) -> Looks:
        item = self.read(raw)
        words = max(len(WORD.findall(text)) for text in item)
        kind = "text" if len(item) == 1 else "several texts"
        return Looks((words,), kind, odd=_oddities(item), traits=_traits(raw, item))

    def words(self, raw: Any) -> str | None:
        return next(filter(None, map(tidy, spoken(raw))), "")

    def thumbnail(self, item: Texts, side: int) -> Pillow.Image:
        from .text_sheet import written

        return written(item[0], side)

    def example(self) -> Stack:
        return self.encoded(["a text", "and another one"])

    @property
    def facts(self) -> dict[str, Any]:
        known = self._known or (self.tokens.facts(()) if self.tokens else {})
        return {**known, "length": self.length}

    @property
    def sight(self) -> str:
        return f"up to {self.length} {self.tokens.counted if self.tokens else 'tokens'}"


@singledispatch
def said(raw: Any) -> bool:
    """Whether a stored value is text, by its type and name alone."""
    return False


@said.register
def _(raw: str) -> bool:
    return True


@said.register(list)
@said.register(tuple)
def _(raw: Sequence[Any]) -> bool:
    return bool(raw) and isinstance(raw[0], str)


@said.register(Path)
@said.register(Remote)
def _(raw: Path | Remote) -> bool:
    return raw.suffix.lower() == SUFFIX


@singledispatch
def spoken(raw: Any) -> list[str]:
    """The texts in a stored value.

    Raises:
        Unreadable: it holds none.
    """
    raise Unreadable(f"no text but {type(raw).__name__}")


@spoken.register
def _(raw: str) -> list[str]:
    return [raw]


@spoken.register(list)
@spoken.register(tuple)
def _(raw: Sequence[Any]) -> list[str]:
    return [text for each in raw if each is not None for text in spoken(each)]


@spoken.register
def _(raw: bytes) -> list[str]:
    try:
        return [raw.decode("utf-8-sig")]
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8: byte {raw[error.start]:#04x} at place {error.start}") from None


@spoken.register
def _(raw: Path) -> list[str]:
    with raw.open("rb") as file:
        content = file.read(4 * MOST)
    if len(content) < 4 * MOST:
        return spoken(content)
    try:
        return [getincrementaldecoder("utf-8-sig")().decode(content)]  # without the sign that the cut went through
    except UnicodeDecodeError:
        return spoken(content)


@spoken.register
def _(raw: Remote) -> list[str]:
    return spoken(raw.read_bytes())


def tidy(text: str) -> str:
    """Composed as most texts are, blanks and line ends as one blank, control signs away; at most MOST characters."""
    sound = text[:MOST].encode("utf-8", "replace").decode()  # halves of signs, as other languages' strings have them
    return " ".join(unicodedata.normalize("NFC", sound).replace("\0", " ").removeprefix(MARK).split())


def digest(text: str) -> int:
    """A number that tells a text from others, never 0, which stands for none."""
    number = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest(), signed=True)
    return number or 1


def _length(tokens: Tokens, texts: Sequence[str]) -> int:
    """Tokens that nearly all texts have at most."""
    enough = float(np.quantile(tokens.lengths(texts), OFTEN))
    return min(-(-int(np.ceil(enough)) // STEP) * STEP or STEP, TOKENS)


def _oddities(item: Texts) -> tuple[str, ...]:
    found = {
        "not a letter in it": not any(sign.isalpha() for text in item for sign in text),
        "one word": all(len(text.split()) == 1 for text in item),
        "signs that could not be decoded": any(REPLACED in text for text in item),
        "UTF-8 that was read as Latin-1": any(DOUBLED.search(text) for text in item),
    }
    return tuple(name for name, holds in found.items() if holds)


def _traits(raw: Any, item: Texts) -> tuple[str, ...]:
    longest = max(map(len, spoken(raw)))
    found = {
        f"longer than {MOST:,} characters, which are read": longest > MOST,
        "markup": any(MARKUP.search(text) for text in item),
        counted(len(item), "text"): len(item) > 1,
    }
    return tuple(name for name, holds in found.items() if holds)
