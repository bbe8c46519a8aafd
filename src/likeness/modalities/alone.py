"""How texts become the inputs of an exported network where this package is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import grams

TOKENIZER = "tokenizer.json"  # as Hugging Face calls it

BAG = """from grams import numbers
rows = [numbers(text, {fields}) for text in texts]
inputs = {{"ids": np.concatenate(rows), "offsets": np.cumsum([0, *map(len, rows)])}}"""
PIECES = """import tokenizers
tokenizer = tokenizers.Tokenizer.from_file("{file}")
tokenizer.enable_truncation({length})
tokenizer.enable_padding(pad_id={padding})
rows = tokenizer.encode_batch({texts})
ids, mask = (np.array([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
inputs = {{"input_ids": ids, "attention_mask": mask}}"""


@dataclass(frozen=True)
class Alone:
    """How the inputs of an exported network are made.

    given:  what there is, in Python: `texts = [...]`
    code:   Python that makes `inputs` of it, NumPy arrays by name
    files:  what it reads, by name, beside it
    public: whether others know files of these names, which then stand beside weights too
    """

    given: str
    code: str
    files: Mapping[str, bytes]
    public: bool


def of_grams(prompt: str, **fields: int) -> Alone:
    """For bags of hashed n-grams. fields: what `grams.numbers` takes"""
    said = ", ".join(f"{name}={value}" for name, value in fields.items())
    code = BAG.format(fields=said).replace("(text,", f"({_before(prompt)}text,")
    return Alone(TEXTS, code, {Path(grams.__file__).name: Path(grams.__file__).read_bytes()}, public=False)


def of_pieces(prompt: str, tokenizer: bytes, length: int, padding: int) -> Alone:
    """For a tokenizer's pieces."""
    texts = f"[{_before(prompt)}text for text in texts]" if prompt else "texts"
    code = PIECES.format(file=TOKENIZER, length=length, padding=padding, texts=texts)
    return Alone(TEXTS, code, {TOKENIZER: tokenizer}, public=True)


TEXTS = 'texts = ["a text", "and another one"]'


def _before(prompt: str) -> str:
    return f"{prompt!r} + " if prompt else ""
