"""Where items come from: folders however odd, tables, arrays; what is wrong is said in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as Pillow

from likeness.errors import Failed, WrongCall
from likeness.sources import read
from likeness.sources.arrays import channel_axis
from likeness.sources.base import Quarantine
from likeness.sources.forms import check, columns_of
from likeness.sources.labelled import labels_of
from likeness.sources.patterns import Excluded, matcher

PNG = b"\x89PNG\r\n\x1a\n"  # how a PNG begins, which is all that is looked at here


def files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    return root


def labels(source):
    return [source.labels.names[code] for code in source.labels.codes]


class TestFolder:
    def test_every_file_at_any_depth_is_listed_in_the_order_of_paths(self, tmp_path):
        source = read(files(tmp_path, "b.png", "a/x.png", "a/deep/er/y.JPG", "a.png"))
        assert source.ids == ["a.png", "a/deep/er/y.JPG", "a/x.png", "b.png"]
        assert [source.raw("image", row) for row in range(4)] == [tmp_path / id for id in source.ids]

    def test_folders_are_no_labels_when_a_file_lies_beside_them(self, tmp_path):
        assert read(files(tmp_path, "root.png", "cat/a.png", "dog/b.png")).labels is None

    def test_the_first_level_is_the_label(self, tmp_path):
        source = read(files(tmp_path, "dog/a.png", "cat/x/b.png", "cat/c.png"))
        assert source.labels.names == ["cat", "dog"]
        assert labels(source) == ["cat", "cat", "dog"]

    def test_one_folder_tells_no_classes(self, tmp_path):
        source = read(files(tmp_path, "images/a.png", "images/b.png"))
        assert source.labels is None
        assert "tell no classes" in source.notes[0]

    def test_train_and_test_are_splits_and_the_next_level_is_the_label(self, tmp_path):
        source = read(files(tmp_path, "train/cat/a.png", "train/dog/b.png", "val/cat/c.png"))
        assert source.table["split"].to_pylist() == ["train", "train", "val"]
        assert labels(source) == ["cat", "dog", "cat"]

    def test_splits_are_known_in_any_case(self, tmp_path):
        source = read(files(tmp_path, "Train/cat/a.png", "Train/dog/b.png", "TEST/cat/c.png"))
        assert source.table["split"].to_pylist() == ["test", "train", "train"]
        assert labels(source) == ["cat", "cat", "dog"]

    def test_splits_without_a_next_level_have_no_labels(self, tmp_path):
        source = read(files(tmp_path, "train/cat/a.png", "train/b.png", "test/cat/c.png"))
        assert source.table.column_names == ["split"]

    def test_files_of_other_kinds_are_counted(self, tmp_path):
        files(tmp_path, "a.png", "b.png", "notes.txt", "b.xml", ".DS_Store", "._a.png", "Thumbs.db", ".git/x.png")
        source = read(tmp_path)
        assert source.ids == ["a.png", "b.png"]
        assert source.notes == (
            "4 hidden or system files left out",
            "2 files of other kinds are left out (.xml 1, .txt 1)",
        )

    def test_odd_names_survive_as_unique_text(self, tmp_path):
        odd = [b"with space.png", "\N{OWL}.png".encode(), b"new\nline.png", b"\xff.png", b"\\xff.png", b"\xfe.png"]
        for name in odd:
            with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
                pass
        source = read(tmp_path)
        assert len(set(source.ids)) == len(odd)
        assert {"with space.png", "\N{OWL}.png", "new\nline.png", "\\xfe.png"} <= set(source.ids)
        assert all(id.encode() for id in source.ids)
        assert all(source.raw("image", row).exists() for row in range(len(odd)))

    def test_links_are_followed_once_and_dead_ends_are_named(self, tmp_path):
        root, elsewhere = files(tmp_path / "root", "real/a.png"), files(tmp_path / "elsewhere", "b.png")
        (root / "more").symlink_to(elsewhere)
        (root / "twin").symlink_to(root / "real")
        (root / "one.png").symlink_to(elsewhere / "b.png")
        (root / "gone.png").symlink_to("nowhere.png")
        (root / "real" / "loop").symlink_to(root)
        (root / "self.png").symlink_to("self.png")
        (root / "up").symlink_to(tmp_path)
        source = read(root)
        assert source.ids == ["more/b.png", "one.png", "real/a.png"]
        assert source.unlisted == {
            "gone.png": "dangling link: 'nowhere.png' does not exist",
            "real/loop": "symbolic link loop: leads back to '.'",
            "self.png": "symbolic link loop",
            "up": "symbolic link loop: leads back to '..'",
            "twin": "link to a folder that is listed already: 'real'",
        }

    def test_a_pipe_is_named_and_not_waited_for(self, tmp_path):
        os.mkfifo(files(tmp_path, "a.png") / "pipe.png")
        assert read(tmp_path).unlisted == {"pipe.png": "neither a file nor a folder"}

    def test_exclude(self, tmp_path):
        files(tmp_path, "a.png", "thumbs/a.png", "x/thumbs/b.png", "x/raw/c.png", "raw/d.png", "e_small.png")
        source = read(tmp_path, exclude=["thumbs", "*_small.png", "x/raw"])
        assert source.ids == ["a.png", "raw/d.png"]
        assert source.notes == ("4 files are excluded",)

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_an_empty_folder_is_one_clear_line(self, tmp_path, slash):
        with pytest.raises(Failed, match="holds no files; expected image"):
            read(f"{tmp_path}{slash}")

    def test_a_folder_of_other_things_says_what_they_are(self, tmp_path):
        with pytest.raises(Failed, match=r"nothing that can be read: 2 files \(\.xml 2\); expected image, .* files"):
            read(files(tmp_path, "a.xml", "b.xml"))

    def test_a_folder_of_tables_says_to_name_one(self, tmp_path):
        with pytest.raises(Failed, match=r"name one of its tables or arrays, such as .*labels\.csv"):
            read(files(tmp_path, "labels.csv"))

    def test_one_image_is_a_source(self, tmp_path):
        source = read(files(tmp_path, "cat.png") / "cat.png")
        assert (source.ids, source.raw("image", 0)) == (["cat.png"], tmp_path / "cat.png")

    def test_rows_chosen_keep_names_and_classes(self, tmp_path):
        source = read(files(tmp_path, "dog/a.png", "cat/b.png", "cat/c.png")).only(np.array([2, 0]))
        assert source.ids == ["dog/a.png", "cat/b.png"]
        assert labels(source) == ["dog", "cat"]
        assert source.raw("image", 0) == tmp_path / "dog/a.png"

    def test_quarantine_takes_any_name_and_names_each_item_once(self, tmp_path):
        quarantine = Quarantine({"gone.png": "dangling link"})
        quarantine.add("a\n.png", "cannot open '\udcff.png':\n truncated")
        quarantine.add("a\n.png", "another reason")
        quarantine.write(tmp_path / "quarantine.jsonl")
        lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
        assert lines == [
            {"id": "a\n.png", "reason": "cannot open '\\udcff.png': truncated"},
            {"id": "gone.png", "reason": "dangling link"},
        ]


class TestGlobsAndLists:
    def test_two_stars_are_any_depth(self, tmp_path):
        files(tmp_path, "a.png", "x/b.png", "x/y/c.png", "x/d.jpg")
        assert read(f"{tmp_path}/**/*.png").ids == ["a.png", "x/b.png", "x/y/c.png"]
        assert read(f"{tmp_path}/*/*.[jp][pn]g").ids == ["x/b.png", "x/d.jpg"]

    def test_ids_are_relative_to_where_the_wildcards_begin(self, tmp_path, monkeypatch):
        files(tmp_path, "photos/cat/1.png", "photos/dog/2.png", "other/3.png")
        monkeypatch.chdir(tmp_path)
        source = read("photos/*/*.png")
        assert source.ids == ["cat/1.png", "dog/2.png"]
        assert labels(source) == ["cat", "dog"]
        assert read("*/*/*.png").ids == ["photos/cat/1.png", "photos/dog/2.png"]

    def test_a_folder_whose_name_looks_like_a_pattern_is_itself(self, tmp_path):
        assert read(files(tmp_path / "photos [2019]", "a.png")).ids == ["a.png"]

    def test_nothing_matches(self, tmp_path):
        with pytest.raises(Failed, match="matches no file"):
            read(f"{files(tmp_path, 'a.png')}/*.jpg")

    @pytest.mark.parametrize(
        ("pattern", "path", "matches"),
        [
            ("*.png", "a.png", True),
            ("*.png", "x/a.png", False),
            ("?.png", "\N{OWL}.png", True),
            ("?.png", "/.png", False),
            ("**/a.png", "a.png", True),
            ("x/**", "x/y/z", True),
            ("x**/z", "xy/z", True),
            ("[!a-c].png", "d.png", True),
            ("[!a-c].png", "b.png", False),
            ("a+(1).png", "a+(1).png", True),
            ("[.png", "[.png", True),
            ("a.png", "aXpng", False),
        ],
    )
    def test_patterns(self, pattern, path, matches):
        assert matcher(pattern)(path) is matches

    def test_a_pattern_that_makes_no_sense(self):
        with pytest.raises(WrongCall, match=r"'\[z-a\]' is no pattern: bad character range z-a"):
            matcher("[z-a]")

    def test_an_exclusion_with_a_slash_counts_from_the_root(self):
        left_out = Excluded(["raw/*"])
        assert [left_out(path) for path in ("raw/a", "raw/b/c", "x/raw/a")] == [True, True, False]
        left_out = Excluded(["/raw", "thumbs/"])
        assert [left_out(path) for path in ("raw/a", "x/raw/a", "x/thumbs/a", "thumbs")] == [True, False, True, True]

    def test_a_list_is_relative_to_its_file(self, tmp_path):
        files(tmp_path, "sets/list.txt", "photos/a.png", "photos/#b.png")
        (tmp_path / "sets/list.txt").write_text("# a comment\n../photos/a.png\r\n\n./../photos/#b.png\n")
        source = read(f"@{tmp_path}/sets/list.txt")
        assert source.ids == ["../photos/a.png", "../photos/#b.png"]
        assert all(source.raw("image", row).exists() for row in range(2))

    def test_a_list_is_cut_at_ends_of_lines_and_nowhere_else(self, tmp_path):
        names = ["a\u2028b.png", "c\x85d.png", "e\x0bf.png", "g\x0ch.png"]
        (tmp_path / "list.txt").write_text("\r\n".join(names), encoding="utf-8", newline="")
        assert read(f"@{tmp_path}/list.txt").ids == names

    def test_lists_are_excluded_from_too(self, tmp_path):
        names = ["photos/a.png", "photos/thumbs/a.png", "photos/b_small.png", "raw/c.png"]
        files(tmp_path, *names)
        (tmp_path / "list.txt").write_text("\n".join(names))
        patterns = ["thumbs", "*_small.png", "raw/*"]
        source = read(f"@{tmp_path}/list.txt", exclude=patterns)
        assert (source.ids, source.notes[0]) == (["photos/a.png"], "3 files are excluded")
        assert read(names, exclude=patterns).ids == ["photos/a.png"]
        paths = [tmp_path / name for name in names]
        assert read(paths, exclude=[f"{tmp_path}/photos"]).ids == [str(paths[3])]
        with pytest.raises(Failed, match="no file is left"):
            read(paths, exclude=["*.png"])

    def test_a_path_listed_twice_is_refused(self):
        with pytest.raises(WrongCall, match=r"names 'a\.png' twice"):
            read(["a.png", "b.png", ".//a.png"])

    @pytest.mark.parametrize("above", ["/data", "..", "../../data"])
    def test_levels_of_paths_from_elsewhere_begin_below_what_all_lie_in(self, above):
        source = read([f"{above}/cat/a.png", f"{above}/cow/b.png"])
        assert (labels(source), source.ids[0]) == (["cat", "cow"], f"{above}/cat/a.png")
        split = read([f"{above}/train/cat/a.png", f"{above}/test/dog/b.png"])
        assert (split.table["split"].to_pylist(), labels(split)) == (["train", "test"], ["cat", "dog"])
        for flat in ([f"{above}/cat/a.png"], [f"{above}/cat/a.png", "b/c.png"]):
            assert (read(flat).labels, read(flat).notes) == (None, ())

    def test_what_is_no_path_among_paths_is_named(self):
        with pytest.raises(WrongCall, match="list holds paths, but value 1 is NoneType; leave it out"):
            read(["a.png", None])

    def test_a_list_in_python(self, tmp_path):
        paths = [tmp_path / "b.png", str(tmp_path / "a.png")]
        assert read(paths).ids == [str(path) for path in paths]
        assert read(paths).raw("image", 0) == paths[0]


class TestWrongCalls:
    def test_a_missing_path_suggests_its_neighbour(self, tmp_path, monkeypatch):
        monkeypatch.chdir(files(tmp_path, "nosuchdir/cats/a.png"))
        with pytest.raises(WrongCall, match=r"^nosuch/ does not exist; did you mean 'nosuchdir'\?$"):
            read("nosuch/")
        with pytest.raises(
            WrongCall, match=r"^nosuchdri/cats does not exist \(nosuchdri is missing\); .*'nosuchdir'\?$"
        ):
            read("nosuchdri/cats")

    @pytest.mark.parametrize("source", ["texts.h5", "s.zip", "weights.pkl"])
    def test_forms_that_are_not_read_are_named(self, tmp_path, source):
        files(tmp_path, source)
        with pytest.raises(WrongCall, match=r"likeness reads directories.*is not among them"):
            check(str(tmp_path / source))

    def test_hugging_face_names_are_refused_without_a_network(self):
        with pytest.raises(WrongCall, match="hf: is not among them"):
            check("hf:mnist")

    def test_rows_are_no_files_to_exclude(self, tmp_path):
        (tmp_path / "t.csv").write_text("image\na.png\n")
        np.savez(tmp_path / "x.npz", x=np.zeros((2, 8, 8)))
        array, table = np.zeros((2, 8, 8)), pa.table({"image": ["a.png"]})
        whole = [array, list(array), torch.zeros(2, 8, 8), {"x": array}, table, table.to_pandas(), pl.from_arrow(table)]
        for source in [tmp_path / "t.csv", tmp_path / "x.npz", *whole]:
            with pytest.raises(WrongCall, match=r"no files to exclude \(\*\.png, b\); exclude is for"):
                read(source, exclude=["*.png", "b"])

    def test_what_is_no_source_at_all(self):
        with pytest.raises(WrongCall, match="not int"):
            read(3)

    def test_the_check_needs_neither_torch_nor_arrow(self):
        code = "import sys; from likeness.sources.forms import check; check('.'); "
        code += "print({'torch', 'pyarrow'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"

    def test_columns_as_typed(self):
        assert columns_of("text=a+b, label=y") == {"text": ["a", "b"], "label": ["y"]}

    @pytest.mark.parametrize("text", ["text", "text=", "=a", "a=b,a=c", ""])
    def test_columns_mistyped(self, text):
        with pytest.raises(WrongCall, match=r"^columns: "):
            columns_of(text)


def hugging_face(rows=3, **columns):
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    img = pa.array([{"bytes": PNG + bytes([n]), "path": None} for n in range(rows)], cell)
    return pa.table({"img": img, **columns})


class TestTables:
    def test_parquet_with_encoded_images_known_by_type(self, tmp_path):
        features = '{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["zebra", "ant"]}}}}'
        table = hugging_face(label=[0, 1, 0]).replace_schema_metadata({"huggingface": features})
        pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
        source = read(tmp_path / "train.parquet")
        assert (dict(source.roles), source.ids) == ({"image": "Image"}, ["0", "1", "2"])
        assert [source.raw("image", row) for row in (2, 0)] == [PNG + b"\2", PNG + b"\0"]
        assert source.labels.names == ["zebra", "ant"]
        assert source.table.column_names == ["label"]

    def test_class_names_follow_a_renamed_column(self):
        features = '{"info": {"features": {"fine": {"_type": "ClassLabel", "names": ["zebra", "ant"]}}}}'
        table = hugging_face(fine=[0, 1, 0]).replace_schema_metadata({"huggingface": features})
        source = read(table, columns={"label": "fine"})
        assert labels(source) == ["zebra", "ant", "zebra"]
        assert source.table.column_names == ["label"]

    def test_columns_may_change_names_and_serve_twice(self):
        table = pa.table({"file": ["a.png", "b.png"], "label": ["x", "y"], "y": [3, 4]})
        source = read(table, columns={"label": "y", "group": "label", "id": "file", "image": "file"})
        assert source.ids == ["a.png", "b.png"]
        assert source.raw("image", 1) == Path("b.png")
        assert source.table.to_pydict() == {"group": ["x", "y"], "label": [3, 4]}
        swapped = read(table, columns={"label": "y", "id": "label"})
        assert (swapped.ids, swapped.table.to_pydict()) == (["x", "y"], {"label": [3, 4]})

    def test_a_table_of_nothing_but_images_keeps_its_rows(self):
        source = read(hugging_face())
        assert len(source.table) == 3
        part = source.only(np.array([2, 1]))
        assert (part.ids, len(part.table)) == (["2", "1"], 2)

    def test_bytes_that_are_missing_are_read_from_the_path(self, tmp_path):
        cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = [{"bytes": None, "path": "a.png"}, {"bytes": PNG, "path": "b.png"}, None, {"bytes": None, "path": None}]
        pq.write_table(pa.table({"photo": pa.array(rows, cell)}), tmp_path / "t.parquet")
        source = read(tmp_path / "t.parquet")
        assert [source.raw("image", row) for row in range(4)] == [tmp_path / "a.png", PNG, None, None]

    def test_two_image_columns_are_two_roles(self):
        table = hugging_face().append_column("other", hugging_face()["img"])
        assert dict(read(table).roles) == {"image": "Image", "other": "Image"}

    def test_a_folder_of_parquet_files_is_one_table(self, tmp_path):
        for name, rows in (("train-0-of-2", 2), ("train-1-of-2", 3), ("test", 1)):
            pq.write_table(hugging_face(rows, n=list(range(rows))), tmp_path / f"{name}.parquet")
        (tmp_path / "README.md").write_text("about")
        source = read(tmp_path)
        assert source.table["split"].to_pylist() == ["test"] + ["train"] * 5
        assert [source.raw("image", row)[-1] for row in range(6)] == [0, 0, 1, 0, 1, 2]
        assert source.ids == [str(row) for row in range(6)]
        assert source.notes == ("1 file of another kind is left out (.md 1)",)

    def test_a_parquet_table_with_row_groups_larger_than_the_memory_is_refused(self, tmp_path, monkeypatch):
        pq.write_table(hugging_face(), tmp_path / "t.parquet")
        monkeypatch.setattr("likeness.headroom.memory_size", lambda: 10.0)
        with pytest.raises(Failed, match=r"t\.parquet: a row group is read as one; its largest takes .* GB"):
            read(tmp_path / "t.parquet")

    def test_parquet_files_that_are_not_one_table(self, tmp_path):
        pq.write_table(hugging_face(2, n=[1, 2]), tmp_path / "a.parquet")
        pq.write_table(hugging_face(2, n=["x", "y"]), tmp_path / "b.parquet")
        with pytest.raises(Failed, match=r"cannot be read: .*incompatible types"):
            read(tmp_path)

    @pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
    def test_text_tables(self, tmp_path, ending):
        frame = pd.DataFrame({"image": ["a.png", "x/b.png", None], "label": ["u", "v", "u"], "id": ["007", "8", "9"]})
        path = tmp_path / f"t.{ending}"
        if ending == "jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
        source = read(path)
        assert source.ids == ["007", "8", "9"]
        assert [source.raw("image", row) for row in range(3)] == [tmp_path / "a.png", tmp_path / "x/b.png", None]
        assert labels(source) == ["u", "v", "u"]
        assert source.table.column_names == ["label"]

    @pytest.mark.parametrize("quote", ["", '"'])
    def test_only_an_empty_cell_of_a_csv_is_unknown(self, tmp_path, quote):
        names = ["NA", "nan", "null", "N/A", "None", "", "x"]
        rows = [f"{n}.png,{quote}{name}{quote},{quote}{name}{quote},{name or 'e'}" for n, name in enumerate(names)]
        (tmp_path / "t.csv").write_text("\n".join(["image,label,group,id", *rows]))
        source = read(tmp_path / "t.csv")
        known = [name or None for name in names]
        assert source.table.to_pydict() == {"label": known, "group": known}
        assert source.ids == [name or "e" for name in names]
        assert source.labels.names == sorted(filter(None, names))

    def test_a_lone_column_of_paths_is_found(self):
        table = pa.table({"note": ["x", "y"], "file": ["a.png", "b.png"], "twin": ["c.png", "d.png"]})
        source = read(table)
        assert source.raw("image", 1) == Path("b.png")
        assert source.table.column_names == ["note", "twin"]
        assert read(table, columns={"image": "twin"}).raw("image", 1) == Path("d.png")

    def test_a_cell_may_be_large(self, tmp_path):
        (tmp_path / "t.csv").write_text(f"image,note\na.png,{'x' * 3_000_000}\nb.png,y\n")
        assert [len(note) for note in read(tmp_path / "t.csv").table["note"].to_pylist()] == [3_000_000, 1]

    @pytest.mark.parametrize(
        ("column", "codes", "names"),
        [
            (pa.nulls(3), [-1, -1, -1], []),
            (pa.array(["y", None, "x"]).dictionary_encode(null_encoding="encode"), [1, -1, 0], ["x", "y"]),
            (pa.DictionaryArray.from_arrays([2, 1, 0], ["y", "x", "y"]), [1, 0, 1], ["x", "y"]),
            (pa.array([2, float("nan"), 10.0]).dictionary_encode(), [0, -1, 1], ["2", "10"]),
            (pa.array([b"y", b"x", None]), [1, 0, -1], ["x", "y"]),
        ],
    )
    def test_classes_of_odd_columns(self, column, codes, names):
        found = read(pa.table({"image": [PNG] * 3, "label": column})).labels
        assert (found.codes.tolist(), found.names) == (codes, names)

    def test_labels_and_ids_of_bytes_are_text_or_refused(self):
        assert read(pa.table({"image": [PNG] * 2, "id": [b"a", "ä".encode()]})).ids == ["a", "ä"]
        with pytest.raises(WrongCall, match="column 'label' holds bytes that are no text in UTF-8"):
            _ = read(pa.table({"image": [PNG], "label": [b"\xff"]})).labels
        with pytest.raises(WrongCall, match="column 'id' holds bytes that are no text in UTF-8"):
            read(pa.table({"image": [PNG], "id": [b"\xff"]}))

    def test_a_column_without_any_label_is_no_label_to_train_on(self):
        with pytest.raises(WrongCall, match="column 'label' of table is empty, so no item has a class"):
            labels_of(read(pa.table({"image": [PNG], "label": pa.nulls(1)})), "label")

    def test_a_bad_row_is_named(self, tmp_path):
        (tmp_path / "t.csv").write_text("image,label\na.png,1\nb.png,2,3\n")
        with pytest.raises(Failed, match=r"t\.csv cannot be read: .*Row #3: Expected 2 columns, got 3"):
            read(tmp_path / "t.csv")
        (tmp_path / "t.jsonl").write_text('{"image": "a.png"}\n{"image": \n')
        with pytest.raises(Failed, match=r"t\.jsonl cannot be read: .*row 1"):
            read(tmp_path / "t.jsonl")

    def test_a_broken_parquet_file(self, tmp_path):
        (tmp_path / "t.parquet").write_bytes(b"PAR1 no more")
        with pytest.raises(Failed, match=r"t\.parquet cannot be read: "):
            read(tmp_path / "t.parquet")

    def test_an_id_that_stands_twice(self):
        with pytest.raises(WrongCall, match="id 'b' stands in 2 rows"):
            read(hugging_face(id=["a", "b", "b"]))

    def test_a_missing_column_has_a_suggestion(self):
        with pytest.raises(WrongCall, match=r"no column 'lable'; did you mean 'label'\? \(it has img, label\)"):
            read(hugging_face(label=[0, 1, 2]), columns={"label": "lable"})

    def test_numbers_are_no_items(self):
        table = pa.table({"number": [1, 2]})
        with pytest.raises(WrongCall, match=r"no column that can be encoded \(image, .*\); it has number \(int64\)"):
            read(table)
        with pytest.raises(WrongCall, match=r"'number' \(int64\) cannot be read as 'a'; likeness reads image"):
            read(table, columns={"a": "number"})

    def test_frames(self):
        columns = {"image": ["a.png", None, "c.png"], "label": [1, 2, 1]}
        for frame in (pd.DataFrame(columns), pl.DataFrame(columns)):
            source = read(frame)
            assert [source.raw("image", row) for row in range(3)] == [Path("a.png"), None, Path("c.png")]
            assert labels(source) == ["1", "2", "1"]

    def test_a_frame_of_python_images(self):
        images = [Pillow.new("L", (4, 4), n) for n in range(3)]
        source = read(pd.DataFrame({"image": images, "label": [0, 1, 1]}))
        assert source.raw("image", 2) is images[2]
        assert labels(source) == ["0", "1", "1"]

    def test_a_dataset_is_known_without_importing_its_library(self):
        dataset = type(
            "Dataset", (), {"__module__": "datasets.arrow_dataset", "with_format": lambda self, kind: _Sliced()}
        )
        assert labels(read(dataset())) == ["0", "1", "0"]

    def test_a_dataset_of_several_sets_asks_which(self):
        sets = type("DatasetDict", (dict,), {"__module__": "datasets.dataset_dict"})
        with pytest.raises(WrongCall, match=r"several sets \(train, test\); give one, as in dataset\['train'\]"):
            read(sets(train=1, test=2))


class _Sliced:
    """What `datasets` gives in Arrow format: a slice is a table."""

    def __getitem__(self, rows):
        assert rows == slice(None)
        return hugging_face(label=[0, 1, 0])


class TestArrays:
    @pytest.mark.parametrize(
        ("shape", "item"),
        [
            ((5, 8, 9), (8, 9)),
            ((5, 8, 9, 3), (8, 9, 3)),
            ((5, 3, 8, 9), (8, 9, 3)),
            ((5, 13, 32, 32), (32, 32, 13)),
            ((5, 32, 32, 13), (32, 32, 13)),
            ((5, 1, 8, 9), (8, 9, 1)),
        ],
    )
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_images_come_out_channels_last(self, tmp_path, shape, item, dtype):
        array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        np.save(tmp_path / "x.npy", array)
        for source in (read(tmp_path / "x.npy"), read(array)):
            assert source.ids == ["0", "1", "2", "3", "4"]
            assert source.raw("image", 4).shape == item
            assert sorted(source.raw("image", 4).ravel()) == sorted(array[4].ravel())

    def test_what_was_decided_of_channels_is_said(self):
        assert read(np.zeros((2, 3, 8, 8))).notes == ("array (2, 3, 8, 8) is read as (N, C, H, W), 3 channels",)

    def test_a_tie_has_channels_last(self):
        assert channel_axis((9, 32, 32, 32)) == 3

    def test_a_tensor(self):
        tensor = torch.rand(4, 3, 8, 8, requires_grad=True)
        assert np.array_equal(read(tensor).raw("image", 1), tensor.detach()[1].permute(1, 2, 0).numpy())

    def test_an_npz_with_labels(self, tmp_path):
        np.savez(
            tmp_path / "d.npz", x=np.zeros((4, 8, 8), np.uint8), y=[1, 0, 1, 1], n=np.arange(4), odd=np.zeros((2, 3))
        )
        source = read(tmp_path / "d.npz")
        assert labels(source) == ["1", "0", "1", "1"]
        assert source.table.column_names == ["label", "n"]
        assert source.raw("image", 0).shape == (8, 8)
        assert "odd (2, 3) float64 is left out" in source.notes

    @pytest.mark.parametrize(
        ("odd", "said"),
        [
            ([[1, 2], [3], []], "3 values"),
            ([1, "a", {}], "3 values"),
            (7, "(int)"),
            ("abc", "(str)"),
            (np.array(3), "() int64"),
            (np.zeros(3, complex), "(3,) complex128"),
            (np.zeros(3, [("a", "<i8")]), "(3,) [('a', '<i8')]"),
        ],
    )
    def test_an_odd_column_is_left_out(self, odd, said):
        source = read({"image": np.zeros((3, 8, 8), np.uint8), "odd": odd, "y": [1, 2, 1]})
        assert (source.table.column_names, source.notes) == (["label"], (f"odd {said} is left out",))

    def test_an_npz_of_several_sets_asks_which(self, tmp_path):
        sets = {
            "train_images": np.zeros((4, 8, 8)),
            "train_labels": np.ones((4, 1), int),
            "test_images": np.zeros((2, 8, 8)),
        }
        np.savez(tmp_path / "d.npz", **sets)
        with pytest.raises(WrongCall, match=r"several sets \(train_images 4, test_images 2\); choose one"):
            read(tmp_path / "d.npz")
        source = read(tmp_path / "d.npz", columns={"image": "train_images", "label": "train_labels"})
        assert (len(source), labels(source)) == (4, ["1"] * 4)

    @pytest.mark.parametrize("save", [np.save, np.savez])
    def test_nothing_is_unpickled(self, tmp_path, save):
        path = tmp_path / ("x.npy" if save is np.save else "x.npz")
        save(path, np.array([{"a": 1}], dtype=object))
        with pytest.raises(WrongCall, match="never unpickled"):
            read(path)

    @pytest.mark.parametrize("name", ["x.npy", "x.npz"])
    def test_a_broken_array_file(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(Failed, match="cannot be read"):
            read(tmp_path / name)

    def test_pil_images(self):
        images = [Pillow.new("RGB", (5, 4)), None]
        source = read(images)
        assert [source.raw("image", row) for row in range(2)] == images
        assert len(source.table) == 2

    @pytest.mark.parametrize("nothing", [np.zeros((0, 8, 8)), np.array(3.0), [], [None]])
    def test_no_items(self, nothing):
        with pytest.raises(Failed, match="holds no items"):
            read(nothing)

    def test_what_cannot_be_encoded_is_described(self):
        with pytest.raises(WrongCall, match=r"an array of shape \(4, 7\), float64, which likeness cannot read"):
            read(np.zeros((4, 7)))

    def test_a_source_is_given_back(self):
        source = read(np.zeros((4, 8, 8)))
        assert read(source) is source
        with pytest.raises(WrongCall, match="read already"):
            read(source, columns={"label": "y"})

    def test_columns_are_for_tables(self, tmp_path):
        with pytest.raises(WrongCall, match="has no columns to choose from"):
            read(files(tmp_path, "a.png"), columns={"label": "y"})
