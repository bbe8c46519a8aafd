"""Encoders of several roles judged beside what they are compared with: which takes what, captions, names of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

import likeness
from likeness.beside import Column, Judging, Raw, Side, sides_of
from likeness.classnames import read_classes, read_prompts
from likeness.embedder import LoadedEncoder
from likeness.errors import WrongCall
from likeness.evaluations.links import CONTENT
from likeness.modalities import Image, Text
from likeness.modalities.tokens import Hashed
from likeness.paired import asking, pair_scores, zero_shot_scores
from likeness.sources.base import Source
from likeness.sources.shown import prompted, variants
from likeness.stacks import Packed

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
BUCKETS = 2**12


class Seen(nn.Module):
    """The mean colour of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.scale * pictures.mean((2, 3))


class Spoken(nn.Module):
    """The colours that a text names. shift: how wrong it is about them"""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(BUCKETS, 3, mode="sum")
        nn.init.zeros_(self.bag.weight)
        tokens, values = Hashed(characters=None, buckets=BUCKETS), list(COLOURS.values())
        for n, name in enumerate(COLOURS):
            at = tokens.encode([name], 1).values
            self.bag.weight.data[at] = torch.tensor(values[(n + shift) % len(values)]) / 127.5 - 1

    def forward(self, texts: Packed) -> Tensor:
        return self.bag(texts.values, texts.offsets[:-1]) + 1e-3


def picture(colour: str, seed: int) -> Pillow.Image:
    noise = np.random.default_rng(seed).integers(-20, 20, (8, 8, 3))
    return Pillow.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))


def encoder(role: str, module: nn.Module, modality: Any) -> LoadedEncoder:
    return LoadedEncoder(module, modality, role, 3, "made")


def towers(shift: int = 0) -> dict[str, LoadedEncoder]:
    half = (0.5, 0.5, 0.5)
    image = Image(mean=half, std=half).fitted([picture("red", 0)])
    text = Text(tokens=Hashed(characters=None, buckets=BUCKETS)).fitted(["a red square"])
    return {"image": encoder("image", Seen(), image), "text": encoder("text", Spoken(shift), text)}


@pytest.fixture
def captioned() -> Source:
    """Sixteen pictures of four colours, two captions each, the first of which stands under all of a colour."""
    names = [name for name in COLOURS for _ in range(4)]
    said = [[f"a {name} square", f"number {n}, it is {name}"] for n, name in enumerate(names)]
    pictures = [picture(name, n) for n, name in enumerate(names)]
    return likeness.read({"image": pictures, "captions": said, "label": names})


def judging(source: Source, encoders: dict[str, LoadedEncoder], role: str | None = None) -> Judging:
    return Judging(source, source, sides_of(source, encoders, role), workers=0)


def columns(asked: Judging, encoders: dict[str, LoadedEncoder], raw: Raw) -> dict[str, Column]:
    return {"encoder": asked.by(encoders), "untrained": asked.by(towers(shift=1)), "raw": Column(raw)}


def values(results: dict[str, Any], name: str) -> dict[str, float]:
    return {column: round(found[name].value, 3) for column, found in results.items() if found[name].plain}


def quiet(line: str) -> None:
    pass


def test_every_caption_is_asked_by_itself_and_equal_ones_are_right_everywhere(captioned: Source) -> None:
    encoders = towers()
    asked = judging(captioned, encoders)
    raw = Raw(asked)
    found = pair_scores(asked, columns(asked, encoders, raw), raw, quiet)
    each = found.results["encoder"]["text>image r@1"].each
    assert each is not None
    assert len(each.ids) == 32
    assert set(found.results["encoder"]) == {row.name for row in found.rows}
    forth = values(found.results, "image>text r@1")
    assert forth["encoder"] == pytest.approx(4 / 5 + 1 / 5 / 4, abs=0.3)  # shared captions and its own, of eight alike
    assert forth["encoder"] > 0.5 > forth["untrained"]
    assert "raw" not in forth
    assert found.results["raw"]["image>text r@1"].note.startswith("image and text are of different kinds")
    assert "far better than the untrained encoder" in found.said


def test_two_texts_have_words_beside_them() -> None:
    texts = [f"the {name} {thing}" for name in COLOURS for thing in ("house", "car", "bird")]
    source = likeness.read({"sentence1": texts, "sentence2": [f"{text} indeed" for text in texts]})
    text = towers()["text"]
    asked = judging(source, {"text": text})
    assert [(side.name, side.encoder.role) for side in asked.sides] == [("sentence1", "text"), ("sentence2", "text")]
    raw = Raw(asked)
    found = pair_scores(asked, {"encoder": asked.by({"text": text}), "raw": Column(raw)}, raw, quiet)
    scores = values(found.results, "sentence1>sentence2 r@1")
    assert scores["raw"] == 1
    assert scores["encoder"] == 0.333  # it knows colours alone
    assert "worse than TF-IDF (100.0 %)" in found.said


def test_pairs_with_scores_are_correlated_with_them() -> None:
    firsts, seconds = ["a red car", "a red car", "a blue car"], ["one red", "one yellow", "one yellow"]
    source = likeness.read({"sentence1": firsts, "sentence2": seconds, "score": [5.0, 3.0, 0.0]})
    text = towers()["text"]
    asked = judging(source, {"text": text})
    raw = Raw(asked)
    found = pair_scores(asked, {"encoder": asked.by({"text": text})}, raw, quiet)
    assert values(found.results, "spearman")["encoder"] == 1


def test_names_of_classes_find_their_pictures(captioned: Source, tmp_path: Path) -> None:
    encoders = towers()
    asked = judging(captioned, encoders)
    raw, known = Raw(asked), captioned.labels
    question = asking(asked.sides, encoders, known, None, None)
    assert question is not None
    assert len(question.prompts) == 7
    found = zero_shot_scores(asked, columns(asked, encoders, raw), raw, question, lambda space: space)
    assert values(found.results, "zero_shot")["encoder"] == 1
    assert values(found.results, "zero_shot")["untrained"] < 0.5
    named = tmp_path / "classes.txt"
    named.write_text("green\nred\n")
    some = asking(asked.sides, encoders, known, str(named), None)
    assert some is not None
    found = zero_shot_scores(asked, columns(asked, encoders, raw), raw, some, lambda space: space)
    assert values(found.results, "zero_shot")["encoder"] == 0.5


def test_names_go_to_pictures_without_any_caption(captioned: Source) -> None:
    encoders = towers()
    pictures = likeness.read(
        {"image": [captioned.raw("image", n) for n in range(16)], "label": [*captioned.labels.codes]}
    )
    asked = judging(pictures, encoders)
    assert [side.name for side in asked.sides] == ["image"]
    assert asking(asked.sides, encoders, pictures.labels, None, None) is None  # labels are numbers: no names
    words = asking(asked.sides, encoders, captioned.labels, None, None)
    assert words is not None
    assert words.names.encoder.role == "text"
    with pytest.raises(WrongCall, match="to score --classes against"):
        asking(asked.sides, encoders, None, "classes.txt", None)
    with pytest.raises(WrongCall, match="--classes needs an encoder of words, and the run encodes image"):
        asking(asked.sides, {"image": encoders["image"]}, captioned.labels, "classes.txt", None)


def test_negatives_are_no_side() -> None:
    source = likeness.read({"anchor": ["a b"] * 3, "positive": ["a c"] * 3, "negative": ["x y"] * 3})
    assert [side.name for side in sides_of(source, {"text": towers()["text"]}, None)] == ["anchor", "positive"]


# Sources --------------------------------------------------------------------------------------------------------------


def test_each_caption_is_a_row_of_its_item(captioned: Source) -> None:
    shown = variants(captioned, "text", towers()["text"].modality, CONTENT)
    assert len(shown) == 32
    assert list(shown.ids)[:4] == ["0", "0", "1", "1"]
    assert shown.raw("text", 2) == "a red square"
    content = shown.table[CONTENT].to_pylist()
    assert content[0] == content[2] != content[1]
    assert shown.only(np.array([3, 1])).raw("text", 1) == "number 0, it is red"
    pictures = variants(captioned, "image", towers()["image"].modality, CONTENT)
    assert len(pictures) == 16
    assert pictures.table[CONTENT].null_count == 16


def test_a_prompt_stands_before_each_text(captioned: Source) -> None:
    asked = prompted(captioned, "text", "query: ")
    assert asked.raw("text", 0) == ["query: a red square", "query: number 0, it is red"]
    assert asked.raw("image", 0) is not None
    with pytest.raises(WrongCall, match="not texts that the prompt 'query: ' could stand before"):
        prompted(captioned, "image", "query: ").raw("image", 0)


# Files of names -------------------------------------------------------------------------------------------------------


def test_names_of_classes_are_read(tmp_path: Path) -> None:
    lines, table = tmp_path / "c.txt", tmp_path / "c.csv"
    lines.write_text("storage_tanks\n\nrunway\n")
    assert read_classes(lines, ["runway"]) == {"storage_tanks": ["storage tanks"], "runway": ["runway"]}
    assert read_classes(lines, ["0", "1"]) == {"0": ["storage tanks"], "1": ["runway"]}
    table.write_text("label,name\n0,cat\n0,kitten\n1,dog\n")
    assert read_classes(table, ["0", "1"]) == {"0": ["cat", "kitten"], "1": ["dog"]}
    with pytest.raises(WrongCall, match="name none of the labels: it has 0, 1, the items x"):
        read_classes(table, ["x"])
    table.write_text("a,b\n1,2\n")
    with pytest.raises(WrongCall, match="columns label,name"):
        read_classes(table, ["x"])


def test_prompts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a photo of a {}\nthe {}\n")
    assert read_prompts(path) == ["a photo of a {}", "the {}"]
    path.write_text("a photo\n")
    with pytest.raises(WrongCall, match=r"'a photo' has no \{\}"):
        read_prompts(path)


def test_a_side_is_known_by_name(captioned: Source) -> None:
    encoders = towers()
    assert sides_of(captioned, encoders, "text") == [Side("text", "text", encoders["text"])]


# Commands -------------------------------------------------------------------------------------------------------------


def test_a_run_of_two_columns_is_judged_by_itself(tmp_path: Path, shell: Any) -> None:
    rows = [f"word{n} and thing{n},wort{n} und ding{n} word{n}" for n in range(40)]
    (tmp_path / "pairs.csv").write_text("\n".join(["en,de", *rows]) + "\n")
    tiny = ["steps=2", "batch=16", "workers=0", "holdout=10", "tokens.buckets=1024", "encoder.dim=16"]
    assert shell("train", "pairs.csv", "ranking", *tiny, "--out", "run", "--quiet").code == 0
    scores = shell("evaluate", "run", "pairs.csv", "--json").json
    assert scores["items"] == {"train": 30, "test": 10}
    assert scores["called"] == {"raw": "TF-IDF"}
    assert list(scores["scores"]) == [
        f"{way} {at}" for way in ("en>de", "de>en") for at in ("r@1", "r@5", "r@10", "median_rank")
    ]
    assert scores["scores"]["en>de r@10"]["encoder"]["value"] == pytest.approx(1)  # of ten
    (tmp_path / "asked.csv").write_text("id,text\nq,word3 thing3\n")
    (tmp_path / "right.txt").write_text("q 0 3 1\n")
    pairs = ["evaluate", "run", "pairs.csv", "--queries", "asked.csv", "--qrels", "right.txt", "--columns", "text=en"]
    found = shell(*pairs, "--role", "en", "--query-prompt", "find: ", "--json").json
    assert found["items"] == {"train": 40, "test": 1}
    assert found["scores"]["mrr"]["bm25"]["value"] == found["scores"]["mrr"]["raw"]["value"] == 1
    assert shell("evaluate", "run", "pairs.csv", "--queries", "asked.csv").failed(2).endswith("is missing")
    wrong = shell("evaluate", "run", "pairs.csv", "--prompts", "asked.cvs").failed(2)
    assert wrong == "--prompts asked.cvs: there is no such file; did you mean 'asked.csv'?"
