"""Parquet and tar shards: read by and by they hold what they hold when read whole, damaged ones what is left."""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import COLOURS, TINY, Shell, lines, shape
from PIL import Image as Pillow

from likeness.copies.exact import exact_copies
from likeness.copies.items import Joined
from likeness.errors import Failed, WrongCall
from likeness.inspection import formats
from likeness.modalities.base import Unreadable
from likeness.sources import read
from likeness.sources.base import Source
from likeness.sources.blocked import Shard
from likeness.sources.data import Data
from likeness.sources.feed import readable
from likeness.sources.forms import check, expanded
from likeness.sources.population import Population
from likeness.sources.ranges import Local
from likeness.sources.rowgroups import parquet
from likeness.sources.sampling import Shuffle
from likeness.sources.tar_index import indexed

MANY = 100_000.0  # bytes of memory: the tables of these tests take more than a quarter of it, a row group takes less


def png(number: int, colour: str = "red") -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(shape(colour, number)).save(file, "png")
    return file.getvalue()


PNG = png(0)


# Parquet --------------------------------------------------------------------------------------------------------------


def picture(n: int) -> dict[str, Any] | None:
    if n % 7 == 3:
        return None
    return {"bytes": None, "path": f"{n}.png"} if n % 5 == 2 else {"bytes": PNG + bytes([n]) * (400 + n), "path": None}


def table(first: int, rows: int) -> pa.Table:
    """Pictures with holes, class labels, texts; the schema tells the names of the classes as Hugging Face does."""
    numbers = range(first, first + rows)
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    return pa.table(
        {
            "image": pa.array([picture(n) for n in numbers], cell),
            "thumb": pa.array([None if n % 11 == 4 else PNG + bytes([n]) for n in numbers]),
            "label": pa.array([None if n % 6 == 5 else n % 2 for n in numbers], pa.int64()),
            "id": [f"item {n}" for n in numbers],
            "score": [n / 2 for n in numbers],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of unequal row groups; one lacks a column, and counts scores in whole numbers."""
    pq.write_table(table(0, 50), tmp_path / "train-00.parquet", row_group_size=13)
    odd = table(50, 31).drop_columns(["thumb"])
    odd = odd.set_column(3, "score", pa.array(range(31), pa.int32()))
    pq.write_table(odd, tmp_path / "train-01.parquet", row_group_size=31)
    pq.write_table(table(81, 40), tmp_path / "test-00.parquet", row_group_size=8)
    return tmp_path


def little_memory(monkeypatch: pytest.MonkeyPatch, memory: float = MANY) -> None:
    monkeypatch.setattr("likeness.headroom.memory_size", lambda: memory)


def break_group(file: Path, group: int) -> None:
    """Damage the pictures of a row group."""
    chunk = pq.read_metadata(file).row_group(group).column(0)
    damaged = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    damaged[start : start + 40] = b"\xff" * 40
    file.write_bytes(damaged)


def contents(source: Source) -> dict[str, list[Any]]:
    return {role: [source.raw(role, row) for row in range(len(source))] for role in source.roles}


class TestRowGroups:
    def test_what_is_read_by_and_by_is_what_is_read_whole(self, folder, monkeypatch):
        whole = read(folder)
        little_memory(monkeypatch)
        lazy = read(folder)
        assert (whole.blocks, lazy.blocks.tolist()) == (None, [8] * 5 + [13, 13, 13, 11, 31])
        assert contents(lazy) == contents(whole)
        assert lazy.ids == whole.ids
        assert lazy.roles == whole.roles == {"image": "Image", "thumb": "Image"}
        assert lazy.table.equals(whole.table)
        assert lazy.labels.names == whole.labels.names == ["cat", "dog"]
        assert lazy.table["split"].to_pylist() == ["test"] * 40 + ["train"] * 81
        assert "10 row groups, read as they are needed" in lazy.notes[0]

    def test_columns_are_chosen_and_renamed_alike(self, folder, monkeypatch):
        columns = {"photo": "thumb", "label": "score", "group": "label"}
        whole = read(folder, columns=columns)
        little_memory(monkeypatch)
        lazy = read(folder, columns=columns)
        assert contents(lazy) == contents(whole)
        assert lazy.table.equals(whole.table)

    def test_a_part_keeps_its_blocks(self, folder, monkeypatch):
        little_memory(monkeypatch)
        part = read(folder).only(np.array([0, 7, 8, 20, 45, 120]))
        assert part.blocks.tolist() == [2, 1, 1, 1, 1]
        order = Shuffle(window=2).dealt(Population.of(part), 0, 3, 1).tolist()
        assert sorted(order) == list(range(6))
        assert abs(order.index(0) - order.index(1)) <= 2  # they lie in one row group, so they come in one window

    def test_what_is_kept_is_bounded_and_each_row_group_is_read_once(self, folder, monkeypatch):
        little_memory(monkeypatch)
        loads: list[str] = []
        opened = [
            Shard(str(path), lambda path=path: (loads.append(path.name), pa.OSFile(str(path)))[1])
            for path in sorted(folder.glob("*.parquet"))
        ]
        groups = parquet(opened)
        loads.clear()
        column = groups.column("image")
        barrier = Barrier(4)

        def ask(_: int) -> list[Any]:
            rows = []
            for group in range(8, 40, 8):
                barrier.wait()  # or one that lags behind would read anew what is kept no more
                rows += [column.cell(row) for row in range(group, group + 8)]
            return rows

        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(ask, range(4)))
        assert found == [found[0]] * 4
        assert loads == ["test-00.parquet"] * 4
        for row in range(len(groups)):
            column.cell(row)
            assert sum(groups._taken.values()) <= groups._room or len(groups._kept) <= 2

    def test_a_broken_row_group_costs_its_own_items_alone(self, folder, monkeypatch):
        break_group(folder / "test-00.parquet", 2)
        little_memory(monkeypatch)
        source = read(folder)
        errors = []
        for row in (16, 16, 23):
            with pytest.raises(Unreadable, match=r"row group 2 of .*test-00\.parquet cannot be read") as error:
                source.raw("image", row)
            errors.append(error.value)
        assert len({id(each) for each in errors}) == 3, "one that is raised again holds all that was at hand before"
        assert source.raw("image", 15)
        assert source.raw("image", 25)

    def test_a_broken_row_group_is_passed_over_by_all_who_only_look(self, folder, monkeypatch):
        break_group(folder / "test-00.parquet", 0)
        little_memory(monkeypatch)
        source = read(folder)
        fitted = Data().fitted(source)
        assert formats(source)[0]["bytes"] > 50
        assert readable(source, "image", fitted.modality["image"], range(len(source)), 1)[0] == [8]
        assert len(Population.of(source).content("image")) == len(source)
        assert exact_copies(Joined([source]), np.zeros(0, np.int64), math.inf).compared == len(source)

    def test_little_room_is_told(self, folder, monkeypatch):
        little_memory(monkeypatch)
        assert "sampling.window=" in read(folder).notes[0]

    def test_a_table_of_one_kind_only_has_no_metadata(self, tmp_path, monkeypatch):
        pq.write_table(table(0, 60).select(["image"]), tmp_path / "a.parquet", row_group_size=20)
        little_memory(monkeypatch)
        source = read(tmp_path / "a.parquet")
        assert (len(source), len(source.table), source.ids[59]) == (60, 60, "59")
        assert isinstance(source.blocks, np.ndarray)


# Tars -----------------------------------------------------------------------------------------------------------------


def write_tar(path: Path, members: Iterable[tuple[str, bytes]] | Mapping[str, bytes], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def write_shards(folder: Path, shards: int = 2, each: int = 12) -> Path:
    """s-000.tar and so on: squares in two colours, with their class, a caption and where they come from."""
    folder.mkdir(exist_ok=True)
    for shard in range(shards):
        members = {}
        for n in range(each):
            key, colour = f"{shard}/{n:03}", sorted(COLOURS)[n % 2]
            members[f"{key}.png"] = png(shard * each + n, colour)
            members[f"{key}.cls"] = f"{n % 2}\n".encode()
            members[f"{key}.txt"] = f"a {colour} square".encode()
            members[f"{key}.json"] = json.dumps({"roll": n // 3, "made": {"by": "us"}}).encode()
        write_tar(folder / f"s-{shard:03}.tar", members)
    return folder


class TestTars:
    def test_members_of_one_name_are_one_item(self, tmp_path):
        source = read(write_shards(tmp_path) / "s-001.tar")
        assert source.roles == {"image": "Image", "text": "Text"}
        assert source.ids[:2] == ["1/000", "1/001"]
        assert [source.raw("text", row) for row in (0, 1)] == ["a blue square", "a red square"]
        assert source.raw("image", 5) == png(17, "red")
        assert source.table.slice(0, 4).to_pydict() == {
            "label": [0, 1, 0, 1],
            "roll": [0, 0, 0, 1],
            "made": [{"by": "us"}] * 4,
        }
        assert (source.notes, dict(source.unlisted)) == ((), {})

    @pytest.mark.parametrize("form", ["", "*.tar", "s-{000..002}.tar", "s-{000,001,002}.tar"])
    def test_forms(self, tmp_path, form):
        write_shards(tmp_path, 3)
        check(f"{tmp_path}/{form}")
        source = read(f"{tmp_path}/{form}")
        assert (len(source), source.ids[35], source.raw("image", 35)) == (36, "2/011", png(35, "red"))

    def test_braces(self, tmp_path):
        assert expanded("a{08..10}b") == ["a08b", "a09b", "a10b"]
        assert expanded("{2..0}{x,y}") == ["2x", "2y", "1x", "1y", "0x", "0y"]
        assert expanded("a{b}c{}{1..2}") == ["a{b}c{}1", "a{b}c{}2"]
        write_shards(tmp_path, 2)
        with pytest.raises(WrongCall, match=r"s-\{000\.\.002\}\.tar does not exist"):
            check(f"{tmp_path}/s-{{000..002}}.tar")
        with pytest.raises(WrongCall, match="more than 1,000,000 files"):
            check(f"{tmp_path}/s-{{0..99999999999}}.tar")

    @pytest.mark.parametrize("name", ["s.tar.gz", "s.tgz", "s.TAR.XZ"])
    def test_packed_tars_are_refused_with_the_remedy(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(WrongCall, match=r"can only be read from its beginning; unpack it: (gunzip|unxz) "):
            read(tmp_path / name)

    def test_odd_members_are_left_out_and_told(self, tmp_path):
        path = tmp_path / "s.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in {
                "./a.b/x.png": PNG, "a.b/x.left.png": PNG, "a.b/x.jpg": PNG, "a.b/x.pyd": b"no", "a.b/x.npy": b"no",
                "README": b"about", ".hidden.png": PNG, "alone.json": b"{}", "y.png": b"", "y.cls": b"007",
                "y.json": b"[1", "z.png": b"old", "z.webp.json": b"{}",
            }.items():  # fmt: skip
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
                header = tarfile.TarInfo("link.png")
                header.type, header.linkname = kind, "y.png"
                tar.addfile(header)
            header = tarfile.TarInfo("z.png")
            header.size = len(PNG)
            tar.addfile(header, io.BytesIO(PNG))
        source = read(path)
        assert source.ids == ["a.b/x", "y", "z"]
        assert source.roles == {"image": "Image", "left": "Image"}
        assert [source.raw("image", row) for row in range(3)] == [PNG, None, PNG]
        assert source.table.to_pydict() == {"label": [None, "007", None]}
        said = " · ".join(source.notes)
        for what in ("never unpickled (.pyd 1)", ".npy 1", "links, special files", "no JSON object", "that are empty"):
            assert what in said
        for what in ("second image of their item", "replaced by later ones", "without a name and an ending"):
            assert what in said

    def test_long_and_odd_names(self, tmp_path):
        names = ["d/" * 90 + "n" * 150, "a\nb", "ü", "\udcff"]
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            members = [(f"{name}.png", PNG + bytes([n])) for n, name in enumerate(names)]
            path = write_tar(tmp_path / "s.tar", members, format=form, errors="surrogateescape")
            source = read(path)
            assert source.ids == [*names[:3], "\\xff"]
            assert [source.raw("image", n)[-1] for n in range(4)] == [0, 1, 2, 3]

    def test_equal_keys_of_several_tars_are_told_apart(self, tmp_path):
        for name in ("train-0", "test-0"):
            write_tar(tmp_path / f"{name}.tar", {"0.png": PNG, f"{name}.png": PNG})
        source = read(tmp_path)
        assert source.ids == ["test-0.tar/0", "test-0", "train-0.tar/0", "train-0"]
        assert source.table["split"].to_pylist() == ["test", "test", "train", "train"]

    def test_facts_of_unequal_kinds_are_text(self, tmp_path):
        facts = [{"n": 1, "id": 7, "s": "\ud800"}, {"n": "x", "big": 10**30}, {"n": [1]}]
        members = {
            f"{n}.{e}": c for n, f in enumerate(facts) for e, c in (("png", PNG), ("json", json.dumps(f).encode()))
        }
        source = read(write_tar(tmp_path / "s.tar", members))
        assert source.ids == ["0", "1", "2"]
        assert source.table["n"].to_pylist() == ["1", "x", "[1]"]
        assert source.table["s"].to_pylist() == ["?", None, None]
        assert source.table["json.id"].to_pylist() == [7, None, None]

    def test_an_empty_class_is_unknown(self, tmp_path):
        members = {"0.png": PNG, "0.cls": b" \n", "1.png": PNG, "1.cls": b"7"}
        assert read(write_tar(tmp_path / "a.tar", members)).table["label"].to_pylist() == [None, 7]

    def test_of_a_tar_cut_anywhere_whole_members_are_used(self, tmp_path):
        whole = write_tar(tmp_path / "s.tar", {f"{n}.png": PNG for n in range(3)}).read_bytes()
        ends = [512 + len(PNG) + n * (512 + -(-len(PNG) // 512) * 512) for n in range(3)]
        cut = tmp_path / "cut.tar"
        for length in sorted({*range(0, ends[2] + 600, 97), *ends, *(end - 1 for end in ends)}):
            cut.write_bytes(whole[:length])
            left = sum(end <= length for end in ends)
            if not left:
                with pytest.raises(Failed, match=r"holds no items: cut\.tar (is empty|ends within|has no end)"):
                    read(cut)
                continue
            source = read(cut)
            assert source.ids == [str(n) for n in range(left)]
            assert source.raw("image", left - 1) == PNG
            if length < ends[2]:
                assert list(source.unlisted) == ["cut.tar"]

    @pytest.mark.parametrize(
        "size", [b"77777777777\0", b"\x80" + b"\x7f" * 11, b"\xff" * 12, b"nonsense\0\0\0\0", b"-1\0         "]
    )
    def test_a_header_that_lies_ends_the_tar(self, tmp_path, size):
        damaged = bytearray(write_tar(tmp_path / "s.tar", {f"{n}.png": PNG for n in range(2)}).read_bytes())
        second = 512 + -(-len(PNG) // 512) * 512
        damaged[second + 124 : second + 136] = size
        damaged[second + 148 : second + 156] = b" " * 8
        damaged[second + 148 : second + 156] = b"%06o\0 " % sum(damaged[second : second + 512])
        (tmp_path / "s.tar").write_bytes(damaged)
        source = read(tmp_path / "s.tar")
        assert source.ids == ["0"]
        assert "ends within" in source.unlisted["s.tar"] or "is damaged at byte" in source.unlisted["s.tar"]

    def test_flipped_bits_never_crash(self, tmp_path):
        chance = np.random.default_rng(0)
        whole = write_shards(tmp_path / "whole", 1, 3).joinpath("s-000.tar").read_bytes()
        path = tmp_path / "s.tar"
        for _ in range(150):
            damaged = bytearray(whole)
            for place in chance.integers(0, len(damaged), 20):
                damaged[place] = chance.integers(0, 256)
            path.write_bytes(damaged)
            with suppress(Failed, WrongCall):
                contents(read(path))

    def test_what_is_no_tar_is_named(self, tmp_path):
        (tmp_path / "a.tar").write_bytes(b"<html>no such file</html>" * 100)
        with pytest.raises(Failed, match=r"holds no items: a\.tar is no tar"):
            read(tmp_path / "a.tar")
        write_tar(tmp_path / "b.tar", {"0.png": PNG})
        source = read(tmp_path)
        assert (source.ids, dict(source.unlisted)) == (["0"], {"a.tar": "is no tar"})

    def test_tars_that_were_joined_are_read_to_the_end(self, tmp_path):
        parts = [write_tar(tmp_path / f"{n}.tar", {f"{n}.png": PNG}).read_bytes() for n in range(3)]
        (tmp_path / "all.tar").write_bytes(b"".join(parts))
        assert read(tmp_path / "all.tar").ids == ["0", "1", "2"]

    def test_shards_are_blocks_where_memory_cannot_hold_them(self, tmp_path, monkeypatch):
        write_shards(tmp_path, 3)
        assert read(tmp_path).blocks is None
        little_memory(monkeypatch, 1000.0)
        assert read(tmp_path).blocks.tolist() == [12, 12, 12]

    def test_a_tar_that_has_shrunk_since_is_named(self, tmp_path):
        source = read(write_shards(tmp_path, 1) / "s-000.tar")
        os.truncate(tmp_path / "s-000.tar", 3000)
        with pytest.raises(Unreadable, match="its tar has changed"):
            source.raw("image", 11)


class TestIndex:
    def test_it_is_kept_while_the_tar_is_the_same_and_anew_where_it_is_damaged(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
        path = write_shards(tmp_path / "tars", 1) / "s-000.tar"
        os.utime(path, (1e9, 1e9))
        first = indexed(Local.of(str(path)), lambda name: name.endswith(b".cls"))
        (kept,) = (tmp_path / "cache" / "shards").iterdir()
        again = indexed(Local.of(str(path)), lambda name: pytest.fail("it was read anew"))
        assert again == first
        for damage in (b"", kept.read_bytes()[:-9], b"x" + kept.read_bytes()[1:]):
            kept.write_bytes(damage)
            assert indexed(Local.of(str(path)), lambda name: name.endswith(b".cls")) == first
        os.utime(path, (1e9, 2e9))
        asked: list[bytes] = []
        indexed(Local.of(str(path)), lambda name: bool(asked.append(name)))
        assert asked

    def test_a_tar_that_took_the_place_of_another_is_read_anew(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
        path = write_tar(tmp_path / "a.tar", {"0.png": png(0), "0.cls": b"1"})
        os.utime(path, (1e9, 1e9))
        before = read(path)
        other = write_tar(tmp_path / "b.tar", {"0.png": png(1), "0.cls": b"2", "1.png": png(2)})
        os.utime(other, (1e9, 2e9))
        other.replace(path)
        for _ in range(2):  # of the file, and of the index that was kept
            after = read(path)
            assert (after.ids, after.labels.names, after.raw("image", 1)) == (["0", "1"], ["2"], png(2))
        assert before.raw("image", 0) == png(0)

    def test_a_tar_of_the_same_size_and_time_is_read_anew(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
        for name in (b"1", b"2"):
            path = write_tar(tmp_path / "a.tar", {"0.png": PNG, "0.cls": name})
            os.utime(path, (1e9, 1e9))
            assert read(path).labels.names == [name.decode()]
            time.sleep(0.02)  # more than a tick of the clock of files

    def test_nothing_is_kept_of_what_was_just_written(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
        read(write_shards(tmp_path / "tars", 1))
        assert not list((tmp_path / "cache").rglob("*.*"))


# Training -------------------------------------------------------------------------------------------------------------


class TestTraining:
    def test_commands_on_tars(self, tmp_path: Path, shell: Shell) -> None:
        write_shards(tmp_path / "tars")
        source = "tars/s-{000..001}.tar"
        for words in (
            ("train", source, "simclr", *TINY, "steps=3", "labels=label", "role=image", "--out", "run"),
            ("doctor", source, "simclr", "role=image"),
            ("embed", "run", source, "--out", "v.parquet"),
        ):
            done = shell(*words)
            assert done.code == 0, done.err
        stored = pq.read_table(tmp_path / "v.parquet")
        assert stored["id"].to_pylist()[12] == "1/000"
        assert stored["label"].to_pylist() == [0, 1] * 12
        (tmp_path / "q.png").write_bytes(png(3, "red"))
        done = shell("search", "run", "q.png", "--json")
        assert done.json["results"][0]["hits"][0]["id"] == "0/003"

    def test_a_large_table_is_trained_on_in_the_same_batches_when_resumed(self, tmp_path: Path, shell: Shell) -> None:
        pictures = pa.table({"image": [png(n) + bytes(2000) for n in range(60)]})
        pq.write_table(pictures, tmp_path / "t.parquet", row_group_size=7)
        little = {"likeness.headroom:memory_size": partial(float, MANY), "likeness.runs:SAVE": 0.0}
        call = ("train", "t.parquet", "simclr", *TINY, "sampling.window=2", "steps=9")
        done = shell(*call, "--out", "whole", changes=little)
        assert done.code == 0, done.err
        command = shell.start(*call, "--out", "cut", changes=little)
        command.until(lambda: (tmp_path / "cut/metrics.jsonl").exists())
        command.kill()
        command.wait()
        done = shell(*call, "--out", "cut", "--resume", changes=little)
        assert done.code == 0, done.err
        first, second = ([line["loss"] for line in lines(tmp_path / run)] for run in ("whole", "cut"))
        assert first == second
