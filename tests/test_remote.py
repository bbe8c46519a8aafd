"""Sources that lie elsewhere: read by URL they hold what they hold on a disk; what fails is asked again, then named."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import shape
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image as Pillow

import likeness
from likeness.errors import Failed, WrongCall
from likeness.modalities.base import Unreadable
from likeness.modalities.remote import AHEAD
from likeness.sources import read
from likeness.sources.base import Quarantine, Source
from likeness.sources.forms import check
from likeness.sources.reader import Reader
from likeness.sources.remote import below
from likeness.sources.tar_index import scanned

ITEMS = 12


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A server in memory that refuses as often as it is told to, and counts what it is asked."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failing: ClassVar[dict[str, int]] = {}
    asked: ClassVar[Counter[str]] = Counter()
    error: ClassVar[Exception] = ConnectionError("reset by peer")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.removeprefix("flaky:/"))
        return stripped

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        name = path.rpartition("/")[2]
        self.asked[name] += 1
        if self.failing.get(name, 0) > 0:
            self.failing[name] -= 1
            raise self.error
        content: bytes = super().cat_file(path, start, end, **options)
        return content

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        if self.failing.get(name, 0) > 0:
            self.failing[name] -= 1
            raise FileNotFoundError(path)  # as HTTP does, whatever went wrong
        told: dict[str, Any] = super().info(path, **options)
        return told


fsspec.register_implementation("flaky", Flaky, clobber=True)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(shape("red" if number % 2 else "blue", number)).save(file, "png")
    return file.getvalue()


def files() -> dict[str, bytes]:
    """Everything that is read in these tests, by path."""
    held = {f"photos/{'ab'[n % 2]}/{n:02}.png": png(n) for n in range(ITEMS)}
    held |= {"photos/.hidden.png": b"", "photos/_SUCCESS": b"", "photos/note.txt": b"hello"}
    lines = "".join(f"photos/{'ab'[n % 2]}/{n:02}.png,{n % 3}\n" for n in range(ITEMS))
    held["items.csv"] = f"image,label\n{lines}".encode()
    for part in range(2):
        numbers = range(part * 6, part * 6 + 6)
        sink, table = io.BytesIO(), pa.table({"image": [png(n) for n in numbers], "label": [n % 3 for n in numbers]})
        pq.write_table(table, sink, row_group_size=2)
        held[f"table/part-{part}.parquet"] = sink.getvalue()
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for n in numbers:
                header = tarfile.TarInfo(f"{n:02}.png")
                header.size = len(png(n))
                tar.addfile(header, io.BytesIO(png(n)))
        held[f"shards/s-{part:03}.tar"] = sink.getvalue()
    sink = io.BytesIO()
    np.save(sink, np.stack([shape("red", n) for n in range(4)]))
    return held | {"images.npy": sink.getvalue()}


@pytest.fixture(params=["memory", "file", "flaky"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    where = f"{request.param}://{tmp_path if request.param == 'file' else '/bucket'}"
    system, path = fsspec.core.url_to_fs(where)
    for name, content in files().items():
        system.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        system.pipe_file(f"{path}/{name}", content)
    yield where
    system.rm(path, recursive=True)


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likeness.modalities.remote.PAUSES", (0.0, 0.0, 0.0))
    Flaky.failing.clear()
    Flaky.asked.clear()
    Flaky.error = ConnectionError("reset by peer")


def pictures(source: Source) -> list[Any]:
    (role,) = source.roles
    modality = likeness.modalities.Image().fitted([source.raw(role, 0)])
    return [modality.read(source.raw(role, row)) for row in range(len(source))]


FORMS = ["photos/", "photos", "photos/**/*.png", "items.csv", "table/", "table/*.parquet",
         "table/part-{0..1}.parquet", "shards/", "shards/s-{000..001}.tar"]  # fmt: skip


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_reads_as_on_a_disk(self, root, form, tmp_path):
        for name, content in files().items():
            (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "here" / name).write_bytes(content)
        check(f"{root}/{form}")
        far, near = read(f"{root}/{form}"), read(f"{tmp_path}/here/{form}")
        prefix = f"{root}/"
        assert [id.removeprefix(prefix) for id in far.ids] == [id.removeprefix(f"{tmp_path}/here/") for id in near.ids]
        assert far.roles == near.roles
        assert far.table.to_pydict() == near.table.to_pydict()
        assert all(map(np.array_equal, pictures(far), pictures(near)))

    def test_arrays(self, root):
        assert len(read(f"{root}/images.npy")) == 4

    def test_one_image(self, root):
        assert len(read(f"{root}/photos/a/00.png")) == 1

    def test_a_list_of_urls(self, root, tmp_path):
        urls = [f"{root}/photos/a/{n:02}.png" for n in (0, 2, 4)]
        (tmp_path / "list.txt").write_text("\n".join(urls))
        source = read(f"@{tmp_path}/list.txt")
        assert source.ids == urls
        assert len(pictures(source)) == 3
        (tmp_path / "list.txt").write_text(f"{urls[0]}\nb.png")
        with pytest.raises(WrongCall, match=r"names .* and .* at once"):
            read(f"@{tmp_path}/list.txt")

    def test_row_groups_are_read_by_and_by(self, root, monkeypatch):
        whole = read(f"{root}/table/")
        monkeypatch.setattr("likeness.headroom.memory_size", lambda: 12_000.0)
        lazy = read(f"{root}/table/")
        assert lazy.blocks.tolist() == [2] * 6
        assert [lazy.raw("image", n) for n in range(ITEMS)] == [whole.raw("image", n) for n in range(ITEMS)]

    @pytest.mark.parametrize("root", ["memory"], indirect=True)
    def test_training_from_afar_is_training_from_a_disk(self, root, tmp_path):
        for name, content in files().items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)

        def learned(where: str, out: str) -> np.ndarray:
            run = likeness.train(f"{where}/shards/", "simclr", steps=2, batch=4, holdout=0, out=tmp_path / out)
            return np.asarray(run.encoder.embed(f"{where}/photos/").vectors)

        far, near = learned(root, "far"), learned(str(tmp_path), "near")
        assert far.shape[0] == ITEMS
        assert np.array_equal(far, near)


class TestTrouble:
    @pytest.fixture
    def root(self) -> Iterator[str]:
        system = Flaky()
        for name, content in files().items():
            system.pipe_file(f"/bucket/{name}", content)
        yield "flaky:///bucket"
        system.rm("/bucket", recursive=True)

    @pytest.mark.parametrize(
        ("name", "what"), [("photos/", "03.png"), ("shards/", "s-001.tar"), ("table/", "part-0.parquet")]
    )
    def test_a_hiccup_is_no_loss(self, root, name, what):
        Flaky.failing[what] = 3
        assert len(pictures(read(f"{root}/{name}"))) == ITEMS

    def test_what_cannot_be_fetched_ends_the_run_and_is_no_quarantined_item(self, root):
        source = read(f"{root}/photos/")
        Flaky.failing["03.png"] = 100
        quarantine = Quarantine()
        reader = Reader(source, {"image": likeness.modalities.Image(channels=3)}, 0, quarantine)
        with pytest.raises(Failed, match=r"03\.png cannot be fetched, after 4 attempts: reset by peer"):
            reader.read("image", range(ITEMS))
        assert not len(quarantine)

    def test_a_row_group_that_does_not_come_ends_the_run_and_is_asked_for_anew(self, root, monkeypatch):
        monkeypatch.setattr("likeness.headroom.memory_size", lambda: 12_000.0)
        source = read(f"{root}/table/")
        Flaky.failing["part-1.parquet"] = 4
        with pytest.raises(Failed, match=r"part-1\.parquet cannot be fetched"):
            source.raw("image", 11)
        assert source.raw("image", 11) == png(11)

    def test_what_is_not_there_any_more_is_quarantined_at_once(self, root):
        source = read(f"{root}/photos/")
        Flaky().rm_file("/bucket/photos/a/00.png")
        with pytest.raises(Unreadable, match="no such file"):
            source.raw("image", 0).read_bytes()
        assert Flaky.asked["00.png"] == 1

    @pytest.mark.parametrize("what", ["shards/s-001.tar", "table/part-1.parquet"])
    @pytest.mark.parametrize("change", [-700, 700, None])
    def test_a_file_that_changes_while_it_is_read_part_by_part_ends_the_run(self, root, what, change, monkeypatch):
        monkeypatch.setattr("likeness.headroom.memory_size", lambda: 12_000.0)
        monkeypatch.setattr("likeness.modalities.remote.OFTEN", 0.0)
        folder = what.partition("/")[0]
        source, size = read(f"{root}/{folder}/"), len(files()[what])
        assert source.raw("image", 0) == png(0)
        if change is None:
            Flaky().rm_file(f"/bucket/{what}")
        else:
            Flaky().pipe_file(f"/bucket/{what}", (files()[what] + bytes(700))[: size + change])
        reader = Reader(source, {"image": likeness.modalities.Image(channels=3)}, 0, quarantine := Quarantine())
        now = "is gone" if change is None else f"has {size + change:,}"
        with pytest.raises(
            Failed, match=rf"{what} has changed: it had {size:,} bytes when it was listed, now it {now}; "
        ):
            reader.read("image", range(ITEMS))
        assert not len(quarantine)

    def test_a_file_that_ends_earlier_is_told_without_asking_its_size(self, root):
        source = read(f"{root}/shards/")
        Flaky().pipe_file("/bucket/shards/s-001.tar", files()["shards/s-001.tar"][:600])
        with pytest.raises(Failed, match=r"s-001\.tar has changed: .* now it ends earlier; begin anew"):
            source.raw("image", 11)

    @pytest.mark.parametrize(
        "form", ["nothing/", "nothing", "no.csv", "no.tar", "no.parquet", "no*/x.png", "a{0..1}.tar"]
    )
    def test_what_does_not_exist_is_named(self, root, form):
        with pytest.raises((WrongCall, Failed), match=r"flaky:///bucket/.*(not exist|cannot be read|matches no file)"):
            read(f"{root}/{form}")

    def test_closed_doors_are_named(self, root):
        Flaky.failing["items.csv"], Flaky.error = 100, PermissionError("403")
        with pytest.raises(Failed, match=r"items\.csv may not be read: its server wants other credentials"):
            read(f"{root}/items.csv")
        assert Flaky.asked["items.csv"] == 1

    def test_a_tar_is_listed_in_few_questions(self, root):
        assert len(files()["shards/s-000.tar"]) < AHEAD
        index = scanned(below(root)("shards/s-000.tar"), lambda name: False)
        assert len(index.names) == 6
        assert Flaky.asked["s-000.tar"] == 1


class TestCheck:
    def test_nothing_is_asked_before_it_is_read(self):
        check("https://example.invalid/photos/")
        check("s3://bucket/shard-{000..099}.tar")

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("https://a.invalid/x.csv?key=1", "curl"),
            ("s4://bucket/", "nothing reads s4://"),
            ("s3://bucket/x.tar.gz", "unpack it"),
            ("gs://b/x.pkl", "not among"),
        ],
    )
    def test_what_can_never_be_read_is_refused(self, source, said):
        with pytest.raises(WrongCall, match=said):
            check(source)

    def test_a_missing_package_is_named(self):
        try:
            import s3fs  # noqa: F401
        except ImportError:
            with pytest.raises(WrongCall, match=r"s3:// cannot be used: .*s3fs"):
                read("s3://bucket/photos/")

    def test_the_check_is_light(self):
        code = (
            "import sys; from likeness.sources.forms import check; check('s3://b/x/'); sys.exit('torch' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
