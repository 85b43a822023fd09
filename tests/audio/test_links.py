"""Files that hold several recordings, or one behind or before something else: each is heard, whole and at its time."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fun_asr.audio.decode import SAMPLE_RATE, decode
from fun_asr.audio.report import AudioReport

JOINED = {
    "a.wav": ("WAV", None),
    "a.aiff": ("AIFF", None),
    "a.flac": ("FLAC", None),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", None),
}


@pytest.mark.parametrize("rates", [(16_000, 16_000), (16_000, 48_000), (48_000, 24_000)])
@pytest.mark.parametrize("channels", [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("name", JOINED)
def test_every_link_is_heard(
    tmp_path: Path, make: SimpleNamespace, name: str, rates: tuple[int, int], channels: tuple[int, int]
) -> None:
    first, second = make.voice(2.0, 1, rates[0]), make.voice(3.0, 2, rates[1])
    parts = zip((first, second), rates, channels, strict=True)
    (tmp_path / name).write_bytes(
        b"".join(make.encoded(np.repeat(part[:, None], count, 1), *JOINED[name], rate) for part, rate, count in parts)
    )
    report = AudioReport()
    found = decode(tmp_path / name, report=report)
    assert report.links == 2
    assert report.lines() == []
    # MP3 of libsndfile pads its last frame.
    assert len(found) == pytest.approx(5 * SAMPLE_RATE, abs=0.15 * SAMPLE_RATE if name == "a.mp3" else 20)
    for start, seconds, seed in ((0.0, 2.0, 1), (2.0, 3.0, 2)):
        rate = rates[seed - 1]
        place, likeness = make.lag(
            found,
            make.voice(seconds, seed, rate)[:: rate // SAMPLE_RATE]
            if rate % 16_000 == 0
            else np.interp(
                np.arange(0, seconds, 1 / 16_000), np.arange(0, seconds, 1 / rate), make.voice(seconds, seed, rate)
            ).astype(np.float32),
        )
        assert place == pytest.approx(start, abs=0.08 if name == "a.mp3" else 0.002)
        assert likeness > 0.9


def test_a_thousand_links(tmp_path: Path, make: SimpleNamespace) -> None:
    data = make.encoded(make.voice(0.1), "FLAC")
    (tmp_path / "a.flac").write_bytes(data * 1000)
    assert len(decode(tmp_path / "a.flac")) == 100 * SAMPLE_RATE


@pytest.mark.parametrize("name", ["a.webm", "a.mka"])
@pytest.mark.parametrize("live", ["0", "1"])
def test_joined_matroska(tmp_path: Path, make: SimpleNamespace, name: str, live: str) -> None:
    data = b""
    for seed in (1, 2):
        options = {"live": live} if name == "a.webm" else {}
        path = make.write_tracks(
            tmp_path / f"{seed}{name}",
            [[(0.0, make.voice(2.0, seed, 48_000))]],
            "libopus",
            rate=48_000,
            options=options,
        )
        data += path.read_bytes()
    (tmp_path / name).write_bytes(data)
    found = decode(tmp_path / name)
    assert len(found) == pytest.approx(4 * SAMPLE_RATE, abs=800)
    assert make.lag(found, make.voice(2.0, 2, 48_000)[::3])[0] == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("a.wav", bytes(16)),
        ("a.opus", b"\xff\xfb"),
        ("a.flac", b"\x00garbage"),
        ("a.mp3", bytes(3000)),
        ("a.ogg", b"\r\n\r\n"),
    ],
)
def test_what_stands_before_a_recording_is_passed_over(
    tmp_path: Path, make: SimpleNamespace, name: str, before: bytes
) -> None:
    samples = make.voice(2.0)
    (tmp_path / name).write_bytes(before + make.encoded(samples, *JOINED[name]))
    place, likeness = make.lag(decode(tmp_path / name), samples)
    assert place == pytest.approx(0.0, abs=0.002 if name != "a.mp3" else 0.08)
    assert likeness > 0.95


@pytest.mark.parametrize(
    "after", [b"TAG" + bytes(125), b"APETAGEX" + bytes(200), bytes(1000), b"LIST\x1a\0\0\0INFOISFT"]
)
@pytest.mark.parametrize("name", JOINED)
def test_what_stands_behind_a_recording_is_no_loss(
    tmp_path: Path, make: SimpleNamespace, name: str, after: bytes
) -> None:
    (tmp_path / name).write_bytes(make.encoded(make.voice(3.0), *JOINED[name]) + after)
    report = AudioReport()
    assert len(decode(tmp_path / name, report=report)) == pytest.approx(3 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    assert report.lost == []


@pytest.mark.parametrize("after", [b"TAG" + bytes(125), bytes(1000)])
def test_a_tag_behind_mp4_is_no_loss(tmp_path: Path, make: SimpleNamespace, after: bytes) -> None:
    path = make.write_tracks(tmp_path / "a.m4a", [[(0.0, make.voice(3.0))]])
    path.write_bytes(path.read_bytes() + after)
    report = AudioReport()
    assert len(decode(path, report=report)) == pytest.approx(3 * SAMPLE_RATE, abs=2048)
    assert report.lost == []


@pytest.mark.parametrize("size", ["plus8", "plus36", "plus44", "0", "ff", "7f", "half", "third"])
def test_wave_sizes_as_recorders_write_them(tmp_path: Path, make: SimpleNamespace, size: str) -> None:
    samples = make.voice(3.0)
    data = bytearray(make.encoded(samples, "WAV"))
    length = len(data) - 44
    written = {
        "plus8": length + 8, "plus36": length + 36, "plus44": length + 44, "0": 0, "ff": 0xFFFFFFFF, "7f": 0x7FFFFFFF,
        "half": length // 2, "third": length // 3 + 1,
    }[size]  # fmt: skip
    data[40:44] = written.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    report = AudioReport()
    found = decode(tmp_path / "a.wav", report=report)
    assert len(found) == len(samples)
    np.testing.assert_allclose(found, samples, atol=1 / 32768)
    assert report.lines() == []
