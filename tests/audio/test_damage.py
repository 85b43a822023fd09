"""What can be decoded is, what cannot is said, and what follows a hole stays at its time."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from fun_asr.audio.decode import SAMPLE_RATE, decode, stream
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.prefetch import EndOfRecording, read_segments
from fun_asr.audio.report import AudioReport, Loss
from fun_asr.errors import AudioDecodeError

SECONDS = 16.0
LIBSNDFILE = {"a.flac": "FLAC", "a.mp3": "MP3", "a.ogg": "OGG", "a.opus": "OPUS"}
CODECS = {
    "a.m4a": "aac",
    "v.mp4": "aac",
    "a.aac": "aac",
    "a.mkv": "aac",
    "a.mka": "libopus",
    "a.webm": "libopus",
    "a.ts": "aac",
    "f.mka": "flac",
    "a.ac3": "ac3",
}
PCM = ["a.wav", "a.aiff", "a.au", "a.caf", "a.w64", "a.rf64"]


def write(make: SimpleNamespace, path: Path) -> bytearray:
    if path.name in CODECS:
        rate = 48_000 if CODECS[path.name] in ("libopus", "ac3") else SAMPLE_RATE
        samples = make.voice(SECONDS, 0, rate)
        make.write_tracks(
            path, [[(0.0, samples)]], CODECS[path.name], rate=rate, video_seconds=2.0 if path.name[0] == "v" else 0.0
        )
    elif path.name in PCM:
        soundfile.write(path, make.voice(SECONDS), SAMPLE_RATE)
    elif path.suffix == ".opus":
        soundfile.write(path, make.voice(SECONDS), SAMPLE_RATE, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, make.voice(SECONDS), SAMPLE_RATE)
    return bytearray(path.read_bytes())


def check_times(make: SimpleNamespace, path: Path, found: np.ndarray, upto: float, tolerance: float) -> None:
    """The first two seconds, and the last two of those that there should be, stand where they stood undamaged."""
    rate = 48_000 if CODECS.get(path.name) in ("libopus", "ac3") else SAMPLE_RATE
    whole = make.voice(SECONDS, 0, rate)[:: rate // SAMPLE_RATE]
    for start in (1.0, upto - 3.0):
        part = whole[round(start * SAMPLE_RATE) :][: 2 * SAMPLE_RATE]
        place, likeness = make.lag(found, part)
        assert place == pytest.approx(start, abs=tolerance)
        assert likeness > 0.8


@pytest.mark.parametrize("width", [40, 3000])
@pytest.mark.parametrize("name", [*LIBSNDFILE, *CODECS])
def test_damage_inside_is_a_hole_of_the_same_length(
    tmp_path: Path, make: SimpleNamespace, name: str, width: int
) -> None:
    data = write(make, tmp_path / name)
    middle = len(data) // 2
    data[middle : middle + width] = np.random.default_rng(3).bytes(width)
    (tmp_path / name).write_bytes(data)
    report = AudioReport()
    found = decode(tmp_path / name, report=report)
    assert len(found) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.3)
    # Encoders' delay, where the container has no place for it; MP3's packets are counted by their bytes.
    check_times(make, tmp_path / name, found, SECONDS, 0.15)
    if width == 3000:
        assert report.lost
        assert "\n" not in report.lines()[0]
        for loss in report.lost:
            start, length = loss.seconds
            assert start == pytest.approx(SECONDS / 2, abs=2.0)
            assert length is not None and 0 < length < 4.5  # an Ogg page may be long
        with pytest.raises(AudioDecodeError, match="damaged"):
            decode(tmp_path / name, AudioOptions(strict=True))


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.93])
@pytest.mark.parametrize("name", [*PCM, *LIBSNDFILE, *CODECS])
def test_the_beginning_of_what_is_cut_short(tmp_path: Path, make: SimpleNamespace, name: str, kept: float) -> None:
    data = write(make, tmp_path / name)
    (tmp_path / name).write_bytes(data[: round(kept * len(data))])
    report = AudioReport()
    if name in ("a.m4a", "v.mp4"):
        # Their index comes last.
        with pytest.raises(AudioDecodeError, match="cut short"):
            decode(tmp_path / name, report=report)
        return
    found = decode(tmp_path / name, report=report)
    assert kept * SECONDS - 4.5 < len(found) / SAMPLE_RATE < kept * SECONDS + 0.7
    check_times(make, tmp_path / name, found, len(found) / SAMPLE_RATE, 0.15)
    # A transport stream or ADTS may end anywhere: only the packet that is cut is missed, if one is.
    if name not in ("a.ts", "a.aac", "a.ac3"):
        assert report.lost[-1].start == pytest.approx(len(found), abs=SAMPLE_RATE // 10)
        assert not report.lost[-1].filled
    if name in (*PCM, "a.flac", "a.mkv", "a.mp3"):
        assert report.lost[-1].length == pytest.approx((1 - kept) * SECONDS * SAMPLE_RATE, abs=1.0 * SAMPLE_RATE)


def test_mp4_whose_index_comes_first(tmp_path: Path, make: SimpleNamespace) -> None:
    path = make.write_tracks(tmp_path / "a.m4a", [[(0.0, make.voice(8.0))]], options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: round(0.7 * len(data))])
    report = AudioReport()
    found = decode(path, report=report)
    (loss,) = report.lost
    assert (loss.start + (loss.length or 0)) / SAMPLE_RATE == pytest.approx(8.0, abs=0.1)
    assert make.lag(found, make.voice(8.0)[: 4 * SAMPLE_RATE])[0] == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("zeros", [3000, 50_000])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_zeros_in_mp3(tmp_path: Path, make: SimpleNamespace, zeros: int, place: float) -> None:
    data = write(make, tmp_path / "a.mp3")
    at = round(place * len(data))
    (tmp_path / "a.mp3").write_bytes(data[:at] + bytes(zeros) + data[at:])
    report = AudioReport()
    found = decode(tmp_path / "a.mp3", report=report)
    assert len(found) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.2)
    check_times(make, tmp_path / "a.mp3", found, SECONDS, 0.1)
    assert place == 0.5 or not report.lost


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_zero(tmp_path: Path, make: SimpleNamespace, bad: float) -> None:
    samples = make.voice(3.0)
    damaged = samples.copy()
    damaged[12_345:12_347] = bad
    soundfile.write(tmp_path / "a.wav", damaged, SAMPLE_RATE, subtype="FLOAT")
    report = AudioReport()
    found = decode(tmp_path / "a.wav", report=report)
    samples[12_345:12_347] = 0
    np.testing.assert_array_equal(found, samples)
    assert report.lines() == ["2 samples are not a finite number; taken as 0"]


def test_one_wild_sample_leaves_the_others(tmp_path: Path, make: SimpleNamespace) -> None:
    samples = make.voice(3.0)
    samples[12_345] = 20_000.0
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    report = AudioReport()
    found = decode(tmp_path / "a.wav", report=report)
    np.testing.assert_array_equal(found, np.clip(samples, -1, 1))
    assert "far outside" in report.lines()[0]


@pytest.mark.parametrize("scale", [32_768.0, 2.0**31, 40.0])
def test_floats_over_full_scale_are_made_quieter(tmp_path: Path, make: SimpleNamespace, scale: float) -> None:
    samples = make.voice(3.0) / np.abs(make.voice(3.0)).max()
    soundfile.write(tmp_path / "a.wav", scale * samples, SAMPLE_RATE, subtype="FLOAT")
    report = AudioReport()
    np.testing.assert_allclose(decode(tmp_path / "a.wav", report=report), samples, atol=1e-5)
    assert "times full scale" in report.lines()[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.mp3", b"<!DOCTYPE html><html><body>404 not found</body></html>\n"),
        ("text.mp3", b"just text\n"),
        ("random.mp3", np.random.default_rng(0).bytes(3000)),
        ("zeros.mp3", bytes(5000)),
        ("page.wav", b"<html></html>"),
        ("json.ogg", b'{"error": "not found"}'),
    ],
)
def test_what_is_no_recording_gives_one_line_and_no_notes(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    code = (
        "import sys; from fun_asr.audio.decode import decode, probe\n"
        "probe(sys.argv[1])\n"
        "try: decode(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / name], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("AudioDecodeError") and done.stdout.count("\n") == 1


def test_the_report_comes_with_the_end_of_the_recording(tmp_path: Path, make: SimpleNamespace) -> None:
    data = write(make, tmp_path / "a.flac")
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    for strict in (False, True):
        *_, end = read_segments([str(tmp_path / "a.flac")], options=AudioOptions(strict=strict))
        assert isinstance(end, EndOfRecording)
        assert (end.error is not None) == strict
        assert strict or end.report.incomplete


def test_a_report_joins_what_belongs_together_and_stays_small() -> None:
    report = AudioReport()
    report.lose(Loss(0, 160, "damaged"))
    report.lose(Loss(160, 160, "damaged"))
    assert report.lost == [Loss(0, 320, "damaged")]
    for second in range(1, 5000):
        report.lose(Loss(second * SAMPLE_RATE, 160, "damaged"))
    assert len(report.lost) == 1000 and report.unlisted_losses == 4000
    (line,) = report.lines()
    assert "and 4997 more" in line and len(line) < 300


def test_memory_stays_bounded_over_damage(tmp_path: Path, make: SimpleNamespace) -> None:
    data = write(make, tmp_path / "a.mp3")
    for place in range(10_000, len(data) - 10_000, 5000):
        data[place : place + 300] = bytes(300)
    (tmp_path / "a.mp3").write_bytes(data)
    report = AudioReport()
    blocks = list(stream(tmp_path / "a.mp3", 1.0, report=report))
    assert {len(block) for block in blocks[:-1]} == {SAMPLE_RATE}
    assert sum(map(len, blocks)) / SAMPLE_RATE == pytest.approx(SECONDS, abs=1.0)
