"""Several audio tracks: the one that is meant, by number or language, or all; and silence is said."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from av.stream import Disposition

from fun_asr.audio.decode import SAMPLE_RATE, decode, passes
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.report import AudioReport
from fun_asr.errors import AudioDecodeError, ConfigError


def two(make: SimpleNamespace, path: Path, **options: object) -> Path:
    tracks = [[(0.0, make.voice(2.0, seed))] for seed in (1, 2)]
    return make.write_tracks(path, tracks, languages=["ger", "eng"], **options)


def taken(make: SimpleNamespace, path: Path, track: str | None = None) -> int:
    found = decode(path, AudioOptions(track=track))
    return max((1, 2), key=lambda seed: make.lag(found, make.voice(2.0, seed))[1])


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.mov"])
@pytest.mark.parametrize(
    ("track", "expected"), [("1", 1), ("2", 2), ("ger", 1), ("de", 1), ("deu", 1), ("eng", 2), ("en-US", 2), ("EN", 2)]
)
def test_a_track_is_chosen(tmp_path: Path, make: SimpleNamespace, name: str, track: str, expected: int) -> None:
    assert taken(make, two(make, tmp_path / name), track) == expected


def test_a_track_that_is_not_there(tmp_path: Path, make: SimpleNamespace) -> None:
    path = two(make, tmp_path / "a.mkv")
    for track in ("3", "fr"):
        with pytest.raises(AudioDecodeError, match=r"1 \(ger\), 2 \(eng\)"):
            decode(path, AudioOptions(track=track))
    (tmp_path / "a.wav").write_bytes(make.encoded(make.voice(1.0), "WAV"))
    assert len(decode(tmp_path / "a.wav", AudioOptions(track="1"))) == SAMPLE_RATE
    with pytest.raises(AudioDecodeError, match="one audio track"):
        decode(tmp_path / "a.wav", AudioOptions(track="2"))
    with pytest.raises(ConfigError, match="track"):
        AudioOptions(track="0")


def test_the_commentary_is_not_the_film(tmp_path: Path, make: SimpleNamespace) -> None:
    path = two(make, tmp_path / "a.mkv", dispositions=[Disposition.comment, Disposition(0)])
    assert taken(make, path) == 2


def test_all_tracks(tmp_path: Path, make: SimpleNamespace) -> None:
    report = AudioReport()
    found = {
        one.track: np.concatenate(list(one.blocks()))
        for one in passes(two(make, tmp_path / "a.mkv"), AudioOptions(track="all"), report)
    }
    assert list(found) == [1, 2]
    assert all(make.lag(samples, make.voice(2.0, track))[1] > 0.9 for track, samples in found.items())
    assert [(track.number, track.language) for track in report.tracks] == [(1, "ger"), (2, "eng")]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_silent_track_beside_one_that_is_not(tmp_path: Path, make: SimpleNamespace, name: str) -> None:
    silence, voice = np.zeros(2 * SAMPLE_RATE, np.float32), make.voice(2.0)
    path = make.write_tracks(tmp_path / name, [[(0.0, silence)], [(0.0, voice)]])
    report = AudioReport()
    decode(path, report=report)
    assert report.lines() == ["audio track 1 of 2 is silent, and track 2 is not; choose with --track 2"]
    for tracks in ([[(0.0, silence)], [(0.0, silence)]], [[(0.0, voice)], [(0.0, silence)]]):
        report = AudioReport()
        decode(make.write_tracks(tmp_path / name, tracks), report=report)
        assert report.lines() == []
