"""Times follow the container: a later beginning, pauses in what was sent, counts that start anew."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fun_asr.audio.decode import SAMPLE_RATE, decode, stream
from fun_asr.audio.report import AudioReport

CODECS = {
    "a.mkv": ("aac", 16_000), "a.mp4": ("aac", 44_100), "a.mov": ("aac", 32_000), "a.ts": ("aac", 48_000),
    "a.webm": ("libopus", 48_000), "b.mkv": ("pcm_s16le", 16_000), "c.mkv": ("libopus", 48_000),
    "d.mkv": ("libmp3lame", 44_100), "e.mkv": ("flac", 16_000),
}  # fmt: skip


def at_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    times = np.arange(0, len(samples) / rate, 1 / SAMPLE_RATE)
    return np.interp(times, np.arange(len(samples)) / rate, samples).astype(np.float32)


@pytest.mark.parametrize("delay", [0.5, 3.0, 75.0])
@pytest.mark.parametrize("name", CODECS)
def test_audio_that_begins_later_than_the_picture(
    tmp_path: Path, make: SimpleNamespace, name: str, delay: float
) -> None:
    codec, rate = CODECS[name]
    samples = make.voice(3.0, 0, rate)
    make.write_tracks(tmp_path / name, [[(delay, samples)]], codec, rate=rate, video_seconds=delay + 4)
    report = AudioReport()
    found = decode(tmp_path / name, report=report)
    place, likeness = make.lag(found, at_16k(samples, rate))
    # An encoder's delay is left in where the container cannot state it.
    assert place == pytest.approx(delay, abs=0.08)
    assert likeness > 0.8
    assert np.abs(found[: round((delay - 0.1) * SAMPLE_RATE)]).max() < 1e-3
    assert report.lines() == []


@pytest.mark.parametrize("gap", [0.5, 4.8, 100.0])
@pytest.mark.parametrize("name", CODECS)
def test_a_gap_is_silence(tmp_path: Path, make: SimpleNamespace, name: str, gap: float) -> None:
    codec, rate = CODECS[name]
    first, second = make.voice(2.0, 1, rate), make.voice(3.0, 2, rate)
    make.write_tracks(tmp_path / name, [[(0.0, first), (2.0 + gap, second)]], codec, rate=rate, video_seconds=gap + 6)
    report = AudioReport()
    found = decode(tmp_path / name, report=report)
    for samples, start in ((first, 0.0), (second, 2.0 + gap)):
        place, likeness = make.lag(found, at_16k(samples, rate))
        assert place == pytest.approx(start, abs=0.08)
        assert likeness > 0.8
    assert report.lines() == []


def test_a_gap_takes_no_memory(tmp_path: Path, make: SimpleNamespace) -> None:
    samples = make.voice(1.0)
    path = make.write_tracks(tmp_path / "a.mkv", [[(0.0, samples), (5000.0, samples)]], "pcm_s16le")
    blocks = 0
    for block in stream(path, 1.0):
        assert len(block) <= SAMPLE_RATE
        blocks += 1
    assert blocks == 5001


def test_times_do_not_drift_over_an_hour(tmp_path: Path, make: SimpleNamespace) -> None:
    minute = make.voice(60.0, 0, 44_100)
    path = make.write_tracks(tmp_path / "a.mkv", [[(0.0, np.tile(minute, 60))]], "pcm_s16le", rate=44_100)
    found = decode(path)
    assert len(found) == 3600 * SAMPLE_RATE
    place, _ = make.lag(found[3500 * SAMPLE_RATE :], at_16k(minute, 44_100)[: 30 * SAMPLE_RATE])
    assert place == pytest.approx(40.0, abs=2 / SAMPLE_RATE)


def test_a_stream_whose_count_starts_anew(tmp_path: Path, make: SimpleNamespace) -> None:
    parts = [make.write_tracks(tmp_path / f"{seed}.ts", [[(0.0, make.voice(3.0, seed))]]) for seed in (1, 2)]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    found = decode(tmp_path / "a.ts")
    assert make.lag(found, make.voice(3.0, 2))[0] == pytest.approx(3.1, abs=0.2)
