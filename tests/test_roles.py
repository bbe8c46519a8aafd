"""Several roles in one run folder: stored, loaded, embedded, searched from one to the other and exported by role."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import COLOURS, Shell, shape
from PIL import Image as Pillow
from safetensors.torch import load_file
from torch import Tensor, nn

import likeness
from likeness.aligned import Aligned, aligned
from likeness.asking import asked, opposite, places, source_of
from likeness.encoders import Kept, NgramBag, Own, Residual
from likeness.errors import Failed, WrongCall
from likeness.export import export
from likeness.folder import write_encoder
from likeness.live import Probe, Sample
from likeness.loaded import load, load_all
from likeness.modalities import Image, Text
from likeness.modalities.tokens import Hashed
from likeness.network import asked as run_onnx
from likeness.sklearn import ContrastiveEncoder
from likeness.space import Space
from likeness.stacks import Padded

EACH = 12
RECIPE = """
kind: Once
steps: 6
precision: float32
device: cpu
method:
  kind: TwoTowers
  encoders:
    image: {kind: Residual, widths: [8, 16]}
    text: {kind: NgramBag, dim: 16, tokens: {kind: Hashed, buckets: 512}}
data: {batch: 12, workers: 1}
"""


def captioned(folder: Path) -> Path:
    """pairs.csv: 24 pictures with what they show; one has no caption, one caption no picture."""
    (folder / "pics").mkdir(parents=True)
    rows = ["id,image,text,label"]
    for colour in COLOURS:
        for n in range(EACH):
            Pillow.fromarray(shape(colour, n)).save(folder / "pics" / f"{colour}{n:02}.png")
            rows.append(f"{colour}-{n},pics/{colour}{n:02}.png,a {colour} square number {n % 3},{colour}")
    rows[1] = "blue-0,pics/blue00.png,,blue"
    rows[-1] = f"red-{EACH - 1},,a red square without a picture,red"
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned(tmp_path_factory.mktemp("roles") / "data")


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two towers of a few steps; nobody writes to it."""
    folder = tmp_path_factory.mktemp("roles")
    (folder / "small.yaml").write_text(RECIPE)
    return likeness.train(pairs, folder / "small.yaml", out=folder / "run").path


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("shell"))


# Stored and loaded ----------------------------------------------------------------------------------------------------


def test_every_role_is_loaded_by_name(run: Path) -> None:
    every = load_all(run)
    assert [(role, one.role) for role, one in every.items()] == [("image", "image"), ("text", "text")]
    assert every["image"].dim == every["text"].dim
    stored = load_file(run / "encoder.safetensors")
    for role, one in every.items():
        alone = load(run, role=role).encoder.state_dict()
        assert alone
        for name, value in one.encoder.state_dict().items():
            assert torch.equal(value, alone[name])
            assert torch.equal(value, stored[f"{role}.{name}"])
    assert len({one.fingerprint for one in every.values()}) == 1
    with pytest.raises(WrongCall, match=r"several encoders \(image, text\): name one with --role"):
        load(run)
    untrained = load_all(run, untrained=True)
    assert untrained["text"].fingerprint == f"{every['text'].fingerprint}-untrained"


def bag(*texts: str) -> tuple[Kept, Text]:
    recipe = NgramBag(dim=4, tokens=Hashed(buckets=256))
    return Kept(recipe, recipe.build()), Text(tokens=Hashed(buckets=256)).fitted(texts)


def test_a_shared_module_is_stored_once_under_its_own_names(tmp_path: Path) -> None:
    kept, modality = bag("eins", "zwei")
    both = dict.fromkeys(("en", "de"), kept)
    name = write_encoder(tmp_path, both, dict.fromkeys(both, modality))
    assert set(load_file(tmp_path / "encoder.safetensors")) == set(kept.module.state_dict())
    every = load_all(tmp_path)
    assert every["en"].encoder is every["de"].encoder
    assert every["en"].fingerprint == every["de"].fingerprint == name
    alone = load(tmp_path, role="de")
    np.testing.assert_array_equal(alone.embed_one("eins"), every["en"].embed_one("eins"))
    about = json.loads((tmp_path / "encoder.json").read_text())
    about["roles"]["de"]["same"] = "fr"
    (tmp_path / "encoder.json").write_text(json.dumps(about))
    with pytest.raises(Failed, match=r"encoder\.json is damaged"):
        load(tmp_path, role="de")


# Spaces ---------------------------------------------------------------------------------------------------------------


def test_the_runs_space_has_a_column_a_role_aligned_by_item(run: Path, pairs: Path) -> None:
    table = pq.read_table(run / "space.parquet")
    assert {"id", "vector_image", "vector_text", "text", "label"} <= set(table.column_names)
    assert table.num_rows == 2 * EACH
    lacking = {
        role: [
            id
            for id, vector in zip(table["id"].to_pylist(), table[f"vector_{role}"], strict=True)
            if not vector.is_valid
        ]
        for role in ("image", "text")
    }
    assert lacking == {"image": [f"red-{EACH - 1}"], "text": ["blue-0"]}
    for role, one in load_all(run).items():
        space = Space.load(run / "space.parquet", role=role)
        alone = one.embed(pairs)
        assert list(space.ids) == list(alone.ids)
        assert len(space) == 2 * EACH - 1
        np.testing.assert_allclose(space.vectors, alone.vectors, atol=1e-5)
    with pytest.raises(WrongCall, match=r"several roles: name one with --role, image or text"):
        Space.load(run / "space.parquet")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_spaces_side_by_side_keep_their_gaps(tmp_path: Path, dtype: str) -> None:
    one, two = np.ones((2, 3), np.float32), np.full((3, 2), 2, np.float32)
    rows, vectors = aligned({"a": (np.array([0, 4]), one), "b": (np.array([1, 4, 6]), two)})
    assert rows.tolist() == [0, 1, 4, 6]
    whole = Aligned(vectors, [f"item {row}" for row in rows], pa.table({"n": rows}), "abc")
    again = Aligned.load(whole.save(tmp_path / "x.parquet", dtype))
    assert (again.ids, again.fingerprint) == (whole.ids, "abc")
    for role, block in vectors.items():
        np.testing.assert_array_equal(again.vectors[role], block)
    assert Space.load(tmp_path / "x.parquet", role="a").ids == ["item 0", "item 4"]
    assert again.space("b").table["n"].to_pylist() == [1, 4, 6]
    with pytest.raises(WrongCall, match="one role's vectors: name one with --role, a or b"):
        whole.save(tmp_path / "x.npy")
    with pytest.raises(WrongCall, match="no role 'c'"):
        whole.space("c")


def test_embedding_writes_all_towers_whose_role_the_source_has(
    run: Path, pairs: Path, shell: Shell, tmp_path: Path
) -> None:
    done = shell("embed", run, pairs, "--out", "both.parquet", "--json").json
    dims = {role: one.dim for role, one in load_all(run).items()}
    assert (done["rows"], done["dim"], done["roles"]) == (2 * EACH, dims["image"], dims)
    again, stored = Aligned.load(shell.cwd / "both.parquet"), Aligned.load(run / "space.parquet")
    for role, vectors in stored.vectors.items():
        np.testing.assert_allclose(again.vectors[role], vectors, atol=1e-5)
    assert "one role: name one with --role, image or text" in shell("embed", run, pairs, "--out", "x.npy").failed(2)
    assert shell("embed", run, pairs, "--out", "x.npy", "--role", "text", "--json").json["rows"] == 2 * EACH - 1
    (tmp_path / "notes.txt").write_text("a red square\n\na green one\n")
    for source, role, many in ((pairs.parent / "pics", "image", 2 * EACH), (tmp_path / "notes.txt", "text", 2)):
        done = shell("embed", run, source, "--out", f"{role}.parquet", "--json").json
        assert (done["rows"], done["roles"]) == (many, {role: dims[role]})
        space = Space.load(shell.cwd / f"{role}.parquet")
        assert (len(space), space.fingerprint) == (many, done["fingerprint"])
        assert len(Space.load(shell.cwd / f"{role}.parquet", role=role)) == many  # the file knows whose they are


# Which encoder takes what ---------------------------------------------------------------------------------------------

TEXTS = Text()
PICTURES = Image()


def test_roles_are_matched_by_name_else_by_kind() -> None:
    texts, pictures = ["one", "two"], [shape("red", n) for n in range(2)]
    both = likeness.read({"a": texts, "b": pictures}, columns={"words": "a", "photo": "b"})
    towers = {"image": PICTURES, "text": TEXTS}
    assert places(both, towers, {}) == {"image": "photo", "text": "words"}
    assert places(likeness.read(texts), towers, {}) == {"text": "text"}
    assert places(likeness.read(texts), {"en": TEXTS}, {}) == {"en": "text"}
    pair = {"en": TEXTS, "de": TEXTS}
    with pytest.raises(WrongCall, match=r"has text, the run encodes en and de: name one with --role"):
        places(likeness.read(texts), pair, {"en": "en", "de": "de"})
    assert places(likeness.read(texts), pair, {"en": "en", "de": "en"})["en"] == "text"
    with pytest.raises(WrongCall, match=r"has text \(text\); the run encodes image \(image\)"):
        places(likeness.read(texts), {"image": PICTURES}, {})


def test_strings_are_texts_where_the_encoder_takes_texts() -> None:
    source = source_of(["see photo.jpg", None, "see b.png"], {"text": TEXTS})
    assert (dict(source.roles), len(source), source.raw("text", 0)) == ({"text": "Text"}, 3, "see photo.jpg")
    paths = source_of(["photo.jpg", "b.png"], {"image": PICTURES})
    assert (dict(paths.roles), list(paths.ids)) == ({"image": "Image"}, ["photo.jpg", "b.png"])


def test_a_query_is_a_file_that_exists_else_a_text(tmp_path: Path) -> None:
    towers = {"image": PICTURES, "text": TEXTS}
    picture, note, bare = tmp_path / "a b.png", tmp_path / "note.txt", tmp_path / "photo"
    for path in (picture, note, bare):
        path.write_text("some")
    assert asked(towers, str(picture)) == ("image", picture)
    assert asked(towers, str(note)) == ("text", note)
    assert asked(towers, str(bare)) == ("image", bare)  # no ending tells, and texts are typed
    assert asked(towers, "a red plane") == ("text", "a red plane")
    assert asked(towers, "the plane in photo.jpg") == ("text", "the plane in photo.jpg")
    assert asked(towers, "x" * 5000)[0] == "text"
    assert asked(towers, shape("red", 0))[0] == "image"
    with pytest.raises(WrongCall, match=r"query 'nosuch\.jpg' is neither a file nor an id"):
        asked(towers, "nosuch.jpg")
    with pytest.raises(WrongCall, match="neither a file nor an id"):
        asked({"image": PICTURES}, "a red plane")
    pair = {"en": TEXTS, "de": TEXTS}
    assert [asked(pair, "eins", gallery)[0] for gallery in (None, "en", "de")] == ["en", "de", "en"]
    assert (opposite(["a", "b"], "a"), opposite(["a"], "a"), opposite(["a", "b", "c"], "b")) == ("b", "a", "b")


# Search ---------------------------------------------------------------------------------------------------------------


def test_a_text_finds_images_and_an_image_texts(run: Path, pairs: Path, shell: Shell) -> None:
    every, picture = load_all(run), pairs.parent / "pics" / "red01.png"
    found = shell("search", run, "a red plane", picture, "-k", "3", "--json").json["results"]
    assert [(one["by"], one["role"]) for one in found] == [("text", "image"), ("image", "text")]
    images, texts = (Space.load(run / "space.parquet", role=role) for role in ("image", "text"))
    wanted = images.search(every["text"].embed_one("a red plane"), 3)
    assert [hit["id"] for hit in found[0]["hits"]] == [hit.id for hit in wanted]
    assert "text" not in found[0]["hits"][0]
    wanted = texts.search(every["image"].embed_one(picture), 3)
    assert [hit["id"] for hit in found[1]["hits"]] == [hit.id for hit in wanted]
    assert found[1]["hits"][0]["text"] == texts.table["text"][wanted[0].row].as_py()
    same = shell("search", run, picture, "--role", "image", "-k", "1", "--json").json["results"][0]
    assert (same["hits"][0]["id"], same["hits"][0]["score"]) == ("red-1", pytest.approx(1, abs=1e-4))
    by_id = shell("search", run, "red-1", "-k", "1", "--json").json["results"][0]
    assert (by_id["role"], by_id["hits"][0]["id"] != "red-1") == ("image", True)


def test_people_see_what_a_text_says_in_one_line(run: Path, pairs: Path, shell: Shell) -> None:
    done = shell("search", run, pairs.parent / "pics" / "red01.png", "-k", "2", "--sheet", "sheet.png")
    assert done.code == 0, done.err
    assert "a red square" in done.out or "a blue square" in done.out
    assert "image > text" in done.out
    with Pillow.open(shell.cwd / "sheet.png") as sheet:
        assert min(sheet.size) > 64
    assert "did you mean" in shell("search", run, "red-01.png").failed(2)


def test_any_source_is_searched_by_any_role_that_has_it(run: Path, pairs: Path, shell: Shell) -> None:
    inside = shell("search", run, "a red plane", "--in", pairs.parent / "pics", "-k", "1", "--json").json
    assert (inside["results"][0]["role"], inside["items"]) == ("image", 2 * EACH)
    line = shell("search", run, "a red plane", "--in", pairs.parent / "pics", "--role", "text").failed(2)
    assert "no text to be searched, but image" in line
    shell("embed", run, pairs, "--role", "text", "--out", "texts.parquet")
    stored = shell("search", run, "a red square", "--in", "texts.parquet", "-k", "1", "--json").json["results"][0]
    assert (stored["role"], stored["hits"][0]["text"][:12]) == ("text", "a red square")


def test_in_python_a_space_takes_queries_of_any_role(run: Path, pairs: Path) -> None:
    images = load(run, role="image").embed(pairs.parent / "pics")
    hit = images.search("a red plane", k=1)[0]
    assert hit.score == pytest.approx(
        float(images.unit[hit.row] @ unit(load(run, role="text").embed_one("a red plane")))
    )
    assert images.search(pairs.parent / "pics" / "red01.png", k=1)[0].id == "red01.png"


def unit(vector: np.ndarray) -> np.ndarray:
    length: np.ndarray = vector / np.linalg.norm(vector)
    return length


# One role of texts ----------------------------------------------------------------------------------------------------

NOTES = [f"note {n} about {what}" for n in range(12) for what in ("cards", "planes.jpg")]


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on texts alone."""
    kept, modality = bag(*NOTES)
    folder = tmp_path_factory.mktemp("notes")
    write_encoder(folder, {"text": kept}, {"text": modality})
    load(folder).embed(NOTES).save(folder / "space.parquet")
    return folder


def test_a_query_of_nothing_is_named(notes: Path, shell: Shell) -> None:
    assert "'' cannot be read: empty" in shell("search", notes, "").failed(1)


def test_texts_are_embedded_and_searched_as_they_are(notes: Path, shell: Shell) -> None:
    encoder = load(notes)
    space = encoder.embed(NOTES)
    assert space.table["text"].to_pylist() == NOTES
    np.testing.assert_allclose(encoder.embed_one(NOTES[1]), space.vectors[1], atol=1e-6)
    assert len(encoder.preprocess(NOTES[:3])) == 3
    assert len(encoder.preprocess(NOTES[0])) == 1
    assert space.search(NOTES[5], k=1)[0].row == 5
    found = shell("search", notes, NOTES[7], "-k", "1", "--json").json["results"][0]
    assert (found["hits"][0]["id"], found["hits"][0]["text"]) == ("7", NOTES[7])
    with pytest.raises(Failed, match="cannot be read: empty"):
        encoder.embed_one("  ")


def test_a_file_that_is_missing_is_no_text(notes: Path, shell: Shell) -> None:
    line = shell("search", notes, "nofile.txt").failed(2)
    assert "query 'nofile.txt' is neither a file nor an id of the space" in line
    assert "for the text itself put a blank after it, as in 'nofile.txt '" in line
    with pytest.raises(WrongCall, match="neither a file"):
        asked({"text": TEXTS}, "songs/gone.wav")
    assert asked({"text": TEXTS}, "planes.jpg ") == ("text", "planes.jpg ")
    (shell.cwd / "there.txt").write_text(NOTES[5])
    assert asked({"text": TEXTS}, str(shell.cwd / "there.txt")) == ("text", shell.cwd / "there.txt")


def test_scikit_learn_takes_texts(tmp_path: Path) -> None:
    encoder = ContrastiveEncoder(steps=2, batch=12, device="cpu", encoder=NgramBag(dim=8, tokens=Hashed(buckets=256)))
    features = encoder.fit(NOTES).transform(NOTES[:5])
    assert features.shape == (5, 8)
    np.testing.assert_allclose(encoder.transform(np.array(NOTES[:5])), features, atol=1e-6)
    with pytest.raises(Failed, match=r"1 of 3 items cannot be read \(1: empty"):
        encoder.transform([NOTES[0], " ", NOTES[1]])


# Exported -------------------------------------------------------------------------------------------------------------


def test_every_role_is_exported_and_one_alone(run: Path, pairs: Path, tmp_path: Path) -> None:
    done = export(run, "safetensors", tmp_path / "weights")
    again, before = load_all(tmp_path / "weights"), load_all(run)
    assert again["text"].fingerprint == before["text"].fingerprint
    card = done.files[-1].read_text()
    assert "role='image'" in card
    assert "role='text'" in card
    assert json.loads((tmp_path / "weights" / "encoder.json").read_text())["roles"].keys() == {"image", "text"}
    export(run, "safetensors", tmp_path / "one", role="text")
    np.testing.assert_array_equal(load(tmp_path / "one").embed_one("a red"), before["text"].embed_one("a red"))


def test_texts_in_onnx_are_ids_and_offsets(run: Path, tmp_path: Path) -> None:
    done = export(run, "onnx", tmp_path / "onnx")
    assert [file.name for file in done.files] == [
        "encoder-image.onnx",
        "preprocessing-image.json",
        "encoder-text.onnx",
        "preprocessing-text.json",
        "grams.py",
        "README.md",
    ]
    assert done.difference is not None
    assert done.difference < 1e-4
    encoder = load(run, role="text")
    stack = encoder.preprocess(["a red square", "of", "something else entirely"])
    features, lengths = run_onnx(done.files[2], stack)
    with torch.inference_mode():
        ours = encoder(stack).numpy()
    np.testing.assert_allclose(features, ours, atol=1e-5)
    np.testing.assert_allclose(lengths, ours / np.linalg.norm(ours, axis=1, keepdims=True), atol=1e-5)
    about = json.loads(done.files[3].read_text())
    assert about["input"] == {"ids": ["values"], "offsets": ["batch_and_one"]}


class MeanOfTokens(nn.Module):
    """Padded tokens to their mean vector after a layer of attention: what padding holds must not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(600, 8)
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, texts: Padded) -> Tensor:
        hidden = self.mix(self.table(texts.values), src_key_padding_mask=~texts.mask)
        there = texts.mask[..., None].float()
        out: Tensor = (hidden * there).sum(1) / there.sum(1)
        return out


def test_padded_texts_in_onnx_are_ids_and_a_mask(tmp_path: Path) -> None:
    from likeness.modalities.tokens import Trained

    modality = Text(tokens=Trained()).fitted(NOTES * 4)
    net = MeanOfTokens()
    recipe = Own.around(net, modality.example())
    write_encoder(tmp_path, {"text": Kept(recipe, net)}, {"text": modality})
    done = export(tmp_path, "onnx", tmp_path / "onnx", encoder=net)
    encoder = load(tmp_path, encoder=MeanOfTokens())
    stack = encoder.preprocess(["note 3", "note 7 about planes.jpg and more", "x"])
    with torch.inference_mode():
        ours = encoder(stack).numpy()
    np.testing.assert_allclose(run_onnx(done.files[0], stack)[0], ours, atol=1e-5)
    about = json.loads(done.files[1].read_text())
    assert about["input"] == {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}


# While it trains ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class At:
    """A step of training, as far as a look needs one."""

    towers: dict[str, Kept]
    number: int = 1
    steps: int = 1

    def kept(self) -> dict[str, Kept]:
        return self.towers


def towers(*vectors: Tensor) -> dict[str, Kept]:
    """Encoders that give row n of some vectors for the number n."""
    recipe = Residual(channels=3)
    return {role: Kept(recipe, nn.Embedding.from_pretrained(v)) for role, v in zip("ab", vectors, strict=True)}


def test_pairs_are_told_by_their_nearest_of_the_other_role() -> None:
    eye = torch.eye(6)
    samples = {
        "a": Sample(torch.arange(6), np.arange(6)),
        "b": Sample(torch.arange(6)[1:], np.arange(6)[1:]),  # item 0 lacks role b
    }
    probe = Probe(samples, np.full(6, -1), 2, {"a": 0.1, "b": 0.1})  # items 2 to 5 ask
    right = probe.look(At(towers(eye, eye)), None)  # type: ignore[arg-type]
    assert (right.recall_1, right.knn) == (1.0, None)
    swapped = eye[[0, 1, 3, 2, 4, 5]]
    half = probe.look(At(towers(eye, swapped)), None)  # type: ignore[arg-type]
    assert half.recall_1 == 0.5
    alike = eye[[0, 1, 2, 2, 4, 5]]  # items 2 and 3 have the same caption
    assert probe.look(At(towers(eye, alike)), None).recall_1 == 1.0  # type: ignore[arg-type]
    with pytest.raises(Failed, match=r"the space of b has collapsed"):
        probe.look(At(towers(eye, torch.ones(6, 6))), None)  # type: ignore[arg-type]


def test_a_run_of_two_roles_says_how_often_pairs_are_found(run: Path) -> None:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= event["recall_1"] <= 1 for event in events)
    card = (run / "README.md").read_text()
    assert f'likeness.load("{run}", role="image")  # or text' in card
