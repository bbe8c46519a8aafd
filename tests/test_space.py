"""A space keeps what it is given: vectors, ids, metadata, fingerprint, in every format."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likeness.errors import Failed, WrongCall
from likeness.space import Space, unit
from likeness.space_read import holds_vectors
from likeness.space_write import writing

IDS = ["a.jpg", 'sub dir/b\n"new", line.jpg', "ünï 🐈.jpg", "d", "e"]


@pytest.fixture
def space() -> Space:
    table = pa.table(
        {
            "label": ["cat", None, "dog", "cat", ""],
            "group": [1, 2, 2, None, 3],
            "tags": [["x", "y"], [], None, ["z"], ["é"]],
        }
    )
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    return Space(vectors, IDS, table, "abc123")


def test_parquet_keeps_everything(space: Space, tmp_path: Path) -> None:
    again = Space.load(space.save(tmp_path / "x.parquet"))
    np.testing.assert_array_equal(again.vectors, space.vectors)
    assert again.ids == IDS
    assert again.fingerprint == "abc123"
    assert again.table.to_pylist() == space.table.to_pylist()
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_parquet_is_a_fixed_size_list_with_a_header(space: Space, tmp_path: Path) -> None:
    schema = pq.read_schema(space.save(tmp_path / "x.parquet"))
    assert schema.names == ["id", "vector", "label", "group", "tags"]
    assert schema.field("vector").type == pa.list_(pa.float32(), 3)
    assert json.loads(schema.metadata[b"likeness"]) == {"fingerprint": "abc123", "dim": 3, "roles": []}


def test_pandas_reads_what_is_written_and_what_pandas_writes_is_read(space: Space, tmp_path: Path) -> None:
    frame = pd.read_parquet(space.save(tmp_path / "x.parquet"))
    np.testing.assert_array_equal(np.stack(frame["vector"].to_list()), space.vectors)
    frame.to_parquet(tmp_path / "pandas.parquet")
    again = Space.load(tmp_path / "pandas.parquet")
    np.testing.assert_array_equal(again.vectors, space.vectors)
    assert again.ids == IDS


def test_half_precision_halves_the_vectors(space: Space, tmp_path: Path) -> None:
    path = space.save(tmp_path / "x.parquet", dtype="float16")
    assert pq.read_schema(path).field("vector").type == pa.list_(pa.float16(), 3)
    again = Space.load(path).vectors
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, space.vectors.astype(np.float16))


def test_npy_is_the_vectors_in_order(space: Space, tmp_path: Path) -> None:
    path = space.save(tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(path), space.vectors)
    again = Space.load(path)
    np.testing.assert_array_equal(again.vectors, space.vectors)
    assert again.ids == ["0", "1", "2", "3", "4"]


def test_csv_keeps_ids_metadata_and_exact_vectors(space: Space, tmp_path: Path) -> None:
    path = space.save(tmp_path / "x.csv")
    assert pd.read_csv(path).columns.to_list() == ["id", "label", "group", "tags", "v0", "v1", "v2"]
    again = Space.load(path)
    np.testing.assert_array_equal(again.vectors, space.vectors)
    assert again.ids == IDS
    assert again.table["label"].to_pylist() == ["cat", None, "dog", "cat", ""]


@pytest.mark.parametrize("ending", ["parquet", "npy", "csv"])
def test_a_space_may_be_without_items_or_metadata(tmp_path: Path, ending: str) -> None:
    for rows in (0, 2):
        again = Space.load(Space.of(np.ones((rows, 4))).save(tmp_path / f"{rows}.{ending}"))
        assert again.vectors.shape == (rows, 4)
        assert again.table.num_rows == len(again.ids) == rows


@pytest.mark.parametrize("ending", ["parquet", "npy", "csv"])
def test_written_in_pieces_is_written_whole(space: Space, tmp_path: Path, ending: str) -> None:
    whole = space.save(tmp_path / f"whole.{ending}")
    with writing(tmp_path / f"pieces.{ending}", "abc123") as writer:
        for rows in (slice(0, 2), slice(2, 2), slice(2, 5)):
            part = space.only(np.arange(5)[rows])
            writer.append(part.ids, {"": part.vectors}, part.table)
    a, b = Space.load(whole), Space.load(tmp_path / f"pieces.{ending}")
    np.testing.assert_array_equal(a.vectors, b.vectors)
    assert (a.ids, a.fingerprint, a.table.to_pylist()) == (b.ids, b.fingerprint, b.table.to_pylist())


def test_roles_are_chosen_by_name(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with writing(path) as writer:
        writer.append(space.ids, {"image": space.vectors, "text": space.vectors[:, :2]}, space.table)
    assert Space.load(path, role="text").dim == 2
    with pytest.raises(WrongCall, match="image or text"):
        Space.load(path)
    with pytest.raises(WrongCall, match="did you mean 'image'"):
        Space.load(path, role="imag")


def test_names_of_classes_stay_names(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), "pandas": "{}"}
    table = pa.table({"label": [1, 0]}).replace_schema_metadata(metadata)
    again = Space.load(Space(np.eye(2, dtype=np.float32), ["a", "b"], table).save(tmp_path / "x.parquet"))
    assert again.labels is not None
    assert (again.labels.codes.tolist(), again.labels.names) == ([1, 0], ["cat", "dog"])


def test_a_failure_leaves_the_earlier_file(space: Space, tmp_path: Path) -> None:
    path = space.save(tmp_path / "x.parquet")
    before = path.read_bytes()

    def cut_short() -> None:
        with writing(path) as writer:
            writer.append(space.ids, {"": space.vectors}, space.table)
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Failed, match="the disk is full"):
        cut_short()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["x.parquet"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "with_name", lambda self, name: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok: None)
    for ending in ("parquet", "npy", "csv"):
        with pytest.raises(Failed, match=r"^the disk is full: \S+ could not be written"):
            space.save(tmp_path / f"x.{ending}")


@pytest.mark.parametrize("ending", ["parquet", "npy", "csv"])
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    for content in (b"", b"\x00\xff\x93NUMPY broken", b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(WrongCall, match=r"^[^\n]*x\.[^\n]*$"):
            Space.load(path)


@pytest.mark.parametrize("ending", ["parquet", "npy", "csv"])
def test_a_file_of_embeddings_is_known_by_its_header(space: Space, tmp_path: Path, ending: str) -> None:
    assert holds_vectors(space.save(tmp_path / f"x.{ending}"))
    pq.write_table(space.table, tmp_path / "table.parquet")
    np.save(tmp_path / "table.npy", np.zeros((4, 8, 8), np.uint8))
    (tmp_path / "table.csv").write_text("id,label\n1,a\n")
    (tmp_path / f"broken.{ending}").write_bytes(b"\x00")
    for name in ("table", "broken", "missing"):
        assert not holds_vectors(tmp_path / f"{name}.{ending}")
    assert not holds_vectors(tmp_path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(WrongCall, match="cannot be read as embeddings"):
        Space.load(tmp_path / "x.npy")


def test_wrong_paths_are_said(space: Space, tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match="does not exist"):
        Space.load(tmp_path / "no.parquet")
    with pytest.raises(WrongCall, match=r"did you mean '\.parquet'"):
        space.save(tmp_path / "x.parquett")
    with pytest.raises(WrongCall, match="make it first"):
        space.save(tmp_path / "nowhere" / "x.npy")
    with pytest.raises(WrongCall, match="did you mean 'float16'"):
        space.save(tmp_path / "x.npy", dtype="float61")


def test_unit_vectors_have_length_one_and_zero_stays_zero() -> None:
    vectors = np.array([[3, 4], [0, 0], [1e30, 1e30], [1e-30, 0], [-2, 0]], np.float32)
    half = 0.5**0.5
    np.testing.assert_allclose(unit(vectors), [[0.6, 0.8], [0, 0], [half, half], [1, 0], [-1, 0]], rtol=1e-6)


def test_vectors_that_are_not_finite_are_counted() -> None:
    vectors = np.ones((5, 2))
    vectors[1, 0], vectors[3, 1] = np.nan, np.inf
    with pytest.raises(WrongCall, match=r"2 of 5 vectors hold NaN or infinity \(first: 1\)"):
        _ = Space.of(vectors).unit


def test_rows_are_chosen_by_number_and_by_mask(space: Space) -> None:
    chosen = space.only(np.array([3, 0]))
    assert chosen.ids == ["d", "a.jpg"]
    assert chosen.table["group"].to_pylist() == [None, 1]
    np.testing.assert_array_equal(chosen.vectors, space.vectors[[3, 0]])
    assert space.only(np.array([True, False, False, True, False])).ids == ["a.jpg", "d"]
    assert len(Space.of(np.ones((3, 2))).only(np.array([2]))) == 1
    assert space.only([3, 0]).ids == ["d", "a.jpg"]
    assert len(space.only([])) == 0


def test_labels_are_a_list_or_go_by_id(space: Space) -> None:
    given = Space.of(np.ones((3, 2)), labels=["b", None, "a"], ids=["x", "y", "z"]).labels
    assert given is not None
    assert (given.codes.tolist(), list(given.names)) == ([1, -1, 0], ["a", "b"])
    by_id = Space.of(space, labels={"d": 7, "a.jpg": 5}).labels
    assert by_id is not None
    assert (by_id.codes.tolist(), list(by_id.names)) == ([0, -1, -1, 1, -1], ["5", "7"])
    floats = Space.of(np.ones((2, 2)), labels=np.array([np.nan, 1.0])).labels
    assert floats is not None
    assert floats.codes.tolist() == [-1, 0]


def test_a_class_is_called_the_same_in_a_column_of_floats() -> None:
    for given, names in (([0.0, 1.0, None], ["0", "1"]), ([0.5, 2.0, np.nan], ["0.5", "2"]), ([0, 1, 1], ["0", "1"])):
        labels = Space.of(np.ones((3, 2)), labels=given).labels
        assert labels is not None
        assert list(labels.names) == names


def test_several_labels_an_item_are_no_labels() -> None:
    table = pa.table({"label": [["a", "b"], ["a"]]})
    assert Space(np.eye(2, dtype=np.float32), ["x", "y"], table).labels is None
    with pytest.raises(WrongCall, match=r"one class an item: got list<"):
        Space.of(np.eye(2), labels=[["a", "b"], ["a"]])


def test_wrong_arrays_and_labels_are_said(space: Space) -> None:
    with pytest.raises(WrongCall, match=r"\(N, D\).*\(3,\)"):
        Space.of(np.ones(3))
    with pytest.raises(WrongCall, match="must be numbers"):
        Space.of([["a"]])
    with pytest.raises(WrongCall, match="2 labels for 5 vectors"):
        space.labelled(["a", "b"])
    with pytest.raises(WrongCall, match="none of the 1 labelled ids"):
        space.labelled({"nosuch": "a"})
    with pytest.raises(WrongCall, match="of one kind"):
        space.labelled(["a", 1, "b", 2, None])
