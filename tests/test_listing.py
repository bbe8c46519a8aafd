"""Listing a folder: the same files however it is done; from an index only while nothing has changed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from likeness import screen
from likeness.sources import listing_index, pool, read, walk
from likeness.sources.base import Source, numbered
from likeness.sources.names import Names
from likeness.sources.pool import AdaptivePool

TICK = 0.02  # seconds: more than the steps in which a disk here counts time


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in which small folders are kept too, also those that have just been made."""
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listing_index, "FEW", 1)
    monkeypatch.setattr(listing_index, "FRESH", 0)
    return tmp_path / "cache" / "listings"


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Photos in folders, with links inside and to the outside, one of them dangling."""
    root = files(tmp_path / "photos", "a/1.png", "a/2.png", "b/deep/er/3.png", "c/4.jpg", "c/notes.txt", "c/.hidden")
    files(tmp_path / "elsewhere", "5.png")
    files(tmp_path / "spare", "6.png")
    (root / "d").symlink_to(tmp_path / "elsewhere")
    (root / "c/7.png").symlink_to(tmp_path / "spare/6.png")
    (root / "c/gone.png").symlink_to(tmp_path / "later.png")
    return root


def look(root: Path | str, **how: object) -> tuple[Source, bool]:
    """The source, and whether it came from the index: nothing is counted then."""
    counts: list[int] = []
    time.sleep(TICK)
    source = read(root, told=counts.append, **how)
    time.sleep(TICK)
    return source, not counts


def facts(source: Source) -> tuple[object, ...]:
    paths = [source.raw("image", row) for row in range(len(source))]
    return list(source.ids), source.notes, source.unlisted, source.table.to_pydict(), paths


class TestIndex:
    def test_an_unchanged_folder_is_not_walked_again(self, cache, root):
        first, kept = look(root)
        assert not kept
        again, kept = look(root)
        assert kept
        assert facts(again) == facts(first)
        assert again.listing == first.listing
        assert list(first.ids) == ["a/1.png", "a/2.png", "b/deep/er/3.png", "c/4.jpg", "c/7.png", "d/5.png"]
        assert list(first.unlisted) == ["c/gone.png"]

    def test_it_is_known_by_whatever_name(self, cache, root, monkeypatch):
        look(root)
        (root.parent / "link").symlink_to(root)
        monkeypatch.chdir(root.parent)
        for name in ("photos", "photos/", "./photos", "link"):
            source, kept = look(name)
            assert kept
            assert source.name == name
            assert source.raw("image", 0).exists()

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: files(root, "a/new.png"),
            lambda root: files(root, "b/deep/er/new.png"),
            lambda root: files(root, "new/new.png"),
            lambda root: files(root, "a/.hidden"),
            lambda root: files(root.parent, "elsewhere/new.png"),
            lambda root: files(root.parent, "later.png"),
            lambda root: (root / "a/1.png").unlink(),
            lambda root: (root / "a/1.png").rename(root / "a/0.png"),
            lambda root: (root / "a/1.png").rename(root / "b/1.png"),
            lambda root: (root / "b").rename(root / "bb"),
            lambda root: (root.parent / "spare/6.png").unlink(),
            lambda root: (root.parent / "elsewhere").rename(root.parent / "nowhere"),
            lambda root: swapped(root / "b", root.parent / "spare"),
            lambda root: swapped(root.parent / "elsewhere", root.parent / "spare"),
            lambda root: retargeted(root / "d", root.parent / "spare"),
            lambda root: retargeted(root / "c/gone.png", root / "a/1.png"),
            lambda root: with_time_set_back(root / "a", lambda: files(root, "a/new.png")),
            lambda root: replaced(root / "a/1.png", lambda path: path.mkdir()),
            lambda root: replaced(root / "a/1.png", lambda path: os.mkfifo(path)),
        ],
    )
    def test_every_change_is_seen(self, cache, root, change: Callable[[Path], object], monkeypatch):
        before, _ = look(root)
        change(root)
        source, kept = look(root)
        assert not kept
        assert facts(source) != facts(before)
        again, kept = look(root)
        assert kept
        monkeypatch.setenv("LIKENESS_CACHE", "")
        assert facts(look(root)[0]) == facts(source) == facts(again)

    def test_what_is_in_a_file_is_no_matter(self, cache, root):
        look(root)
        (root / "a/1.png").write_bytes(b"other")
        os.utime(root / "a/1.png", (0, 0))
        assert look(root)[1]

    def test_patterns_are_applied_to_what_was_listed(self, cache, root):
        look(root)
        source, kept = look(root, exclude=["a"])
        assert kept
        assert list(source.ids) == ["b/deep/er/3.png", "c/4.jpg", "c/7.png", "d/5.png"]
        assert source.notes[0] == "2 files are excluded"
        source, kept = look(f"{root}/**/[1-4].*")
        assert kept
        assert list(source.ids) == ["a/1.png", "a/2.png", "b/deep/er/3.png", "c/4.jpg"]
        for kept in (False, True):  # less deep: another walk
            source, known = look(f"{root}/*/*.png")
            assert known is kept
            assert list(source.ids) == ["a/1.png", "a/2.png", "c/7.png", "d/5.png"]

    def test_a_damaged_index_is_made_anew(self, cache, root):
        first, chance = look(root)[0], random.Random(0)
        (index,) = cache.iterdir()
        whole = index.read_bytes()
        places = [*range(0, len(whole), len(whole) // 20), len(whole) - 1]
        flipped = [whole[:n] + bytes([whole[n] ^ 1 << chance.randrange(8)]) + whole[n + 1 :] for n in places]
        for broken in (b"", whole[:10], whole[:-1], whole + b"x", chance.randbytes(len(whole)), *flipped):
            index.write_bytes(broken)
            source = read(root)
            assert facts(source) == facts(first)
            assert index.read_bytes() == whole

    def test_another_version_leaves_it_alone(self, cache, root, monkeypatch):
        look(root)
        monkeypatch.setattr(listing_index, "VERSION", listing_index.VERSION + 1)
        assert not look(root)[1]
        assert look(root)[1]

    def test_a_folder_that_has_just_changed_is_not_trusted(self, cache, root, monkeypatch):
        monkeypatch.setattr(listing_index, "FRESH", 60_000_000_000)
        for _ in range(2):
            assert not look(root)[1]
        assert not list(cache.iterdir())

    def test_a_change_while_listing_is_seen(self, cache, root, monkeypatch):
        def late(at: str, folder: str) -> walk.Entries:
            found = entries(at, folder)
            if folder == "a":
                files(root, "a/late.png")
            return found

        entries = walk.entries
        monkeypatch.setattr(walk, "entries", late)
        assert "a/late.png" not in look(root)[0].ids
        monkeypatch.setattr(walk, "entries", entries)
        assert "a/late.png" in look(root)[0].ids

    def test_a_disk_that_is_only_pretended_is_not_trusted(self, cache, root, tmp_path, monkeypatch):
        device = os.stat(root).st_dev
        mounts = tmp_path / "mountinfo"
        line = f"1 1 {os.major(device)}:{os.minor(device)} / {tmp_path} rw shared:1 - {{}} bucket rw\n"
        monkeypatch.setattr(listing_index, "MOUNTS", str(mounts))
        for kind, kept in (("fuse.gcsfuse", False), ("ext4", True)):
            mounts.write_text(line.format(kind))
            look(root)
            assert look(root)[1] is kept

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
    def test_a_closed_folder_is_asked_again(self, cache, root):
        (root / "b").chmod(0)
        assert "b" in look(root)[0].unlisted
        (root / "b").chmod(0o700)
        assert not look(root)[0].unlisted.get("b")

    def test_few_files_leave_nothing_behind(self, cache, root, monkeypatch):
        monkeypatch.setattr(listing_index, "FEW", 100)
        look(root)
        assert not list(cache.iterdir())

    def test_without_a_cache(self, cache, root, tmp_path, monkeypatch):
        look(root)
        for place in ("", str(files(tmp_path, "a file") / "a file"), "/proc/none"):
            monkeypatch.setenv("LIKENESS_CACHE", place)
            for _ in range(2):
                source, kept = look(root)
                assert not kept
                assert len(source) == 6

    def test_a_cache_that_cannot_be_written_to(self, cache, root):
        look(root)
        (index,) = cache.iterdir()
        index.unlink()
        index.mkdir()  # in the way, also of root
        (index / "something").touch()
        assert len(look(root)[0]) == 6
        assert list(cache.iterdir()) == [index]

    def test_it_stays_small(self, cache, root, monkeypatch):
        monkeypatch.setattr(listing_index, "MOST", 0)
        assert len(look(root)[0]) == 6
        assert not list(cache.iterdir())

    def test_odd_names_come_back_as_they_were(self, cache, tmp_path):
        odd = [b"\xff.png", b"\\xff.png", b"new\nline.png", "\u2028.png".encode(), "\N{OWL}.png".encode(), b"e\xcc.png"]
        folder = tmp_path / "odd"
        for name in odd:
            (inside := os.path.join(os.fsencode(folder), name[:1] + b"-\xfe")) and os.makedirs(inside)
            with open(os.path.join(inside, name), "wb"):
                pass
        first, again = look(folder)[0], look(folder)
        assert again[1]
        assert facts(again[0]) == facts(first)
        assert len(set(first.ids)) == len(odd)
        assert {os.path.basename(os.fsencode(first.raw("image", row))) for row in range(len(odd))} == set(odd)
        assert all(first.raw("image", row).exists() for row in range(len(odd)))


def swapped(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def retargeted(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def with_time_set_back(folder: Path, change: Callable[[], object]) -> None:
    before = folder.stat()
    change()
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


class TestWalk:
    PARTS = st.sampled_from(["a", "a.b", "a-", "ab", "é", "\uffff", "\N{OWL}", "B"])

    @settings(deadline=None, max_examples=30)
    @given(paths=st.sets(st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12))
    def test_files_are_in_the_order_of_their_bytes(self, tmp_path_factory, paths):
        root = files(tmp_path_factory.mktemp("tree"), *(f"{path}.png" for path in paths))
        assert read(root).ids == sorted((f"{path}.png" for path in paths), key=str.encode)

    def test_of_two_names_for_one_folder_the_nearer_holds(self, tmp_path):
        files(tmp_path / "real", "1.png")
        root = files(tmp_path / "root", "0.png", "a/0.png")
        for name in ("z", "a/b", "y"):
            (root / name).symlink_to(tmp_path / "real")
        source = read(root)
        assert source.ids == ["0.png", "a/0.png", "a/b/1.png"]
        assert source.unlisted == dict.fromkeys("yz", "the same folder as 'a/b', which is listed already")

    def test_counts_are_told(self, tmp_path):
        counts: list[int] = []
        read(files(tmp_path, *(f"{n % 7}/{n}.png" for n in range(50))), told=counts.append)
        assert counts == sorted(counts)
        assert counts[-1] == 50


class TestPool:
    def test_a_slow_disk_is_asked_many_things_at_a_time(self):
        began = time.perf_counter()
        with AdaptivePool() as asked:
            found = list(asked.map(lambda n: (time.sleep(0.004), threading.current_thread().name, n), range(512)))
            found += asked.map(lambda n: (None, threading.current_thread().name, n), range(5))
        assert [n for _, _, n in found] == [*range(512), *range(5)]
        assert len({name for _, name, _ in found}) > pool.THREADS // 2
        assert time.perf_counter() - began < 512 * 0.004 / 2
        assert not [one for one in threading.enumerate() if one.name.startswith("likeness-list")]

    def test_a_quick_one_is_not(self):
        with AdaptivePool() as asked:
            names = set(asked.map(lambda n: threading.current_thread().name, range(512)))
        assert names == {threading.current_thread().name}

    @pytest.mark.parametrize("patience", [-1.0, 60.0])
    def test_errors_come_through(self, patience, monkeypatch):
        monkeypatch.setattr(pool, "PATIENCE", patience)
        with AdaptivePool() as asked, pytest.raises(ZeroDivisionError):
            list(asked.map(lambda n: 1 // (200 - n), range(300)))


class TestNames:
    WORDS = ("a.png", "x/\udcff.png", "", "é\n", "a.png")

    def test_they_are_a_sequence_of_strings(self):
        names = Names.of(self.WORDS)
        assert names == list(self.WORDS)
        assert names == self.WORDS
        assert list(self.WORDS) == names
        assert names != list(self.WORDS[:-1])
        assert names != ["a.png"] * 5
        assert [names[n] for n in range(-5, 5)] == [*self.WORDS] * 2
        assert names[1:4] == self.WORDS[1:4]
        assert names[::-2] == self.WORDS[::-2]
        assert names[np.int64(3)] == "é\n"
        assert "é\n" in names
        assert names.index("é\n") == 3
        assert names.take(np.array([3, 0, 3])) == ["é\n", "a.png", "é\n"]
        assert Names.of(names) is names
        with pytest.raises(IndexError):
            names[5]

    def test_long_ones_are_shown_in_part(self):
        assert repr(numbered(3)) == "['0', '1', '2']"
        assert repr(numbered(2000)).endswith("'7', ...]")

    def test_arrow_takes_them(self):
        assert pa.array(numbered(3)).to_pylist() == ["0", "1", "2"]
        assert pa.table({"id": numbered(3)}).schema.field("id").type == pa.string()
        assert not Names.of(self.WORDS).is_text

    def test_a_million_take_little(self):
        names = numbered(1_000_000)
        assert names.array.nbytes < 16e6
        assert names[999_999] == "999999"


class TestProgress:
    def test_a_long_listing_shows_its_count(self, monkeypatch):
        monkeypatch.setattr(screen, "PATIENCE", 0.0)
        seen = StringIO()
        with screen.ListingScreen(Console(file=seen, force_terminal=True), "photos/ [old]") as shown:
            shown.told(12_345)
            time.sleep(0.6)
        assert "looking at photos/ [old] · 12,345 files" in seen.getvalue()

    @pytest.mark.parametrize(("patience", "terminal", "quiet"), [(60, True, False), (0, False, False), (0, True, True)])
    def test_else_nothing_is_shown(self, patience, terminal, quiet, monkeypatch):
        monkeypatch.setattr(screen, "PATIENCE", patience)
        seen = StringIO()
        to = Console(file=seen, force_terminal=terminal, quiet=quiet)
        with screen.ListingScreen(to, "photos/") as shown:
            shown.told(1)
            time.sleep(0.05)
        assert seen.getvalue() == ""

    def test_a_listing_can_be_interrupted(self, shell, tmp_path):
        root = files(tmp_path / "photos", *(f"{n}/a.png" for n in range(300)))
        command = shell.start("train", root, "steps=1", changes={"likeness.sources.walk:entries": slowly})
        assert command.until((tmp_path / "photos.slow").exists)
        began = time.monotonic()
        command.kill(signal.SIGINT)
        assert "interrupted" in command.wait().failed(130)
        assert time.monotonic() - began < 5
        assert not (tmp_path / "runs").exists()


def slowly(root: str, folder: str) -> walk.Entries:
    """A folder on a bad network disk."""
    if not folder:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored
        return ENTRIES(root, folder)
    if threading.current_thread() is not threading.main_thread():
        Path(f"{root}.slow").touch()
    time.sleep(0.3)
    return ENTRIES(root, folder)


ENTRIES = walk.entries
