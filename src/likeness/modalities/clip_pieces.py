"""The tokens of CLIP's own text tower."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from ..errors import Failed
from .tokens import Pieces, packed

MERGES = 49152 - 256 - 2  # lines of the list that CLIP takes: 48,894 byte pairs, 512 bytes and two marks are 49,408
START, END = "<start_of_text>", "<end_of_text>"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipPieces(Pieces):
    """Lower-cased byte pairs within words, as CLIP has them (Radford et al. 2021, arXiv:2103.00020): 49,408 pieces.

    Numbers are those of open_clip's SimpleTokenizer, whose repair of broken Unicode and of HTML is left out.
    """

    def fitted(self, texts: object) -> Self:
        return self.settled()

    def settled(self) -> Self:
        return self if self.learned is not None else self.model_copy(update={"learned": packed(clip_tokenizer())})


@cache
def clip_tokenizer() -> bytes:
    """tokenizer.json of the byte pairs that open_clip brings along.

    Raises:
        Failed: it is not installed.
    """
    found = find_spec("open_clip")
    if found is None or found.origin is None:
        raise Failed("CLIP's byte pairs come with open_clip, which is not installed: pip install 'likeness[clip]'")
    stored = gzip.decompress((Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    merges = [line.split() for line in stored.split("\n")[1 : MERGES + 1]]
    letters = list(byte_letters())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    ids = {piece: number for number, piece in enumerate(pieces)}
    return json.dumps(_described(ids, merges), ensure_ascii=False, separators=(",", ":")).encode()


def byte_letters() -> str:
    """A letter for each byte: those that print first, in the order that CLIP numbers them."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printed)
    return "".join(map(chr, [*printed, *range(256, 256 + others)]))


def _described(ids: dict[str, int], merges: list[list[str]]) -> dict[str, object]:
    """As the tokenizers library stores one."""
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Removed", "invert": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    ends = {"sep": [END, ids[END]], "cls": [START, ids[START]]}
    return {
        "version": "1.0",
        "added_tokens": [{"id": ids[mark], "content": mark, **marks} for mark in (START, END)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": {"type": "RobertaProcessing", **ends, "trim_offsets": False, "add_prefix_space": False},
        "decoder": None,
        "model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": ids, "merges": merges},
    }
