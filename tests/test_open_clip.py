"""open_clip's towers as encoders: their features, their tokens, and training that begins with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file

import likeness
from likeness.encoders import OpenClip, Saved
from likeness.errors import Failed, WrongCall
from likeness.export import export
from likeness.modalities import Image, Modality, Text
from likeness.modalities.clip_pieces import ClipPieces
from likeness.whereabouts import find

open_clip = pytest.importorskip("open_clip")

SIDE, DIM, CONTEXT = 32, 16, 20
VISION = {"image_size": SIDE, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CONFIG = {"embed_dim": DIM, "vision_cfg": VISION, "text_cfg": TEXT}
SHOWN = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "size": SIDE}
CAPTIONS = [
    "a red square",
    "It's 2,000 BLUE circles & <<stars>>!",
    "grüne Dreiecke, naïve café 日本語 🙂",
    "a photo of a great many things that are far too long for the text tower to read to their end in one go",
]
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": CONFIG,
    "quick gelu": {**CONFIG, "quick_gelu": True},
    "resnet": {**CONFIG, "vision_cfg": {**VISION, "layers": [1, 1, 1, 1], "width": 8}},
    "like siglip": {
        **CONFIG,
        "custom_text": True,
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "pad_id": 0, "proj_bias": True},
    },
}


def model(config: dict[str, Any]) -> Any:
    """With random weights that open_clip made."""
    torch.manual_seed(0)
    known = {name: value for name, value in config.items() if name != "custom_text"}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    return kind(**known).eval()


def folder(place: Path, name: str = "plain") -> tuple[Path, Any]:
    """As open_clip saves one for the hub, and the model."""
    made = model(CONFIGS[name])
    place.mkdir()
    (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIGS[name], "preprocess_cfg": SHOWN}))
    save_file(
        {name: value.contiguous() for name, value in made.state_dict().items()}, place / "open_clip_model.safetensors"
    )
    return place, made


def pictures(n: int = 3) -> list[np.ndarray]:
    return [np.random.default_rng(k).integers(0, 256, (40, 50, 3), np.uint8) for k in range(n)]


def tower(path: Path, role: str) -> tuple[Saved, Modality]:
    saved = Saved(path=str(path), role=role).settled()
    return saved, Modality.of(saved.found.seen).fitted(pictures() if role == "image" else CAPTIONS)


@pytest.mark.parametrize("name", CONFIGS)
def test_features_are_those_of_open_clip(name: str, tmp_path: Path) -> None:
    path, theirs = folder(tmp_path / "clip", name)
    image, shown = tower(path, "image")
    assert isinstance(shown, Image)
    assert (image.dim, shown.size, shown.mean, shown.std) == (DIM, SIDE, tuple(SHOWN["mean"]), tuple(SHOWN["std"]))
    text, read = tower(path, "text")
    assert isinstance(read, Text)
    assert (text.dim, read.length) == (DIM, CONTEXT)
    with torch.inference_mode():
        x = shown.plain([shown.read(one) for one in pictures()])
        torch.testing.assert_close(image.build().eval()(x), theirs.encode_image(x), atol=1e-5, rtol=0)
        ids = open_clip.SimpleTokenizer(context_length=CONTEXT)(CAPTIONS)
        ours = text.build().eval()(read.plain([read.read(caption) for caption in CAPTIONS]))
        torch.testing.assert_close(ours, theirs.encode_text(ids), atol=1e-5, rtol=0)


def test_tokens_are_those_of_open_clip() -> None:
    tokens = ClipPieces().fitted(())
    texts = [*CAPTIONS, "they're we'll I'd don't it'S", "...!?;- 3.14 a1b2", "x" * 60, "\u0130stanbul ŒUVRE ß"]
    theirs = open_clip.SimpleTokenizer(context_length=40)(texts)
    ours = tokens.encode(texts, 40)
    assert (ours.values * ours.mask).equal(theirs[:, : ours.values.shape[1]])
    assert theirs[:, ours.values.shape[1] :].sum() == 0


def test_a_tokenizer_of_hugging_face_is_taken_from_the_folder(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    path, _ = folder(tmp_path / "clip")
    about = json.loads((path / "open_clip_config.json").read_text())
    about["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/words"
    (path / "open_clip_config.json").write_text(json.dumps(about))
    with pytest.raises(WrongCall, match=r"has no tokenizer.json"):
        tower(path, "text")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "red": 1, "square": 2}))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(path / "tokenizer.json"))
    _, read = tower(path, "text")
    assert read.plain([("a red square",)]).values.tolist() == [[0, 1, 2]]


def test_one_file_and_the_name_of_a_model(tmp_path: Path) -> None:
    """ViT-B-32 would do; a small model of one's own needs no minute."""
    theirs = model(CONFIG)
    save_file(
        {f"module.{name}": value.contiguous() for name, value in theirs.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    saved = Saved(path=str(tmp_path / "w.safetensors"), encoder=OpenClip(config=CONFIG)).seeing("photo", "Image")
    x = torch.randn(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        torch.testing.assert_close(saved.build().eval()(x), theirs.encode_image(x), atol=1e-5, rtol=0)
    assert OpenClip(name="ViT-B-32", tower="image").dim == 512
    with pytest.raises(WrongCall, match="no model 'ViT-B-23'; did you mean 'ViT-B-32'"):
        _ = OpenClip(name="ViT-B-23", tower="image").dim


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = folder(tmp_path / "clip")
    with pytest.raises(WrongCall, match=r"two encoders \(image, text\): say which with encoder.role="):
        find(str(path))
    with pytest.raises(WrongCall, match="no tower 'txet'; did you mean 'text'"):
        find(str(path), "txet")
    with pytest.raises(WrongCall, match="no tower for audio"):
        OpenClip(config=CONFIG).seeing("sound", "Audio")
    cleaned = {**CONFIG, "text_cfg": {**TEXT, "hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "canonicalize"}}}
    with pytest.raises(WrongCall, match=r"'clean': 'canonicalize'.*not done here"):
        _ = OpenClip(config=cleaned, tower="text").reads
    hub = {**CONFIG, "text_cfg": {**TEXT, "hf_model_name": "roberta-base"}}
    with pytest.raises(WrongCall, match="roberta-base of Hugging Face's hub, which is not asked"):
        OpenClip(config=hub, tower="text").build()
    (path / "open_clip_model.safetensors").rename(path / "open_clip_pytorch_model.bin")
    with pytest.raises(WrongCall, match=r"open_clip_pytorch_model.bin is not unpickled"):
        find(str(path), "image")
    monkeypatch.setattr("likeness.encoders.open_clip.find_spec", lambda name: None)
    with pytest.raises(Failed, match=r"pip install 'likeness\[clip\]'"):
        OpenClip(config=CONFIG, tower="image").build()


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = ["image,text"]
    for n, pixels in enumerate(pictures(12)):
        Pillow.fromarray(pixels).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,picture number {n}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    return tmp_path / "pairs.csv"


@pytest.mark.parametrize("how", ["from", "encoders"])
def test_two_towers_begin_with_both_and_keep_their_projections(how: str, pairs: Path, tmp_path: Path) -> None:
    path, theirs = folder(tmp_path / "clip")
    asked = {"start": str(path)} if how == "from" else {f"encoders.{role}": str(path) for role in ("image", "text")}
    likeness.train(pairs, "clip", out=tmp_path / "run", steps=2, batch=6, holdout=0, **asked)
    about = json.loads((tmp_path / "run/encoder.json").read_text())["roles"]
    assert {role: (part["dim"], part["encoder"]["kind"]) for role, part in about.items()} == {
        "image": (DIM, "OpenClip"),
        "text": (DIM, "OpenClip"),
    }
    (path / "open_clip_model.safetensors").unlink()  # a run is whole without them
    captions = [f"picture number {n}" for n in range(12)]
    ids = open_clip.SimpleTokenizer(context_length=CONTEXT)(captions)
    before = likeness.load(tmp_path / "run", role="text", untrained=True).embed(captions).vectors
    with torch.inference_mode():
        np.testing.assert_allclose(before, theirs.encode_text(ids).numpy(), atol=1e-5)
    after = likeness.load(tmp_path / "run", role="text").embed(captions).vectors
    assert np.abs(after - before).max() > 0
    hits = likeness.load(tmp_path / "run", role="image").embed(pairs).search("picture number 3", k=2)
    assert len(hits) == 2
    stored = json.loads((tmp_path / "run/tokenizer.json").read_text())
    assert len(stored["model"]["vocab"]) == 49408


def test_one_tower_alone(pairs: Path, tmp_path: Path) -> None:
    path, _ = folder(tmp_path / "clip")
    likeness.train([f"words {n}" for n in range(12)], "simcse", out=tmp_path / "run", steps=1, batch=6, start=str(path))
    assert json.loads((tmp_path / "run/encoder.json").read_text())["roles"]["text"]["encoder"]["tower"] == "text"
    done = export(tmp_path / "run", "onnx", tmp_path / "onnx")
    assert done.difference is not None
    assert done.difference < 1e-4


def test_random_towers_by_name_take_what_they_are_given(pairs: Path, tmp_path: Path) -> None:
    encoders = {role: OpenClip(config=CONFIG) for role in ("image", "text")}
    asked = {f"encoders.{role}": one.tree() for role, one in encoders.items()}
    likeness.train(pairs, "clip", out=tmp_path / "run", steps=1, batch=6, holdout=0, embed_dim=8, **asked)
    about = json.loads((tmp_path / "run/encoder.json").read_text())["roles"]
    assert [part["encoder"]["encoder"]["tower"] for part in about.values()] == ["image", "text"]
    assert about["text"]["preprocessing"]["length"] == CONTEXT
