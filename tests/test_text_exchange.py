"""Text encoders that others made are read, trained and written again, with vectors that agree."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import likeness
from likeness.encoders import Encoder, Kept, NgramBag, Projected, Saved, TextTransformer, Transformers
from likeness.errors import Failed, WrongCall
from likeness.export import export
from likeness.folder import write_encoder
from likeness.modalities import Image, Text
from likeness.modalities.tokens import Trained
from likeness.stacks import Padded
from likeness.whereabouts import find

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXTS = [
    "a small red house stands by the river",
    "eine kleine Katze sitzt auf dem Dach",
    "the cat sat on the mat",
    "dogs run fast, in the park, all day long and into the night until nobody is left to see them",
    "red",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LENGTH = 16


def made_tokenizer(ends: str = "[CLS] $A [SEP]") -> Any:
    """Pieces of words of these texts, as transformers holds them; ends: the post-processor's template."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    marks = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = tokenizers.processors.TemplateProcessing(single=ends, special_tokens=marks)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=LENGTH, model_input_names=["input_ids", "attention_mask"], **names
    )


SMALL = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
BERT = {**SMALL, "intermediate_size": 64, "max_position_embeddings": 40}
KINDS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**BERT)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**BERT)),
    "mpnet": lambda: transformers.MPNetModel(transformers.MPNetConfig(**BERT)),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=120, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    ),
    "qwen2": lambda: transformers.Qwen2Model(
        transformers.Qwen2Config(**BERT, num_key_value_heads=2, bos_token_id=2, eos_token_id=3)
    ),
    "t5": lambda: transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=120, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    ),
}


def sentences(folder: Path, net: Any, *after: Any, tokenizer: Any = None, **known: Any) -> Any:
    """A folder of sentence-transformers with that network, and what reads it there."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    bare = folder.parent / f"{folder.name}-bare"
    net.save_pretrained(bare)
    (tokenizer or made_tokenizer()).save_pretrained(bare)
    made = SentenceTransformer(modules=[Transformer(str(bare)), *after], device="cpu", **known)
    made.save_pretrained(str(folder))
    return SentenceTransformer(str(folder), device="cpu")


def pooling(how: str) -> Any:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(32, how)


def encoder_of(folder: Path, texts: list[str] = TEXTS) -> tuple[Saved, Text]:
    """As training has them, before its first step."""
    saved = Saved(path=str(folder)).settled()
    modality = Text.of(find(str(folder)).seen).fitted(texts)
    return saved.filled(modality.facts), modality


def vectors(saved: Encoder, modality: Text, texts: list[str] = TEXTS) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = saved.build().eval()(modality.plain([modality.read(text) for text in texts])).numpy()
    return found


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "how"),
    [("bert", "mean"), ("bert", "cls"), ("roberta", "mean"), ("mpnet", "mean"), ("distilbert", "cls"),
     ("qwen2", "lasttoken"), ("t5", "mean")],
)  # fmt: skip
def test_vectors_are_those_of_sentence_transformers(kind: str, how: str, tmp_path: Path) -> None:
    """The fourth text is longer than the encoder reads, so that how it is cut shows."""
    theirs = sentences(tmp_path / "st", KINDS[kind](), pooling(how))
    saved, modality = encoder_of(tmp_path / "st")
    assert (saved.dim, modality.length) == (32, LENGTH)
    np.testing.assert_allclose(vectors(saved, modality), theirs.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_like_length_together_have_the_same_vectors(kind: str) -> None:
    made = KINDS[kind]()
    config = {**made.config.to_dict(), "architectures": [type(made).__name__]}
    net: Any = Transformers(config=config).build().eval()
    numbers = torch.arange(5, 5 + 40 * 12).remainder(100).add(5).view(40, 12)
    lengths = torch.arange(40) * 7 % 12 + 1
    tokens = Padded(numbers, torch.arange(12) < lengths[:, None])
    with torch.inference_mode():
        np.testing.assert_allclose(net(tokens), net._whole(tokens), atol=1e-5)


def test_layers_after_the_pooling_and_the_prompt_are_read(tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Dense, Normalize

    after = (pooling("mean"), Dense(32, 12), Dense(12, 8, bias=False, activation_function=None), Normalize())
    theirs = sentences(
        tmp_path / "st", KINDS["bert"](), *after, prompts={"query": "red: "}, default_prompt_name="query"
    )
    saved, modality = encoder_of(tmp_path / "st")
    assert (saved.dim, modality.prompt) == (8, "red: ")
    ours = vectors(saved, modality)
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    bare = theirs.encode(TEXTS, prompt="")
    np.testing.assert_allclose(vectors(saved, modality.model_copy(update={"prompt": ""})), bare, atol=1e-5)


def test_how_older_folders_are_laid_out(tmp_path: Path) -> None:
    """A network in a folder of its own, pooling told by flags."""
    theirs = sentences(tmp_path / "st", KINDS["bert"](), pooling("cls"))
    expected = theirs.encode(TEXTS)
    inner = tmp_path / "st" / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.move(tmp_path / "st" / name, inner / name)
    (inner / "sentence_bert_config.json").write_text('{"max_seq_length": 9, "do_lower_case": false}')
    (tmp_path / "st/modules.json").write_text(
        (tmp_path / "st/modules.json").read_text().replace('"path": ""', '"path": "0_Transformer"', 1)
    )
    flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "st/1_Pooling/config.json").write_text(json.dumps(flags))
    saved, modality = encoder_of(tmp_path / "st")
    assert modality.length == 9
    longer = modality.model_copy(update={"length": LENGTH})
    np.testing.assert_allclose(vectors(saved, longer), expected, atol=1e-5)
    assert find(f"hf:{tmp_path / 'st'}") == find(str(tmp_path / "st"))


def test_weights_in_several_files(tmp_path: Path) -> None:
    net = KINDS["bert"]()
    net.save_pretrained(tmp_path, max_shard_size="20KB")
    made_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    saved, modality = encoder_of(tmp_path)
    stack = modality.plain([modality.read(text) for text in TEXTS])
    with torch.inference_mode():
        expected = net.eval()(input_ids=stack.values, attention_mask=stack.mask.long()).last_hidden_state
    torch.testing.assert_close(saved.build().eval().hidden(stack), expected)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", [{"type": "x.StaticEmbedding", "path": ""}], "StaticEmbedding among its modules"),
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.LayerNorm", "path": ""}], "LayerNorm"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "pooling weightedmean is not known"),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}, r"pooling mean\+max is not known"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False}, "include_prompt=false"),
    ],
)
def test_what_is_not_known_is_named(file: str, content: Any, said: str, tmp_path: Path) -> None:
    sentences(tmp_path / "st", KINDS["bert"](), pooling("mean"))
    (tmp_path / "st" / file).write_text(json.dumps(content))
    with pytest.raises(WrongCall, match=said) as caught:
        find(str(tmp_path / "st"))
    assert "\n" not in str(caught.value)


def test_pickled_weights_and_missing_tokenizers_are_refused_with_the_remedy(tmp_path: Path) -> None:
    KINDS["bert"]().save_pretrained(tmp_path)
    made_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WrongCall, match=r"has no tokenizer.json: save it there"):
        encoder_of(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WrongCall, match=r"pytorch_model.bin is not unpickled.*save the weights"):
        find(str(tmp_path))


def test_a_text_is_cut_as_transformers_cuts_it(tmp_path: Path) -> None:
    """With no special token at its end, with one, and with two."""
    for n, ends in enumerate(("[CLS] $A", "[CLS] $A [SEP]", "$A [SEP] [CLS]")):
        theirs = made_tokenizer(ends)
        KINDS["bert"]().save_pretrained(tmp_path / str(n))
        theirs.save_pretrained(tmp_path / str(n))
        _, modality = encoder_of(tmp_path / str(n))
        expected = theirs(TEXTS, truncation=True, padding=True, return_tensors="pt")
        stack = modality.plain([(text,) for text in TEXTS])
        assert stack.mask.long().equal(expected["attention_mask"])
        assert (stack.values * stack.mask).equal(expected["input_ids"] * expected["attention_mask"])


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"lora": 2}, {"freeze": 0.5}], ids=["whole", "lora", "frozen first"])
def test_training_goes_on_from_a_folder_and_needs_it_no_longer(changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = sentences(tmp_path / "st", KINDS["bert"](), pooling("mean"))
    texts = [f"{text} {n}" for n in range(4) for text in TEXTS]
    run = likeness.train(texts, "simcse", out=tmp_path / "run", steps=2, batch=8, start=str(tmp_path / "st"), **changes)
    before = theirs.encode(TEXTS)
    shutil.rmtree(tmp_path / "st")
    encoder = likeness.load(tmp_path / "run")
    after = encoder.embed(TEXTS).vectors
    assert after.shape == before.shape
    assert 0 < np.abs(after - before).max() < 1
    untrained = likeness.load(tmp_path / "run", untrained=True).embed(TEXTS).vectors
    np.testing.assert_allclose(untrained, before, atol=1e-5)
    stored = tokenizers.Tokenizer.from_file(str(tmp_path / "run/tokenizer.json"))
    assert stored.encode(TEXTS[2]).ids == made_tokenizer()(TEXTS[2])["input_ids"]
    assert run


def test_two_towers_that_share_an_encoder_from_a_folder(tmp_path: Path) -> None:
    sentences(tmp_path / "st", KINDS["bert"](), pooling("mean"))
    table = tmp_path / "pairs.csv"
    rows = [f"{text} {n},{text[::-1]} {n}" for n in range(3) for text in (TEXTS[0], TEXTS[1], TEXTS[2])]
    table.write_text("\n".join(["a,b", *rows]))
    likeness.train(
        table, "ranking", out=tmp_path / "run", steps=2, start=str(tmp_path / "st"), columns={"a": "a", "b": "b"}
    )
    about = json.loads((tmp_path / "run/encoder.json").read_text())["roles"]
    assert about["a"]["dim"] == 32
    assert about["b"]["same"] == "a"
    assert [file.name for file in (tmp_path / "run").glob("tokenizer*")] == ["tokenizer.json"]


# Writing --------------------------------------------------------------------------------------------------------------


def kept(run: Path, recipe: Encoder, modality: Text) -> Path:
    """A run with that encoder."""
    run.mkdir()
    write_encoder(run, {"text": Kept(recipe, recipe.build().eval())}, {"text": modality})
    return run


def own(**fields: Any) -> tuple[Encoder, Text]:
    recipe = TextTransformer(dim=32, depth=2, heads=2, tokens=Trained(vocabulary=300), **fields)
    modality = Text(tokens=recipe.tokens, length=LENGTH).fitted(TEXTS)
    return recipe.filled(modality.facts), modality


def bert(tmp_path: Path, how: str = "mean", kind: str = "bert", **fields: Any) -> tuple[Encoder, Text]:
    KINDS[kind]().save_pretrained(tmp_path / "bert")
    made_tokenizer().save_pretrained(tmp_path / "bert")
    if kind == "qwen2":  # for which transformers makes tokens of its own
        transformers.AutoTokenizer.from_pretrained(tmp_path / "bert").save_pretrained(tmp_path / "bert")
    _, modality = encoder_of(tmp_path / "bert")
    config = json.loads((tmp_path / "bert/config.json").read_text())
    return Transformers(config=config, pooling=how, **fields), modality


ENCODERS: dict[str, Callable[[Path], tuple[Encoder, Text]]] = {
    "transformer": lambda _: own(),
    "transformer, first token": lambda _: own(pooling="cls"),
    "bert": bert,
    "bert, last token, unit": lambda folder: bert(folder, "last", unit=True),
    "qwen2": lambda folder: bert(folder, "last", "qwen2"),
    "projected": lambda folder: (Projected(encoder=own()[0], dim=8), own()[1]),
    "prompted": lambda folder: (own()[0], own()[1].model_copy(update={"prompt": 'say "red": '})),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_a_written_folder_gives_the_same_vectors_in_sentence_transformers(name: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    run = kept(tmp_path / "run", *ENCODERS[name](tmp_path))
    done = export(run, "sentence-transformers", tmp_path / "out")
    assert done.difference is not None
    assert done.difference < 1e-5
    ours = likeness.load(run).embed(TEXTS).vectors
    np.testing.assert_allclose(SentenceTransformer(str(tmp_path / "out")).encode(TEXTS), ours, atol=1e-5)
    again, modality = encoder_of(tmp_path / "out")
    np.testing.assert_allclose(vectors(again, modality), ours, atol=1e-5)


def ran(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Python in a folder's README comes to."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert "likeness" not in code
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    (folder / "example.py").write_text(code)
    return runpy.run_path("example.py")


SHOWN = ["a text", "and another one"]  # what the READMEs embed


@pytest.mark.parametrize("name", ["transformer", "transformer, first token", "bert, last token, unit", "prompted"])
def test_the_readme_of_a_folder_of_transformers_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(tmp_path / "run", *ENCODERS[name](tmp_path))
    export(run, "hf", tmp_path / "out")
    features = ran(tmp_path / "out", monkeypatch)["features"]
    np.testing.assert_allclose(features.numpy(), likeness.load(run).embed(SHOWN).vectors, atol=1e-5)


def test_pictures_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "model_type": "vit",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
    }
    recipe, run = Transformers(config={**config, "patch_size": 8, "intermediate_size": 32}), tmp_path / "run"
    modality = Image(size=32).fitted(
        [np.random.default_rng(n).integers(0, 256, (40, 50, 3), np.uint8) for n in range(4)]
    )
    run.mkdir()
    write_encoder(run, {"image": Kept(recipe, recipe.build())}, {"image": modality})
    done = export(run, "hf", tmp_path / "out")
    assert done.difference == pytest.approx(0, abs=1e-5)
    black = likeness.load(run).embed_one(np.zeros((200, 300, 3), np.uint8))
    np.testing.assert_allclose(ran(tmp_path / "out", monkeypatch)["features"].numpy()[0], black, atol=1e-4)
    seen = find(str(tmp_path / "out")).seen
    assert seen["mean"] == pytest.approx(modality.mean)
    with pytest.raises(Failed, match="this one is of pictures: --format hf"):
        export(run, "sentence-transformers", tmp_path / "other")


def test_what_they_cannot_hold_is_said_in_one_line(tmp_path: Path) -> None:
    modality = Text(length=LENGTH).fitted(TEXTS)
    bag = kept(tmp_path / "bag", NgramBag(dim=8).filled(modality.facts), modality)
    for format in ("sentence-transformers", "hf"):
        with pytest.raises(Failed, match=r"NgramBag is none.*--format onnx") as caught:
            export(bag, format, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
    recipe, modality = bert(tmp_path, kind="qwen2")
    modality = modality.model_copy(update={"tokens": own()[1].tokens})
    with pytest.raises(Failed, match="other tokens for qwen2 than this encoder was trained with"):
        export(kept(tmp_path / "qwen2", recipe, modality), "hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    recipe, modality = ENCODERS["projected"](tmp_path)
    with pytest.raises(Failed, match=r"no place for the linear map.*sentence-transformers and onnx have"):
        export(kept(tmp_path / "projected", recipe, modality), "hf", tmp_path / "out")


@pytest.mark.parametrize("name", ["transformer", "bert, last token, unit", "prompted", "bag", "bag, two words"])
def test_the_readme_of_an_onnx_folder_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    if name in ENCODERS:
        recipe, modality = ENCODERS[name](tmp_path)
    else:
        tokens = {"kind": "Hashed", "buckets": 1024, "words": 1 + ("two" in name)}
        modality = Text.of({"kind": "Text", "tokens": tokens, "length": LENGTH, "prompt": "of: "}).fitted(TEXTS)
        recipe = NgramBag(dim=16, tokens=modality.tokens).filled(modality.facts)
    run = kept(tmp_path / "run", recipe, modality)
    done = export(run, "onnx", tmp_path / "out")
    assert done.difference is not None
    assert done.difference < 1e-4
    told = ran(tmp_path / "out", monkeypatch)
    encoder = likeness.load(run)
    ours = encoder.embed(SHOWN).vectors
    np.testing.assert_allclose(told["features"], ours, atol=1e-4)
    np.testing.assert_allclose(told["unit"], ours / np.linalg.norm(ours, axis=1, keepdims=True), atol=1e-4)
    session: onnxruntime.InferenceSession = told["session"]
    names = [one.name for one in session.get_inputs()]
    assert names == (["ids", "offsets"] if "bag" in name else ["input_ids", "attention_mask"])
    assert {file.name for file in done.files} >= {"grams.py" if "bag" in name else "tokenizer.json", "README.md"}


def test_towers_with_tokenizers_of_their_own_keep_both(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    both = {role: own() for role in ("de", "en")}
    other = both["en"][1].model_copy(update={"tokens": Trained(vocabulary=310).fitted([*TEXTS, "more and more"])})
    net = both["en"][0].model_copy(update={"vocabulary": other.facts["vocabulary"]})
    modality = {"de": both["de"][1], "en": other}
    write_encoder(
        tmp_path / "run", {"de": Kept(both["de"][0], both["de"][0].build()), "en": Kept(net, net.build())}, modality
    )
    names = sorted(file.name for file in (tmp_path / "run").glob("tokenizer*"))
    assert names == ["tokenizer-de.json", "tokenizer-en.json"]
    done = export(tmp_path / "run", "sentence-transformers", tmp_path / "out")
    assert {file.parent.name for file in done.files} >= {"de", "en"}
    export(tmp_path / "run", "onnx", tmp_path / "onnx")
    assert '"tokenizer-en.json"' in (tmp_path / "onnx/README.md").read_text()
