"""Damaged files and bombs: each is decoded or refused with a reason; none crashes, hangs, fills the memory or talks."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged import bombs, damaged, interlaced, originals, picture, png, zeros

from likeness.errors import LikenessError
from likeness.modalities import Image, Unreadable
from likeness.modalities.decode import decoded
from likeness.sources import read
from likeness.sources.base import Quarantine
from likeness.sources.feed import plain

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, as likeness has it outside of tests

FILES = 500
SMALL = 0.01  # of what bombs unpack to at their worst
PICTURES = Image(size=16, channels=3, depth="uint8", mean=(0.5,) * 3, std=(0.5,) * 3)
LONGEST = 10.0  # seconds that a file may take on a busy machine


def judged(data):
    """The reason why it is refused; None where it is decoded."""
    began, reason = time.monotonic(), None
    try:
        assert PICTURES.read(data).shape[2] == 3
    except Unreadable as error:
        reason = str(error)
    assert time.monotonic() - began < LONGEST
    assert reason is None or (5 < len(reason) < 200 and reason.isprintable())
    return reason


def test_damaged_pictures_are_decoded_or_refused_with_a_reason(capfd):
    reasons = [judged(damaged(number)[1]) for number in range(FILES)]
    refused = sum(reason is not None for reason in reasons)
    assert FILES / 2 < refused < FILES
    assert capfd.readouterr() == ("", "")


def test_bombs_are_decoded_or_refused_with_a_reason(capfd):
    for name, make in bombs(SMALL).items():
        reason = judged(make())
        assert reason is None or name != "within.png", (name, reason)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(50_000, 50_000, zeros(10**8)), "claims 50,000 x 50,000 pixels"),
        (png(13_000, 13_000, zeros(1000), bits=16), "claims 13,000 x 13,000 pixels"),
        (bombs()["canvas.gif"](), "claims 65,535 x 65,535 pixels"),
        (bombs()["65000.jpg"](), "claims 65,000 x 65,000 pixels"),
        (bombs()["50000.jp2"](), "claims 50,000 x 50,000 pixels"),
        (bombs()["canvas.webp"](), "corrupt WEBP: Image size"),
        (bombs()["scans.jpg"](), "JPEG of 5,005 scans"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_asks_for_too_much_is_refused_before_it_is_decoded(data, reason):
    began = time.monotonic()
    assert (judged(data) or "").startswith(reason)
    assert time.monotonic() - began < LONGEST / 5


def test_a_large_picture_is_decoded_in_little_more_than_it_takes():
    """24 megapixels are 72 MB; Pillow takes 96 MB. In a process of its own, whose peak nothing else has raised."""
    told = child(
        """
        from damaged import png, zeros
        data = png(6000, 4000, zeros((3 * 6000 + 1) * 4000))
        decoded(png(10, 10, zeros(310)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert decoded(data).shape == (4000, 6000, 3)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
        """
    )
    assert float(told) < 72e6 + 96e6 + 40e6


def test_a_film_after_a_photo_is_no_scan():
    film = b"\xff\xda\0\4ab" * 500
    assert judged(originals()["progressive.jpg"] + film) is None


def test_interlaced_pictures_are_read():
    np.testing.assert_array_equal(decoded(interlaced(picture(3))), picture(3))


def test_a_png_whose_pixels_fail_their_checksum_is_refused():
    data = bytearray(png(10, 10, zeros(310)))
    data[-13] ^= 1  # the last byte of IDAT's checksum
    assert judged(bytes(data)) == "corrupt PNG: the checksum of IDAT is wrong"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A folder of damaged pictures among whole ones, some by another name, and a Parquet table of the same."""
    folder = tmp_path_factory.mktemp("spoilt")
    files = [damaged(number) for number in range(200)]
    files += [(f"whole-{number:03}.png", originals()["plain.png"]) for number in range(200)]
    (folder / "files").mkdir()
    for name, data in files:
        (folder / "files" / Path(name).with_suffix(".png")).write_bytes(data)
    ids, values = [name for name, _ in files], [data or b"\0" for _, data in files]
    pq.write_table(pa.table({"id": ids, "image": pa.array(values, pa.binary())}), folder / "table.parquet")
    return folder


@pytest.mark.parametrize("form", ["files", "table.parquet"])
def test_a_spoilt_source_is_read_to_its_end_whatever_the_workers(spoilt, form):
    source, told = read(spoilt / form), []
    assert len(source) == 400
    for workers in (0, 1, 2):
        quarantine = Quarantine()
        rows = np.concatenate([rows for rows, _ in plain(source, PICTURES, "image", 64, workers, quarantine)])
        assert len(rows) + len(quarantine) == len(source)
        assert {source.ids[row] for row in rows}.isdisjoint(quarantine.reasons)
        told.append((rows.tolist(), list(quarantine.reasons.items())))
    assert told[0] == told[1] == told[2]
    assert 100 < len(told[0][1]) < 200


def child(code):
    """What Python says in a process of its own, which must not crash."""
    start = """
        import resource, sys
        sys.path.insert(0, "tests")
        from likeness.modalities.decode import decoded
    """
    program = textwrap.dedent(start) + textwrap.dedent(code)
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


FORMS = """
    import json, tempfile
    from pathlib import Path
    import numpy as np
    from test_fuzz import tables, LikenessError, Unreadable
    from damaged import WAYS
    from likeness.sources import read
    from likeness.modalities import Image

    told = {}
    with tempfile.TemporaryDirectory() as place:
        for name, whole in tables(Path(place)).items():
            for number in range(40):
                chance = np.random.default_rng([1, number])
                path = Path(place, f"{number}-{name}")
                path.write_bytes(WAYS[number % len(WAYS)](bytearray(whole), chance))
                try:
                    source = read(path)
                    for row in range(min(len(source), 5)):
                        for role in source.roles:
                            source.raw(role, row)
                    came = "read"
                except (LikenessError, Unreadable) as error:
                    came = "refused"
                    assert "\\n" not in str(error), error
                except Exception as error:
                    came = f"{path.name}: {type(error).__name__}: {error}"
                told.setdefault(name, []).append(came)
                path.unlink()
    print(json.dumps(told))
"""


def tables(folder):
    """A healthy file of each kind of source that is one file."""
    images = [originals()["plain.png"], originals()["plain.jpg"]] * 4
    table = pa.table({"image": pa.array(images, pa.binary()), "label": list("abcdabcd")})
    pq.write_table(table, folder / "t.parquet")
    np.save(folder / "t.npy", np.stack([picture(n) for n in range(4)]))
    np.savez(folder / "t.npz", x=np.stack([picture(n) for n in range(4)]), y=np.arange(4))
    np.savez_compressed(folder / "u.npz", x=np.stack([picture(n) for n in range(4)]), y=np.arange(4))
    (folder / "t.csv").write_text("image,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(50)))
    (folder / "t.jsonl").write_text("".join(json.dumps({"image": f"{n}.png", "label": n}) + "\n" for n in range(50)))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_damaged_tables_and_arrays_are_read_or_refused_in_one_line():
    told = json.loads(child(FORMS))
    assert [came for found in told.values() for came in found if came not in ("read", "refused")] == []
    assert all(set(found) == {"read", "refused"} for found in told.values()), told


def test_no_error_of_ours_is_mistaken_for_one_of_the_data():
    assert not issubclass(Unreadable, LikenessError)
