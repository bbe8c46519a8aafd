"""A student of texts that reads them in its teacher's tokens, for both see the same views."""

from __future__ import annotations

from ..errors import WrongCall
from ..modalities.tokens import Hashed, Tokens, Trained
from ..recipe import only_from
from .base import Encoder
from .ngrams import NgramBag
from .words import TextTransformer


def reading_as(teacher: Encoder | None, asked: Encoder | None, role: str, kind: str) -> Encoder | None:
    """The student that is asked for, or one that is chosen, in the teacher's tokens; of other items as asked for.

    Raises:
        WrongCall: the one that is asked for reads n-grams where the teacher reads pieces, or the other way round.
    """
    tokens = tokens_of(teacher, kind)
    if tokens is None:
        return asked
    would = reading(tokens)
    if asked is None:
        return would
    known = asked.seeing(role, kind)
    own = known.reads.get("tokens")
    if own is not None and isinstance(own, Hashed) != isinstance(tokens, Hashed):
        what = f"{tokens.label()} tokens, and encoder {known.bare.label()} {own.label()} ones"
        raise WrongCall(f"the teacher reads texts as {what}: take encoder={would.label().lower()}")
    if not isinstance(asked, type(would)):
        return asked
    if isinstance(tokens, Hashed) and "tokens" in asked.model_fields_set and asked.tokens != tokens:
        raise WrongCall("encoder.tokens are others than those that the teacher reads: leave them out, they are its own")
    return asked.model_copy(update={"tokens": would.tokens})


def tokens_of(teacher: Encoder | None, kind: str) -> Tokens | None:
    """What a teacher reads texts as; None where it reads none, or that is not known."""
    seen = (teacher and teacher.seen) or {}
    if seen.get("kind") != kind or seen.get("tokens") is None:
        return None
    with only_from(()):  # a file's words import no code
        return Tokens.of(seen["tokens"])


def reading(tokens: Tokens) -> NgramBag | TextTransformer:
    """A network of texts that come in these tokens."""
    if isinstance(tokens, Hashed):
        return NgramBag(tokens=tokens)
    again = isinstance(tokens, Trained)  # what was learned of the texts the modality keeps
    return TextTransformer(tokens=tokens.model_copy(update={"learned": None}) if again else tokens)
