"""The speech detector: the same probabilities as Silero VAD's own network, in any blocks."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fun_asr.audio.decode import decode
from fun_asr.audio.vad import WINDOW, SpeechDetector, load_speech_detector, speech_probabilities
from fun_asr.errors import CheckpointError
from fun_asr.transcriber import BUNDLED_MODEL
from fun_asr.weights.directory import VAD_FILE

DATA = Path(__file__).parents[1] / "data"
CLIP = decode(DATA / "cv-00001.opus")


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    found = load_speech_detector(BUNDLED_MODEL / VAD_FILE)
    assert found is not None
    return found


def probabilities(detector: SpeechDetector, blocks: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([found for _, found in speech_probabilities(detector, blocks)])


def test_probabilities_are_silero_s(detector: SpeechDetector) -> None:
    """The file holds what the TorchScript model of the package silero-vad 6.2.3 gives, a window at a time."""
    expected = json.loads((DATA / "cv-00001.vad.json").read_text())
    np.testing.assert_allclose(probabilities(detector, [CLIP]), expected, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(0, 20_000), max_size=6))
def test_blocks_change_nothing(detector: SpeechDetector, sizes: list[int]) -> None:
    samples = np.tile(CLIP, 8)  # longer than what goes through the network at once
    blocks = np.split(samples, np.minimum(np.cumsum(sizes), len(samples))) if sizes else [samples]
    pieces = list(speech_probabilities(detector, blocks))
    np.testing.assert_array_equal(np.concatenate([piece for piece, _ in pieces]), samples)
    assert all(len(piece) == len(found) * WINDOW for piece, found in pieces[:-1])
    np.testing.assert_allclose(
        np.concatenate([found for _, found in pieces]), probabilities(detector, [samples]), atol=1e-5
    )


def test_speech_is_told_from_silence_and_noise(detector: SpeechDetector) -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(CLIP)).astype(np.float32)
    assert probabilities(detector, [CLIP]).max() > 0.9
    assert probabilities(detector, [np.zeros_like(CLIP)]).max() < 0.1
    assert probabilities(detector, [noise]).max() < 0.1


def test_no_samples_have_no_windows(detector: SpeechDetector) -> None:
    assert list(speech_probabilities(detector, [])) == []


def test_stereo_is_refused(detector: SpeechDetector) -> None:
    with pytest.raises(ValueError, match="mono"):
        list(speech_probabilities(detector, [np.zeros((100, 2), np.float32)]))


def test_a_missing_file_is_no_detector_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    assert load_speech_detector(tmp_path / VAD_FILE) is None
    (tmp_path / VAD_FILE).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=VAD_FILE):
        load_speech_detector(tmp_path / VAD_FILE)
