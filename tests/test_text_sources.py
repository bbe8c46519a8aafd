"""Texts and pairs as sources: files of lines, tables that say more than one thing of an item, texts beside files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image as Pillow
from test_shards import PNG, write_tar

from likeness.copies import Gists, duplicates
from likeness.diagnosis import Diagnosis, Machine
from likeness.errors import Failed, WrongCall
from likeness.findings import lines
from likeness.inspection import Inspector, formats
from likeness.modalities import Image, Text, TextAugmentation, Unreadable
from likeness.sources import read
from likeness.sources.base import Quarantine
from likeness.sources.feed import Feed
from likeness.sources.forms import check
from likeness.sources.population import Population
from likeness.sources.reader import Reader
from likeness.sources.sampling import Distinct, Shuffle

SAYS = ["a dog", "a cat"]


def texts(source, role="text"):
    return [source.raw(role, row) for row in range(len(source))]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class TestLines:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("last", [b"", b"\n"])
    def test_one_text_a_line_by_the_number_of_the_line(self, tmp_path, end, last):
        source = read(written(tmp_path / "n.txt", end.join([b"a dog", b"", b"  \t", b"a\0 cat", b" a dog"]) + last))
        assert dict(source.roles) == {"text": "Text"}
        assert (source.ids, texts(source)) == (["0", "3", "4"], ["a dog", "a\0 cat", " a dog"])
        assert source.notes == ("2 empty lines left out",)
        assert source.only(np.array([1])).ids == ["3"]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    @pytest.mark.parametrize("name", ["n.txt", "n.TXT", "n.txt.gz"])
    def test_encodings_that_a_file_tells_of(self, tmp_path, encoding, name):
        content = "ein Käuzchen\n\N{OWL}\n".encode(encoding)
        source = read(written(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content))
        assert texts(source) == ["ein Käuzchen", "\N{OWL}"]
        assert source.notes == ((f"read as {encoding.upper()}",) if encoding in ("utf-16", "utf-32") else ())

    def test_lines_in_another_encoding_are_left_out_each_with_its_reason(self, tmp_path):
        path = written(tmp_path / "n.txt", b"a\nb\nc\nd\n\xe9t\xe9\ncaf\xe9\n\xc3\xa9\n")
        source = read(path)
        assert texts(source) == ["a", "b", "c", "d", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
        assert source.ids == ["0", "1", "2", "3", "6"]
        assert source.unlisted == {
            "4": "line 5 is no UTF-8: byte 0xe9 at place 1",
            "5": "line 6 is no UTF-8: byte 0xe9 at place 4",
        }
        remedy = f"if it is Latin-1: iconv -f LATIN1 -t UTF-8 {path} > {tmp_path}/n.utf8.txt"
        assert source.notes == (f"2 lines left out: line 5 is no UTF-8: byte 0xe9 at place 1; {remedy}",)

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("a.txt", "é\nà\nb".encode("latin-1"), r"line 1 is no UTF-8: byte 0xe9 at place 1; .*iconv -f LATIN1"),
            ("a.txt", "b\n“é”".encode("cp1252") * 2, r"line 2 .* byte 0x93 .*if it is Windows-1252: iconv -f WINDOWS"),
            (
                "a b.txt.gz",
                gzip.compress("é".encode("latin-1"), mtime=0),
                r"gunzip -c '.*/a b\.txt\.gz' \| iconv .* \| gzip >",
            ),
            (
                "a.txt",
                "a dog\na cat".encode("utf-16-le"),
                "every second byte is 0; .* iconv -f UTF-16LE",
            ),
            ("a.txt", "a dog\na cat".encode("utf-16-be"), "if it is UTF-16BE"),
            ("a.txt", b"", "holds no texts; expected one a line"),
            ("a.txt", b"\n \n", r"holds no texts \(2 empty lines left out\)"),
            ("a.txt.gz", gzip.compress(SAYS[0].encode() * 99, mtime=0)[:-9], "cannot be read: .*ended before"),
        ],
    )
    def test_what_is_no_file_of_texts_is_told_with_the_remedy(self, tmp_path, name, content, said):
        with pytest.raises(Failed, match=said):
            read(written(tmp_path / name, content))

    def test_lines_of_any_length(self, tmp_path, monkeypatch):
        monkeypatch.setattr("likeness.sources.lines.PIECE", 100)
        words = [b"x" * 99, b"", b"y" * (1 << 20), b"z", b"\xc3\xa9" * 75, b"short"]
        source = read(written(tmp_path / "n.txt", b"\n".join(words)))
        assert [text.encode() for text in texts(source)] == [word for word in words if word]

    def test_a_file_that_memory_cannot_hold_is_read_line_by_line(self, tmp_path, monkeypatch):
        path = written(tmp_path / "n.txt", b"\xef\xbb\xbf" + "\n".join(f"é {n}" for n in range(999)).encode())
        packed = written(tmp_path / "n.txt.gz", gzip.compress(path.read_bytes()))
        monkeypatch.setattr("likeness.headroom.memory_size", lambda: 4000.0)
        source = read(path)
        assert texts(source) == [f"é {n}" for n in range(999)]
        with pytest.raises(Failed, match=r"takes more than 1e-06 GB, .*: unpack it: gunzip -k .*/n\.txt\.gz"):
            read(packed)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(Unreadable, match="has changed since"):
            source.raw("text", 998)

    def test_the_ending_need_not_say_whether_it_is_packed(self, tmp_path):
        assert texts(read(written(tmp_path / "n.txt.gz", b"a dog\na cat"))) == SAYS
        assert texts(read(written(tmp_path / "n.txt", gzip.compress(b"a dog\n") + gzip.compress(b"a cat")))) == SAYS

    def test_distant_files(self):
        fsspec.filesystem("memory").pipe("/texts/n.txt.gz", gzip.compress(b"a dog\na cat"))
        assert texts(read("memory://texts/n.txt.gz")) == SAYS

    def test_lines_have_neither_columns_nor_files(self, tmp_path):
        path = written(tmp_path / "n.txt", b"a dog")
        check(str(path))
        with pytest.raises(WrongCall, match="no columns to choose from"):
            read(path, columns={"label": "y"})
        with pytest.raises(WrongCall, match="no files to exclude"):
            read(path, exclude=["*.txt"])


class TestColumns:
    @pytest.mark.parametrize(
        ("columns", "roles"),
        [
            (["text", "label"], ["text"]),
            (["note"], ["text"]),
            (["note", "label", "group"], ["text"]),
            (["en", "de"], ["en", "de"]),
            (["en", "de", "score", "split", "id"], ["en", "de"]),
            (["sentence1", "sentence2", "label", "source"], ["sentence1", "sentence2"]),
            (["premise", "hypothesis", "label"], ["premise", "hypothesis"]),
            (["negative_2", "anchor", "positive", "negative_1"], ["anchor", "positive", "negative"]),
            (["caption1", "caption2", "source"], ["text"]),
            (["captions", "caption"], ["text"]),
        ],
    )
    def test_roles_are_told_by_names(self, columns, roles):
        table = pa.table({name: [f"{name} {n}" for n in range(2)] for name in columns})
        assert list(read(table).roles) == roles

    def test_several_columns_of_one_role_are_its_variants(self):
        table = pa.table({"anchor": SAYS, "positive": SAYS, "negative_1": ["x", None], "negative_2": ["y", "z"]})
        assert texts(read(table), "negative") == [["x", "y"], ["z"]]
        assert texts(read(pa.table({"caption1": SAYS, "caption2": SAYS})))[0] == ["a dog", "a dog"]
        joined = read(pa.table({"name": SAYS, "words": [["x", "y"], []]}), columns={"text": "name+words"})
        assert texts(joined) == [["a dog", "x", "y"], ["a cat"]]

    @pytest.mark.parametrize("beside", [{"label": [0, 1]}, {"year": [1, 2]}, {"more": SAYS}])
    def test_of_several_columns_of_unknown_names_the_user_says_which(self, beside):
        table = pa.table({"title": SAYS, "body": SAYS, **beside})
        with pytest.raises(WrongCall, match=r"several columns of texts \(title, body.*text=title.*text=title\+body"):
            read(table)
        assert texts(read(table, columns={"text": "title+body"}))[0] == ["a dog", "a dog"]
        assert list(read(table, columns={"a": "body", "b": "title"}).roles) == ["a", "b"]

    def test_texts_may_look_like_paths(self):
        table = pa.table({"text": ["see a.png", "b.png is it"], "label": [0, 1]})
        assert dict(read(table).roles) == {"text": "Text"}
        assert dict(read(pa.table({"note": ["see a.png", "or not", "at all"]})).roles) == {"text": "Text"}

    def test_images_and_their_captions(self, tmp_path):
        written(tmp_path / "a.png", PNG)
        for name, content in {
            "t.csv": "image,caption\na.png,a dog\nb.png,\n",
            "t.jsonl": '{"image": "a.png", "caption": "a dog"}\n{"image": "b.png", "caption": null}\n',
            "u.csv": "file_name,text\na.png,a dog\na.png,\n",
        }.items():
            source = read(written(tmp_path / name, content.encode()))
            assert dict(source.roles) == {"image": "Image", "text": "Text"}
            assert (source.raw("image", 0), texts(source)) == (tmp_path / "a.png", ["a dog", None])

    def test_several_lists_of_texts_beside_images_are_left_to_the_user(self):
        table = pa.table({"image": [PNG, PNG], "words": [["a"], ["b"]], "tags": [["c"], ["d"]]})
        source = read(table)
        assert dict(source.roles) == {"image": "Image"}
        assert source.notes == ("columns words, tags not read; columns=text=words+tags does",)
        assert texts(read(table, columns={"text": "words"})) == [["a"], ["b"]]
        assert read(table, columns={"text": "words"}).table.column_names == ["tags"]

    def test_images_that_are_missing_cost_their_items_alone(self, tmp_path):
        Pillow.new("RGB", (8, 8)).save(tmp_path / "a.png")
        rows = "".join(f"{'a' if n % 3 else 'gone'}.png,a dog {n}\n" for n in range(9))
        source = read(written(tmp_path / "t.csv", b"image,caption\n" + rows.encode()))
        quarantine = Quarantine()
        reader = Reader(source, {"image": Image(channels=3), "text": Text()}, 0, quarantine)
        assert reader.read("image", range(9))[0] == [1, 2, 4, 5, 7, 8]
        assert reader.read("text", range(9))[0] == list(range(9))
        assert list(quarantine.reasons) == ["0", "3", "6"]
        assert "no such file" in quarantine.reasons["0"]

    def test_most_images_missing_is_an_error_though_texts_are_there(self, tmp_path):
        table = pa.table({"image": ["a.png", "b.png"], "caption": SAYS})
        reader = Reader(read(table), {"image": Image(channels=3), "text": Text()}, 0, Quarantine())
        with pytest.raises(Failed, match=r"more than half of 2 items have images that cannot be read \('1'"):
            reader.read("image", range(2))

    @pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
    def test_tables_in_other_encodings(self, tmp_path, name):
        sign = "\t" if name == "t.tsv" else ","
        content = f"en{sign}de\nowl{sign}Käuzchen\n" if name != "t.jsonl" else '{"en": "owl",\t"de": "Käuzchen"}\n'
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            source = read(written(tmp_path / name, content.encode(encoding)))
            assert (texts(source, "en"), texts(source, "de")) == (["owl"], ["Käuzchen"])
        line = 1 if name == "t.jsonl" else 2
        with pytest.raises(Failed, match=rf"{name}: line {line} is no UTF-8: byte 0xe4 at .*iconv -f LATIN1"):
            read(written(tmp_path / name, content.encode("latin-1")))

    def test_frames(self):
        columns = {"text": SAYS, "label": [0, 1]}
        for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pd.DataFrame(columns).astype({"text": "category"})):
            source = read(frame)
            assert (texts(source), source.table.column_names) == (SAYS, ["label"])


class TestLists:
    def test_strings_are_texts_unless_they_are_paths(self, tmp_path):
        assert texts(read(SAYS * 2)) == SAYS * 2
        assert texts(read(np.array(SAYS))) == SAYS
        assert texts(read(["see a.png", "a dog", None])) == ["see a.png", "a dog", None]
        assert dict(read(["a.png", "b.png"]).roles) == {"image": "Image"}
        assert texts(read([written(tmp_path / "a.txt", b"a dog")])) == [tmp_path / "a.txt"]

    def test_lists_in_a_list_are_captions_and_tuples_are_roles(self):
        assert texts(read([["a", "b"], ["c"]])) == [["a", "b"], ["c"]]
        pairs = read([("a", "b"), None, ("c", "d")])
        assert (texts(pairs, "sentence1"), texts(pairs, "sentence2")) == (["a", None, "c"], ["b", None, "d"])
        assert read([("a", "b", 0.5), ("c", "d", 2)]).scores.tolist() == [0, 1]
        assert list(read([("a", "b", "c")]).roles) == ["anchor", "positive", "negative"]
        assert dict(read([("a.png", "a dog")]).roles) == {"image": "Image", "text": "Text"}
        with pytest.raises(WrongCall, match="tuples of 1 and 2 values"):
            read([("a", "b"), ("c",)])

    def test_mappings(self):
        assert read({"text": SAYS, "y": [1, 0], "source": ["web", "web"]}).table.column_names == ["label", "source"]
        images = np.zeros((2, 8, 8), np.uint8)
        source = read({"x": images, "caption": SAYS, "name": SAYS})
        assert dict(source.roles) == {"image": "Image", "text": "Text"}
        assert source.table.column_names == ["name"]


class TestFiles:
    def test_a_folder_of_texts_has_one_a_file(self, tmp_path):
        for name in ("good/1.txt", "good/2.txt", "bad/3.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            written(tmp_path / name, b"a\nb\n")
        source = read(tmp_path)
        assert (dict(source.roles), source.labels.names) == ({"text": "Text"}, ["bad", "good"])
        assert Text().read(source.raw("text", 0)) == ("a b",)

    @pytest.mark.parametrize(
        ("said", "many", "roles"),
        [(b"a dog", 10, ["image", "text"]), (b"a dog", 9, ["image", "text"]), (b"a dog", 5, ["image"]),
         (b"0 .5 1e-05", 10, ["image"])],
    )  # fmt: skip
    def test_texts_beside_images_are_captions_if_nearly_all_have_one_and_they_hold_words(
        self, tmp_path, said, many, roles
    ):
        for n in range(10):
            written(tmp_path / f"{n}.png", PNG)
        for n in range(many):
            written(tmp_path / f"{n}.txt", said)
        written(tmp_path / "classes.txt", b"dog\ncat\n")
        source = read(tmp_path)
        assert list(source.roles) == roles
        if "text" in roles:
            assert texts(source) == [tmp_path / f"{n}.txt" if n < many else None for n in range(10)]
            assert source.notes[0] == f"{many} texts of the same names beside them are read with them"
        assert f"{many * ('text' not in roles) + 1} file" in source.notes[-1]

    def test_captions_in_tars(self, tmp_path):
        facts = json.dumps({"caption": "a dog", "url": "https://there/a.png"}).encode()
        members = {f"{n}.{end}": what for n in range(3) for end, what in (("jpg", PNG), ("json", facts))}
        captioned = write_tar(tmp_path / "a.tar", members)
        assert texts(read(captioned)) == ["a dog"] * 3
        members |= {"0.txt": b"\xef\xbb\xbfa dog\n", "1.txt": b"caf\xe9", "2.txt": b"x" * (1 << 21)}
        source = read(write_tar(tmp_path / "b.tar", members))
        assert (dict(source.roles), texts(source)) == ({"image": "Image", "text": "Text"}, ["a dog", None, None])
        assert "1 member left out: no UTF-8: iconv -f LATIN1 -t UTF-8 converts Latin-1" in source.notes
        assert "1 member left out: texts of more than 1,048,576 bytes" in source.notes
        assert texts(read(write_tar(tmp_path / "c.tar", {"0.txt": b"a", "1.left.txt": b"b"}))) == ["a", None]


class TestScores:
    def test_they_are_scaled_by_their_range_over_the_whole_source(self):
        source = read(pa.table({"a": ["x"] * 4, "b": ["y"] * 4, "score": [1.0, None, 5.0, 2.0]}))
        assert np.array_equal(source.scores, [0, np.nan, 1, 0.25], equal_nan=True)
        assert source.only(np.array([3, 0])).scores.tolist() == [0.25, 0]
        assert read(SAYS).scores is None

    @pytest.mark.parametrize(
        ("scores", "said"), [([3, 3], "is 3 everywhere"), (["x", "y"], "holds string"), ([None, None], "holds null")]
    )
    def test_scores_that_tell_nothing_are_noted_and_refused_when_asked_for(self, scores, said):
        source = read(pa.table({"a": SAYS, "b": SAYS, "score": scores}))
        assert said in source.notes[0]
        with pytest.raises(WrongCall, match=f"column 'score' {said}"):
            _ = source.scores

    @pytest.mark.parametrize(("scores", "known"), [([1, 3, 2, 1], [0, 1, 0.5, 0]), ([3] * 4, None)])
    def test_training_is_told_them(self, scores, known):
        source = read(pa.table({"a": ["x y"] * 4, "b": ["z"] * 4, "score": scores}))
        modality = Text().fitted(SAYS)
        feed = Feed(
            source, {"a": modality}, {"a": TextAugmentation().suited(modality)}, Shuffle(), batch=4, seed=0, workers=0
        )
        told = feed.draw(feed.prepare(0, None), torch.device("cpu"))["a"].origin
        assert ("score" in told.known) == (known is not None)
        if known is not None:
            assert told.known["score"].tolist() == [known[item] for item in told.item.tolist()]
        feed.close()


class TestDuplicates:
    def test_no_batch_shows_a_caption_twice(self):
        captions = [[f"a dog {n % 7}", f"a  cat {n % 5}"] if n % 2 else [f"a dog {n % 7}"] for n in range(14)]
        captions += [[f"an owl {n}"] for n in range(10)] + [["an owl  3 "]]
        population = Population.of(read(pa.table({"caption": captions})))
        content = population.content(None)
        assert content[14 + 3] == content[-1]  # blanks tell nothing
        assert content[1] == content[11] == content[8]  # a cat, and a dog
        sampling = Distinct()
        for step in range(sampling.steps(4, population)):
            _, rows = sampling.chosen(step, 4, 0, population)
            assert len(set(content[rows.numpy()])) == 4

    def test_nothing_but_duplicates_are_texts_like_others(self, tmp_path):
        source = read(written(tmp_path / "n.txt", b"a dog\n" * 5))
        assert texts(source) == ["a dog"] * 5
        assert len(set(Population.of(source).content(None))) == 1


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["a dog runs", "a dog", "so"]}, "3 texts · 2 words typical (1 to 3) · text"),
        (
            {"en": ["a dog", "a cat", "so"], "de": ["ein Hund", "eine Katze", "so"]},
            "3 items with en and de · en: 2 words typical (1 to 2) · text · de: 2 words typical (1 to 2) · text",
        ),
        ({"text": [["a dog", "it runs"], ["a cat"], ["a", "so"]]}, "several texts 67 %, text 33 %"),
    ],
)
def test_the_doctor_speaks_of_texts_and_of_pairs(columns, said):
    source = read(pa.table(columns))
    looked = {role: Inspector(source, role, Text()).inspect(9.0, 1)[0] for role in source.roles}
    forms, asked = formats(source)
    found = Diagnosis(
        "t", "text", len(source), forms, asked, 0, {}, looked, duplicates([source], [{}], [Gists.none()], 9.0), None,
        None, None, None, None, [], [], Machine(1, "cpu", None, None), None, "none", []
    )  # fmt: skip
    contents = dict(lines(found))["t"]
    assert contents == said or said in contents
    assert dict(lines(found))["duplicates"] == "no exact copies"
