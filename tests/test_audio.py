"""Recordings: read whatever they are stored as, shown as the formula has it, and seen alike in any company."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from scipy.stats import kstest
from torch import Tensor

import likeness
from likeness import findings
from likeness.copies.exact import content
from likeness.doctor import draw_views
from likeness.encoders import Residual
from likeness.encoders.defaults import default_encoder
from likeness.errors import Failed, WrongCall
from likeness.export import export
from likeness.inspection import Inspector
from likeness.modalities import Audio, AudioAugmentation, Image, Names, Several, Unreadable
from likeness.modalities import waves as reading
from likeness.modalities.audio import middle
from likeness.modalities.audio_augment import OPERATIONS, _cut, _noisy, _played
from likeness.modalities.audio_looks import oddities
from likeness.modalities.audio_sheet import only, sheet
from likeness.modalities.mel import FLOOR, Mel, filters
from likeness.modalities.waves import decoded, resampled
from likeness.sheet import contact_sheet
from likeness.sources.data import Data
from likeness.sources.population import identities

RATE = 4000
PITCHES = {"high": 1200.0, "low": 300.0}
OFF = {"crop": 0, "shift": 0, "speed": 0, "noise": 0, "gain": 0, "tone": 0, "frequency_mask": 0, "time_mask": 0}
SIZES = {"encoder": "residual", "widths": [8, 16], "projection": [16, 8], "batch": 8}
TINY = {**SIZES, "precision": "float32", "workers": 0}


def tone(pitch: float, seconds: float = 0.3, rate: int = RATE, number: int = 0) -> np.ndarray:
    """(T,) float32: a tone that begins and ends softly, with a little noise."""
    chance = np.random.default_rng(number)
    times = np.arange(round(seconds * rate)) / rate
    pure = np.sin(2 * np.pi * pitch * chance.uniform(0.9, 1.1) * times) * np.hanning(len(times))
    return (0.4 * pure + 0.002 * chance.standard_normal(len(times))).astype(np.float32)


def stored(wave: np.ndarray, kind: str = "WAV", rate: int = RATE, **options: Any) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=kind, **options)
    return stream.getvalue()


def write_tones(folder: Path, each: int = 12) -> Path:
    for name, pitch in PITCHES.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            wave = tone(pitch, 0.25 + number % 4 / 20, number=number)
            (folder / name / f"{number:02}.wav").write_bytes(stored(wave))
    return folder


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 recordings in two folders; nobody writes to it."""
    return write_tones(tmp_path_factory.mktemp("data") / "tones")


WAVES = [tone(200 + 37 * n % 900, 0.1 + n % 5 / 10, number=n) for n in range(12)]
RAWS = [(wave, RATE) for wave in WAVES]


def views(augmentation: Any, modality: Audio, item: Tensor | None = None, seed: int = 1, epoch: int = 2) -> Tensor:
    """(V, N, 1, mels, frames) of WAVES."""
    item = torch.arange(len(WAVES)) if item is None else item
    names = Names(seed, epoch, item)
    prepared = augmentation.prepare([WAVES[n] for n in item.tolist()], names, modality, None)
    finished = augmentation.finished(prepared, names, modality, None)
    drawn: Tensor = augmentation.draw(finished, names, modality, None)
    assert augmentation.draw(prepared, names, modality, None).equal(drawn)  # here or there, the same
    return drawn.unflatten(0, (augmentation.views, len(item)))


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_formats_are_known_by_name_and_by_content_and_read(kind, tmp_path):
    wave = tone(440, 0.5, 8000)
    data = stored(wave, kind, 8000)
    path = tmp_path / f"sound.{'wav' if kind == 'RF64' else kind.lower()}"
    path.write_bytes(data)
    assert Audio.claims(path)
    assert kind == "W64" or Audio.claims(data)
    assert not Image.claims(data)
    for raw in (data, path, str(path)):
        found = decoded(raw)
        assert (found.rate, found.channels, found.whole) == (8000, 1, True)
        assert abs(len(found.wave) - len(wave)) < 1200  # codecs pad
        loud = np.abs(np.fft.rfft(found.wave[: len(wave)]))
        assert abs(loud.argmax() - np.abs(np.fft.rfft(wave)).argmax()) <= 1


@pytest.mark.parametrize("raw", ["a.txt", "b.png", b"\xff\xd8\xff\xe0", "hi".encode("utf-16"), b"RIFF....WEBP", b"",
                                 np.zeros(9), (np.zeros(9),), (1, 2), {"array": 1}, 3, None])  # fmt: skip
def test_what_is_no_sound_is_not_claimed(raw):
    assert not Audio.claims(raw)


def test_arrays_come_with_their_rate():
    wave = tone(440)
    for raw in ((wave, RATE), (torch.from_numpy(wave), float(RATE)), {"array": wave, "sampling_rate": RATE},
                {"array": wave.tolist(), "sampling_rate": RATE, "path": None}):  # fmt: skip
        assert Audio.claims(raw) or isinstance(raw["array"], list)
        np.testing.assert_array_equal(decoded(raw).wave, wave)
    whole = (wave * 2**15).round().astype(np.int16)
    np.testing.assert_allclose(decoded((whole, RATE)).wave, wave, atol=2**-15)
    np.testing.assert_allclose(decoded((np.array([0, 128, 255], np.uint8), RATE)).wave, [-1, 0, 127 / 128])
    two = np.stack([wave, 0 * wave])
    for frames in (two, two.T):
        found = decoded((frames, RATE))
        assert found.channels == 2
        np.testing.assert_allclose(found.wave, wave / 2)


def test_channels_are_mixed_down_and_files_agree_with_arrays():
    two = np.stack([tone(440), tone(880)], axis=1)
    found = decoded(stored(two, subtype="FLOAT"))
    np.testing.assert_allclose(found.wave, two.mean(1), atol=1e-7)
    np.testing.assert_array_equal(found.wave, decoded((two, RATE)).wave)


def nan() -> np.ndarray:
    wave = tone(440)
    wave[7] = np.nan
    return wave


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty file"),
        (b"no sound at all", "no sound of a known format"),
        (stored(tone(440))[:30], "damaged"),
        (stored(tone(440, 2), "FLAC")[:3000], "damaged"),
        (stored(tone(440, 9, 8000), "MP3", 8000)[:4000], "damaged MP3: .* of 72,000 samples can be decoded"),
        (stored(tone(440)[:0]), "holds no samples"),
        (stored(nan(), subtype="FLOAT"), "holds NaN or infinite samples"),
        ((nan(), RATE), "holds NaN or infinite samples"),
        ((1e9 * tone(440), RATE), "samples up to .*, where 1 is full scale"),
        ((tone(440), 3), "claims 3 samples a second"),
        ((tone(440), 1e12), "claims 1,000,000,000,000 samples a second"),
        ((np.zeros((3, 4, 5)), RATE), r"shape \(3, 4, 5\) is no sound"),
        ((np.zeros(0), RATE), "holds no samples"),
        ((np.array(["a"]), RATE), "samples of type <U1"),
        (Path("/nosuch/a.wav"), "no such file"),
        (Path("/"), "a directory"),
        (Path("/dev/zero"), "not a regular file"),
        (3, "a int is no sound"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # a file's bytes hold the time
)
def test_what_cannot_be_read_is_refused_with_a_reason(raw, why):
    with pytest.raises(Unreadable, match=why):
        Audio().read(raw)


def test_any_flipped_byte_ends_in_a_recording_or_a_reason():
    chance = np.random.default_rng(0)
    for kind in ("WAV", "FLAC", "OGG", "AIFF"):
        data = bytearray(stored(tone(440), kind))
        for _ in range(60):
            broken = bytearray(data)
            for place in chance.integers(0, len(data), 4):
                broken[place] = chance.integers(256)
            for raw in (bytes(broken), bytes(broken[: chance.integers(len(data))])):
                try:
                    assert np.isfinite(Audio(sampling_rate=RATE).read(raw)).all()
                except Unreadable:
                    continue


def test_of_a_bomb_only_the_beginning_is_read(monkeypatch):
    """Silence packs a thousand times in FLAC; and a WAV may claim what it has not."""
    long = stored(np.zeros(8000 * 60 * 11, np.int16), "FLAC", 8000)
    assert len(long) < 30_000
    looks = Audio().looks(long)
    assert (looks.extent, looks.odd, looks.traits) == ((600_000,), ("silent",), ("the first 10 minutes are read",))
    assert decoded((np.zeros(8000 * 700, np.int16), 8000)).wave.shape == (8000 * 600,)
    wav = bytearray(stored(tone(440)))
    wav[4:8] = wav[40:44] = b"\xff\xff\xff\x7f"
    np.testing.assert_array_equal(decoded(bytes(wav)).wave, decoded(stored(tone(440))).wave)
    monkeypatch.setattr(reading, "SAMPLES", 1000)
    assert len(decoded(stored(tone(440))).wave) == 1000


def test_without_soundfile_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(Failed, match=r"none of 1 recording can be read \(takes soundfile.*likeness\[audio\]"):
        Audio().fitted([stored(tone(440))])
    assert Audio().fitted(RAWS).sampling_rate == RATE  # arrays take none


def test_resampling_keeps_tones_and_cuts_off_what_is_too_high():
    wave = np.sin(2 * np.pi * 500 * np.arange(16000) / 16000).astype(np.float32)
    half = resampled(wave, 16000, 8000)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half[200:-200], wave[400:-400:2], atol=2e-3)
    assert np.abs(resampled(np.sin(np.arange(16000) * 2.5).astype(np.float32), 16000, 8000)[200:-200]).max() < 0.01
    assert abs(len(resampled(wave, 44_099, 16_000)) - 16000 * 16000 / 44_099) < 2
    assert len(resampled(wave, 1_000_000, 100)) < 20


# What an encoder sees -------------------------------------------------------------------------------------------------


def slow_filters(rate, points, bands, low, high):
    """HTK's triangles, one weight at a time."""

    def mel(f):
        return 2595 * math.log10(1 + f / 700)

    edges = [mel(low) + (mel(high) - mel(low)) * n / (bands + 1) for n in range(bands + 2)]
    corners = [700 * (10 ** (m / 2595) - 1) for m in edges]
    bank = np.zeros((bands, points // 2 + 1))
    for band in range(bands):
        left, top, right = corners[band : band + 3]
        for bin in range(points // 2 + 1):
            f = bin * rate / points
            if left <= f <= top:
                bank[band, bin] = (f - left) / (top - left)
            elif top < f <= right:
                bank[band, bin] = (right - f) / (right - top)
    return bank


def slow_powers(wave, mel):
    """Frame by frame, frequency by frequency."""
    window = np.hanning(mel.window + 1)[:-1]
    bank = slow_filters(mel.rate, mel.points, mel.bands, mel.low, mel.high)
    around = np.concatenate([np.zeros(mel.points), wave.astype(float), np.zeros(mel.points)])
    found = np.zeros((mel.bands, mel.frames(len(wave))))
    for frame in range(found.shape[1]):
        start = mel.points + frame * mel.hop - mel.window // 2
        cut = around[start : start + mel.window] * window
        for bin in range(mel.points // 2 + 1):
            wave_of = np.exp(-2j * np.pi * bin * np.arange(mel.window) / mel.points)
            power = abs((cut * wave_of).sum()) ** 2 * 2 / (mel.points * (window**2).sum())
            found[:, frame] += bank[:, bin] * power
    return found


@pytest.mark.parametrize("mel", [Mel(4000, 50, 20, 12, 50, 2000), Mel(8000, 64, 33, 20, 0, 3000)])
def test_spectrograms_are_as_the_formula_has_them(mel):
    wave = tone(440, 0.03, mel.rate) + tone(700, 0.03, mel.rate)
    bank = filters(mel.rate, mel.points, mel.bands, mel.low, mel.high)
    np.testing.assert_allclose(bank, slow_filters(mel.rate, mel.points, mel.bands, mel.low, mel.high), atol=1e-6)
    expected = slow_powers(wave, mel)
    np.testing.assert_allclose(mel.powers(torch.from_numpy(wave)[None])[0], expected, atol=1e-6 * expected.max())


def test_powers_add_up_to_the_mean_square():
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) / 10
    mel = Mel(8000, 200, 80, 64, 0, 4000)
    assert mel.powers(torch.from_numpy(noise)[None]).sum(1).mean() == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("rate", [2000, 8000, 16000, 44100])
def test_every_band_holds_a_frequency(rate):
    mel = Audio().fitted([(tone(440, 0.5, rate), rate)]).mel
    assert filters(mel.rate, mel.points, mel.bands, mel.low, mel.high).sum(1).min() > 0


def test_fields_follow_the_samples():
    modality = Audio().fitted([*[(tone(440, 0.5, 8000), 8000)] * 9, (tone(440, 2.0, 44100), 44100)])
    assert (modality.sampling_rate, modality.hop, modality.window, modality.high) == (8000, 0.016, 0.04, 4000)
    assert 0.5 <= modality.seconds < 1
    long = Audio().fitted([(np.zeros(44100 * 20, np.float32), 44100)])
    assert (long.sampling_rate, long.seconds) == (16000, 4.0)
    assert long.example().shape[2:] == (40, 126)
    assert Audio().fitted([(np.zeros(20, np.float32), 8000)]).seconds == 0.25
    given = Audio(sampling_rate=4000, seconds=0.2, mels=20, mean=(-3,), std=(2,)).fitted(RAWS)
    assert (given.sampling_rate, given.seconds, given.mels, given.mean, given.std) == (4000, 0.2, 20, (-3,), (2,))
    assert Audio().fitted([b"", *RAWS, b"text"]) == Audio().fitted(RAWS)
    for wrong in ({"low": 3000.0}, {"high": 2500.0}):
        with pytest.raises(WrongCall, match="high 2000 Hz at most"):
            Audio(**wrong).fitted(RAWS)
    with pytest.raises(Failed, match=r"none of 2 recordings can be read \(empty file\)"):
        Audio().fitted([b"", b""])


def test_what_an_encoder_sees_is_centred_and_scaled_and_the_same_in_any_company():
    modality = Audio().fitted(RAWS)
    items = [modality.read(raw) for raw in RAWS]
    seen = modality.plain(items)
    assert seen.shape == (len(RAWS), *modality.example().shape[1:])
    assert abs(seen.mean()) < 1e-3
    assert abs(seen.std() - 1) < 1e-3
    for n, item in enumerate(items):
        assert modality.plain([item])[0].equal(seen[n])
        assert modality.spectra([item])[0].equal(modality.spectra(items)[n])
    assert modality.plain([]).shape == (0, *seen.shape[1:])
    assert modality.spectra([]).shape == (0, 8 * modality.mels)
    assert modality.spectra([np.ones(1, np.float32)]).isfinite().all()


def test_an_encoder_sees_the_middle_in_silence():
    wave = np.arange(1, 6, dtype=np.float32)
    assert middle(wave, 3).tolist() == [2, 3, 4]
    assert middle(wave, 8).tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert middle(wave, 5) is not None and middle(wave, 5).tolist() == wave.tolist()  # noqa: PT018
    modality = Audio(seconds=0.5, mean=(0,), std=(1,)).fitted(RAWS)
    quiet = modality.plain([np.zeros(10, np.float32)])
    torch.testing.assert_close(quiet, torch.full_like(quiet, math.log(FLOOR)))


def test_the_raw_baseline_is_the_mean_spectrum_of_each_eighth():
    modality = Audio(mels=16, sampling_rate=RATE).fitted(RAWS)
    wave = np.concatenate([tone(300, 0.4), np.zeros(4 * 1600, np.float32), tone(1500, 0.4)])
    parts = modality.spectra([wave])[0].unflatten(0, (8, 16))
    power = modality.mel.powers(torch.from_numpy(wave)[None])[0]
    edge = power.shape[1] // 8
    torch.testing.assert_close(parts[0], power[:, :edge].mean(1).add(FLOOR).log())
    assert parts[0].argmax() < parts[7].argmax()
    baseline = modality.baseline([], 10)
    assert (baseline.name, baseline.centred) == ("mean spectra", True)
    assert baseline.vectors(WAVES).equal(modality.spectra(WAVES))


def test_any_rate_is_brought_to_the_one_an_encoder_knows():
    modality = Audio(sampling_rate=8000).fitted([(tone(440, 0.3, 8000), 8000)])
    high = tone(440, 0.3, 32_000)
    np.testing.assert_array_equal(modality.read((high, 32_000)), resampled(high, 32_000, 8000))
    assert Audio().read((high, 32_000)).shape == high.shape  # unfitted: as it is stored


# How views are drawn --------------------------------------------------------------------------------------------------


def fitted(**settings: Any) -> tuple[Audio, AudioAugmentation]:
    modality = Audio().fitted(RAWS)
    return modality, AudioAugmentation(**settings).suited(modality)


def test_views_do_not_depend_on_order_batch_or_split():
    modality, augmentation = fitted()
    whole = views(augmentation, modality)
    shuffled = torch.randperm(len(WAVES), generator=torch.Generator().manual_seed(0))
    for share in (shuffled, *shuffled.split([1, 2, 9]), torch.tensor([], dtype=torch.long)):
        assert views(augmentation, modality, share).equal(whole[:, share])


def test_a_device_that_draws_a_batch_together_sees_the_same():
    """Row by row, as on a CPU, and all rows at once, as on a GPU, but for rounding."""
    modality, augmentation = fitted(noise=1)
    stack = modality.stacked([middle(wave, modality.length) for wave in WAVES] * 2)
    drawn = augmentation._drawn(augmentation._uniform(Names(1, 2, torch.arange(len(WAVES)))), modality.mels, 5)
    together = modality.mel.powers(_noisy(stack, drawn))
    for n in range(len(stack)):
        alone = modality.mel.powers(_noisy(stack[n : n + 1], drawn[n : n + 1]))[0]
        torch.testing.assert_close(together[n], alone, atol=1e-7, rtol=1e-3)


def test_views_change_with_seed_epoch_view_and_item():
    modality, augmentation = fitted()
    first = views(augmentation, modality)
    assert views(augmentation, modality).equal(first)
    seen = [first, views(augmentation, modality, epoch=3), views(augmentation, modality, seed=5)]
    rows = torch.stack(seen).flatten(3).flatten(0, 2)
    assert len(rows.unique(dim=0)) == len(rows) == 3 * 2 * len(WAVES)


def test_more_views_leave_the_first_ones_alone():
    modality, augmentation = fitted()
    more = augmentation.model_copy(update={"views": 5})
    assert views(more, modality)[:2].equal(views(augmentation, modality))
    parts = Several(parts={"one": augmentation, "two": augmentation.model_copy(update={"views": 3})})
    assert views(parts, modality).equal(views(more, modality))


def test_everything_off_shows_what_an_encoder_sees():
    modality, augmentation = fitted(**OFF)
    assert augmentation.operations == ()
    seen = views(augmentation, modality)
    torch.testing.assert_close(seen[0], modality.plain(WAVES), atol=1e-4, rtol=0)
    assert seen[0].equal(seen[1])


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_can_be_switched_off_and_the_others_draw_the_same(name):
    modality, augmentation = fitted()
    off = AudioAugmentation.of(augmentation.tree() | {name: 0})
    assert set(augmentation.operations) - set(off.operations) == {name}
    before, after = (each._uniform(Names(1, 2, torch.arange(50))) for each in (augmentation, off))
    columns = {"crop": {0, 1}, "shift": {2}, "speed": {3}}
    cuts = (augmentation._cuts(before) != off._cuts(after)).any(0).nonzero().flatten().tolist()
    drawn, without = (each._drawn(before, 64, 40) for each in (augmentation, off))
    differing = {part for part in ("noise", "place", "gain", "bands", "frames")
                 if not getattr(drawn, part).equal(getattr(without, part))}  # fmt: skip
    changes = {
        "tone": {"gain"},
        "frequency_mask": {"bands"},
        "time_mask": {"frames"},
        "noise": {"noise"},
        "gain": {"gain"},
    }
    assert set(cuts) == columns.get(name, set())
    assert differing == changes.get(name, set())
    assert not views(only(augmentation, name), modality)[0].equal(modality.plain(WAVES))


def test_how_often_and_how_much():
    """Rates within four standard errors; amounts uniform over their ranges."""
    n = 10_000
    augmentation = AudioAugmentation(crop=(0.3, 0.9), speed=0.25, noise=0.3, gain=10, tone=0, shift=0.5, time_mask=0.4)
    u = augmentation._uniform(Names(0, 0, torch.arange(n // 2)))
    share, start, place, speed = augmentation._cuts(u).T
    assert kstest(share, "uniform", (0.3, 0.6)).pvalue > 1e-3
    assert kstest(start, "uniform").pvalue > 1e-3
    assert kstest(place, "uniform", (0.25, 0.5)).pvalue > 1e-3
    assert kstest(speed.log(), "uniform", (-math.log(1.25), 2 * math.log(1.25))).pvalue > 1e-3
    drawn = augmentation._drawn(u, 64, 100)
    noisy = drawn.noise > 0
    assert abs(noisy.double().mean() - 0.3) < 4 * math.sqrt(0.21 / n)
    assert kstest(-10 * drawn.noise[noisy].log10(), "uniform", (10, 30)).pvalue > 1e-3
    assert kstest(10 * drawn.gain[:, 0, 0].log10(), "uniform", (-10, 20)).pvalue > 1e-3
    hidden = drawn.frames[:, 0].sum(1)
    assert (hidden.min(), hidden.max()) == (0, 40)
    assert hidden.double().mean() == pytest.approx(20, rel=0.05)
    assert (drawn.frames[:, 0].int().diff(dim=1).abs().sum(1) <= 2).all()  # in one piece


def test_each_operation_does_what_its_name_says():
    modality, full = fitted(gain=6, tone=12)
    plain = modality.plain(WAVES)
    seen = {name: views(only(full, name), modality)[0] for name in OPERATIONS}
    powers = (plain * modality.std[0] + modality.mean[0]).exp() - FLOOR
    for name in ("gain", "tone"):
        alone = only(full, name)
        louder = alone._drawn(alone._uniform(Names(1, 2, torch.arange(len(WAVES)))), modality.mels, 2).gain
        assert louder[:, 0].equal(louder[:, -1]) == (name == "gain")
        expected = ((powers * louder[:, None] + FLOOR).log() - modality.mean[0]) / modality.std[0]
        torch.testing.assert_close(seen[name], expected, atol=1e-3, rtol=0)
    masked = seen["frequency_mask"] != plain
    assert (masked.all(3) | ~masked.any(3)).all()
    assert (seen["frequency_mask"][masked] == 0).all()
    assert (seen["noise"] >= plain - 0.5).float().mean() > 0.9
    for n, wave in enumerate(WAVES):  # moved in time, nothing else: each band is as loud as before
        if len(wave) < modality.length / 2:
            energy = (seen["shift"][n] * modality.std[0]).exp().sum(2), (plain[n] * modality.std[0]).exp().sum(2)
            assert (energy[0].argmax() - energy[1].argmax()).abs() <= 1


def test_speed_changes_the_pitch_by_as_much():
    wave = np.sin(2 * np.pi * 300 * np.arange(4000) / RATE).astype(np.float32)
    for speed in (0.8, 1.25):
        played = _played(wave, speed)
        assert len(played) == int(4000 / speed)
        pitch = np.abs(np.fft.rfft(played * np.hanning(len(played)))).argmax() * RATE / len(played)
        assert pitch == pytest.approx(300 * speed, abs=2)
    row = _cut(np.ones(1000, np.float32), 400, 0.5, 1.0, 0.0, 1.0)
    assert row.tolist() == [1.0] * 200 + [0.0] * 200
    assert _cut(np.ones(100, np.float32), 400, 1.0, 0.5, 1.0, 1.0).tolist() == [0.0] * 300 + [1.0] * 100
    assert _cut(np.ones(1, np.float32), 4, 0.1, 0.9, 0.9, 1.9).sum() == 1


def test_noise_is_as_loud_as_asked_and_silence_stays():
    augmentation = AudioAugmentation(noise=1, noise_ratio=(10, 10), views=1)
    sines = torch.sin(torch.arange(RATE) / 3) * torch.tensor([1.0, 0.1, 0.0])[:, None]
    drawn = augmentation._drawn(augmentation._uniform(Names(0, 0, torch.arange(3))), 64, 2)
    added = _noisy(sines, drawn) - sines
    assert added.square().mean(1).tolist() == pytest.approx([0.05, 0.0005, 0], rel=0.1)
    assert np.corrcoef(added[0], added[1])[0, 1] < 0.1  # from another place


WRONG = [
    *({"noise": 1.5}, {"crop": [0.5, 0.1]}, {"crop": [0, 0]}, {"views": 0}, {"speed": 3}, {"masks": 0}),
    *({"noise_ratio": [30, 10]}, {"gain": -1}, {"time_mask": 2}),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(WrongCall, match=next(iter(wrong))):
        AudioAugmentation.of(wrong)


# What people see ------------------------------------------------------------------------------------------------------


def test_what_is_odd_is_said():
    wave = tone(440, 1.0)
    clipped = (20 * wave).clip(-1, 1)
    odd = {"silent": 0 * wave, "constant": 0 * wave + 0.5, "almost silent": wave / 500, "clipped": clipped}
    for name, sound in odd.items():
        assert Audio().looks((sound, RATE)).odd == (name,), name
    assert Audio().looks((np.stack([wave, -wave]), RATE)).odd == ("channels cancel each other",)
    assert Audio().looks((wave[:100], RATE)).odd == ("very short",)
    looks = Audio().looks(stored(np.stack([wave, wave], 1)))
    assert (looks.extent, looks.kind, looks.odd, looks.traits) == ((1000,), "4,000 Hz, stereo", (), ())
    assert oddities(decoded((wave, RATE))) == ()


def test_pictures_show_when_and_how_high():
    modality = Audio(sampling_rate=RATE)
    half = np.concatenate([tone(250, 1.0), np.zeros(RATE, np.float32)])
    picture = np.asarray(modality.thumbnail(half, 100)).astype(int).sum(2)
    assert picture.shape == (50, 100)
    assert picture[:, :50].sum() > 2 * picture[:, 55:].sum()
    assert picture[25:].sum() > 2 * picture[:25].sum()  # low tones below
    gist = Audio().looks((half, RATE)).gist
    np.testing.assert_allclose(gist, Audio().looks((half / 5, RATE)).gist, atol=20)
    assert gist.shape == (32, 32)
    assert (gist != Audio().looks((half[::-1], RATE)).gist).any()


def test_the_sheet_shows_every_operation():
    modality, augmentation = fitted(time_mask=0)
    items = WAVES[:2]
    picture = sheet(modality, augmentation, items, Names(0, 0, torch.arange(2)), views=3)
    again = sheet(modality, augmentation, items, Names(1, 0, torch.arange(2)), views=3)
    assert picture.mode == "RGB"
    assert np.asarray(picture).tobytes() != np.asarray(again).tobytes()
    assert augmentation.sheet(items, modality, Names(0, 0, torch.arange(2))).width > picture.width
    several = Several(parts={"a": augmentation, "b": augmentation})
    assert several.sheet(items, modality, Names(0, 0, torch.arange(2))).height > 2 * picture.height


# Training -------------------------------------------------------------------------------------------------------------


def test_an_encoder_takes_it():
    modality = Audio().fitted(RAWS)
    encoder = default_encoder("Audio", torch.device("cpu"))
    assert isinstance(encoder, Residual)
    net = encoder.filled(modality.facts).build()
    assert net(modality.plain(WAVES)).shape == (len(WAVES), encoder.dim)


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "vicreg", "supcon", "swav", "lejepa", "triplet"])
def test_methods_train_on_recordings(name, tones):
    labels = {"labels": "label"} if name in ("supcon", "triplet") else {}
    done = list(likeness.steps(tones, name, steps=3, **TINY, **labels))
    assert len(done) == 3
    assert all(math.isfinite(step.loss) for step in done)


@pytest.fixture(scope="module")
def run(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> likeness.Run:
    """Trained for a few steps on `tones`; nobody writes to it."""
    return likeness.train(tones, out=tmp_path_factory.mktemp("runs") / "run", steps=4, **TINY)


def test_a_run_is_searched_like_any_other(run, tones):
    encoder = likeness.load(run.path)
    hit = encoder.embed(tones).search(tones / "low" / "03.wav", k=1)[0]
    assert (hit.id, round(hit.score, 3)) == ("low/03.wav", 1)
    assert encoder.modality.label() == "Audio"
    assert encoder(encoder.preprocess([(tone(440, 0.2, 8000), 8000)])).shape == (1, 16)


def test_what_a_folder_holds_is_seen(run, tones, tmp_path):
    source = likeness.read(tones)
    seen, gists = Inspector(source, "audio", Audio()).inspect(9, 1)
    assert (seen.read, seen.kinds, seen.odd, seen.aspect) == (24, {"4,000 Hz, mono": 24}, {}, None)
    assert (seen.extent.least, seen.extent.typical, seen.extent.most) == ((250,), (325,), (400,))
    assert findings._extent(seen.extent, seen.unit) == "325 ms typical (250 to 400)"
    assert len(gists.rows) == 24
    draw_views(Data().fitted(source), source, 0, tmp_path / "views.png")
    assert (tmp_path / "views.png").stat().st_size > 1000
    sheet_of = contact_sheet(Audio(sampling_rate=RATE), [("a", tones / "low" / "00.wav", [])], tmp_path / "hits.png")
    assert sheet_of.exists()


def test_an_encoder_is_exported_with_what_it_is_shown(run, tmp_path):
    export(run.path, "safetensors", tmp_path / "out")
    assert likeness.load(tmp_path / "out").modality == likeness.load(run.path).modality
    card = (tmp_path / "out" / "README.md").read_text()
    assert "HTK" in card
    assert "| sampling_rate | 4000 |" in card


def test_tables_and_python_values_are_read(tones):
    paths = sorted(tones.rglob("*.wav"))
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"audio": pa.array(cells, kind), "label": [path.parent.name for path in paths]})
    waves = [Audio().read(path) for path in paths]
    for source in (table, [(wave, RATE) for wave in waves], [{"array": w, "sampling_rate": RATE} for w in waves],
                   {"sound": [(wave, RATE) for wave in waves]}, [str(path) for path in paths]):  # fmt: skip
        read = likeness.read(source)
        assert read.roles == {"audio": "Audio"}
        np.testing.assert_array_equal(Audio(sampling_rate=RATE).read(read.raw("audio", 3)), waves[3])
    named = pa.table({"audio": [str(path) for path in paths], "label": [path.parent.name for path in paths]})
    assert likeness.read(named).roles == {"audio": "Audio"}


def test_long_arrays_that_differ_in_their_middle_are_no_copies():
    one = np.zeros(5000, np.float32)
    other = one.copy()
    other[2500] = 1
    for wrap in (lambda wave: (wave, RATE), lambda wave: {"array": wave, "sampling_rate": RATE}):
        assert content(wrap(one)) == content(wrap(one.copy())) != content(wrap(other))
        assert [*identities(wrap(one))] == [*identities(wrap(one.copy()))] != [*identities(wrap(other))]


def test_batches_are_the_same_from_any_cache_and_any_number_of_workers(tones):
    ways = [{"cache": "none"}, {"cache": "memory", "workers": 2}, {"cache": "disk", "workers": 1}, {"cache": "disk"}]
    losses = [[step.loss for step in likeness.steps(tones, "simclr", **{**TINY, "steps": 4, **way})] for way in ways]
    assert losses == losses[:1] * len(ways)


def test_a_damaged_recording_is_quarantined_and_the_rest_trains(tmp_path):
    folder = write_tones(tmp_path / "some", 6)
    (folder / "low" / "bad.wav").write_bytes(b"RIFF of nothing")
    run = likeness.train(folder, out=tmp_path / "run", steps=2, **TINY)
    line = json.loads((run.path / "quarantine.jsonl").read_text())
    assert line == {"id": "low/bad.wav", "reason": "no sound of a known format"}
