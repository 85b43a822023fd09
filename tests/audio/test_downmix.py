"""Several channels: nothing cancels, each can be chosen, and calls are noticed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from fun_asr.audio.calls import note_call
from fun_asr.audio.decode import SAMPLE_RATE, decode, passes
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.prefetch import AudioSegment, EndOfRecording, read_segments
from fun_asr.audio.report import AudioReport
from fun_asr.audio.vad import SpeechDetector
from fun_asr.errors import AudioDecodeError, ConfigError


def write(path: Path, *channels: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    soundfile.write(path, np.stack(channels, 1), rate, subtype="PCM_24" if path.suffix != ".ogg" else None)
    return path


# Vorbis at 8 kHz leaves little of the phase.
@pytest.mark.parametrize(
    ("name", "rate"), [("a.wav", 8000), ("a.wav", 16_000), ("a.flac", 48_000), ("a.ogg", 16_000), ("a.ogg", 48_000)]
)
def test_opposite_phases_do_not_cancel(tmp_path: Path, make: SimpleNamespace, name: str, rate: int) -> None:
    samples = make.voice(6.0, rate=rate)
    report = AudioReport()
    found = decode(write(tmp_path / name, samples, -samples, rate=rate), report=report)
    alone = decode(tmp_path / name, AudioOptions(channels="left"))
    assert np.std(found) == pytest.approx(np.std(alone), rel=0.02)
    assert any("opposite phase" in line for line in report.lines())


@pytest.mark.parametrize(("gain", "noise"), [(0.9, 0.0), (0.5, 0.0), (1.0, 0.1), (0.3, 0.02)])
def test_nearly_opposite_phases_do_not_cancel_either(
    tmp_path: Path, make: SimpleNamespace, gain: float, noise: float
) -> None:
    samples = make.voice(6.0)
    left = samples + noise * make.voice(6.0, 5)
    found = decode(write(tmp_path / "a.wav", left, -gain * samples + noise * make.voice(6.0, 6)))
    assert np.std(found) > 0.9 * (1 + gain) / 2 * np.std(samples)


def test_phases_that_turn_within_a_recording(tmp_path: Path, make: SimpleNamespace) -> None:
    samples = make.voice(12.0)
    right = samples.copy()
    right[4 * SAMPLE_RATE : 8 * SAMPLE_RATE] *= -1
    found = decode(write(tmp_path / "a.wav", samples, right))
    for second in range(12):
        part = slice(second * SAMPLE_RATE, (second + 1) * SAMPLE_RATE)
        assert np.std(found[part]) > 0.8 * np.std(samples[part])


def test_one_of_six_channels_is_reversed(tmp_path: Path, make: SimpleNamespace) -> None:
    samples = make.voice(4.0)
    found = decode(write(tmp_path / "a.wav", *[samples] * 3, *[-samples] * 3))
    assert np.std(found) == pytest.approx(np.std(samples), rel=0.01)


def test_a_voice_in_one_channel_only_is_kept(tmp_path: Path, make: SimpleNamespace) -> None:
    samples = make.voice(4.0)
    report = AudioReport()
    found = decode(write(tmp_path / "a.wav", np.zeros_like(samples), samples), report=report)
    np.testing.assert_allclose(found, samples / 2, atol=1e-5)
    assert report.lines() == []


@pytest.mark.parametrize(("channels", "expected"), [("left", 0), ("right", 1), ("1", 0), ("2", 1), ("3", 2)])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_channel_is_chosen(tmp_path: Path, make: SimpleNamespace, name: str, channels: str, expected: int) -> None:
    voices = [make.voice(3.0, seed) for seed in range(3)]
    found = decode(write(tmp_path / name, *voices), AudioOptions(channels=channels))
    np.testing.assert_allclose(found, voices[expected], atol=1e-5)


def test_a_channel_that_is_not_there(tmp_path: Path, make: SimpleNamespace) -> None:
    stereo, mono = (write(tmp_path / f"{count}.wav", *[make.voice(1.0)] * count) for count in (2, 1))
    with pytest.raises(AudioDecodeError, match="has 2 channels, not 3"):
        decode(stereo, AudioOptions(channels="3"))
    with pytest.raises(AudioDecodeError, match="has 1 channel, not 2"):
        decode(mono, AudioOptions(channels="2"))
    report = AudioReport()
    assert len(decode(mono, AudioOptions(channels="right"), report)) == SAMPLE_RATE
    assert "one channel" in report.lines()[0]


@pytest.mark.parametrize("channels", ["0", "both", "-1", "1.5", ""])
def test_channels_that_mean_nothing(channels: str) -> None:
    with pytest.raises(ConfigError, match="channels"):
        AudioOptions(channels=channels)


def test_each_channel_by_itself(tmp_path: Path, make: SimpleNamespace) -> None:
    voices = [make.voice(3.0, seed) for seed in range(3)]
    path = write(tmp_path / "a.wav", *voices)
    report = AudioReport()
    found = {
        one.channel: np.concatenate(list(one.blocks())) for one in passes(path, AudioOptions(channels="each"), report)
    }
    assert list(found) == [1, 2, 3]
    for channel, samples in found.items():
        np.testing.assert_allclose(samples, voices[channel - 1], atol=1e-5)
    assert report.channels == 3


def test_segments_of_each_channel(tmp_path: Path, make: SimpleNamespace) -> None:
    path = write(tmp_path / "a.wav", make.voice(40.0, 1), make.voice(40.0, 2))
    events = list(read_segments([str(path), str(path)], options=AudioOptions(channels="each")))
    for recording in (0, 1):
        own = [event for event in events if event.recording == recording]
        assert isinstance(own[-1], EndOfRecording) and own[-1].error is None
        for channel in (1, 2):
            spans = [event.span for event in own if isinstance(event, AudioSegment) and event.channel == channel]
            assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
            assert spans[-1].end == 40 * SAMPLE_RATE


class Loudness(SpeechDetector):
    """Takes everything that is not silent for speech."""

    def forward(self, windows: torch.Tensor, state: object = None) -> tuple[torch.Tensor, object]:
        return (windows.square().mean(dim=1) > 1e-5).float(), None


def heard(path: Path) -> str:
    report = AudioReport()
    for one in passes(path, AudioOptions(), report):
        for _ in one.blocks():
            pass
        note_call(one.apart, Loudness(), one.report)
    return " ".join(report.lines())


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_a_call_is_noticed(tmp_path: Path, make: SimpleNamespace, together: bool, rate: int) -> None:
    one, other = make.voice(6.0, 1, rate), make.voice(6.0, 2, rate)
    silence = np.zeros_like(one)
    channels = (one, other) if together else (np.concatenate([one, silence]), np.concatenate([silence, other]))
    assert "channels 1 and 2 hold different speech" in heard(write(tmp_path / "a.wav", *channels, rate=rate))


@pytest.mark.parametrize("kind", ["same", "delayed", "panned", "opposite", "quiet", "one"])
def test_what_is_no_call_is_not_taken_for_one(tmp_path: Path, make: SimpleNamespace, kind: str) -> None:
    samples = make.voice(8.0)
    other = {
        "same": samples,
        "delayed": np.roll(samples, 200),
        "panned": 0.4 * samples,
        "opposite": -samples,
        "quiet": 0.02 * make.voice(8.0, 1),
        "one": np.zeros_like(samples),
    }[kind]
    assert "different speech" not in heard(write(tmp_path / "a.wav", samples, other))


def test_a_call_is_said_at_the_end_of_the_recording(tmp_path: Path, make: SimpleNamespace) -> None:
    path = write(tmp_path / "a.wav", make.voice(6.0, 1), make.voice(6.0, 2))
    *_, end = read_segments([str(path)], detector=Loudness())
    assert isinstance(end, EndOfRecording)
    assert "--channels each" in end.report.lines()[0]
