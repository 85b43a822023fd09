"""Log-mel features against the transformers package's Whisper front end, and their independence of the batch."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from fun_asr.audio.features import log_mel, mel_filters, num_frames


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = sum(np.sin(2 * np.pi * f * time) / (i + 1) for i, f in enumerate((140, 280, 900, 2300)))
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)
    return (0.1 * tone * envelope + 0.01 * rng.normal(size=len(time))).astype(np.float32)


def test_equals_whisper_front_end_when_padded_to_30_seconds() -> None:
    wave = speech_like(7.3)
    theirs = WhisperFeatureExtractor()(wave, sampling_rate=16_000, return_tensors="pt").input_features
    ours, lengths = log_mel([np.pad(wave, (0, 480_000 - len(wave)))])
    assert lengths.tolist() == [3000]
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_unpadded_frames_equal_the_padded_ones() -> None:
    wave = speech_like(3.21)
    padded, _ = log_mel([np.pad(wave, (0, 480_000 - len(wave)))])
    alone, lengths = log_mel([wave])
    assert lengths.tolist() == [321]
    torch.testing.assert_close(alone, padded[:, :, :321], atol=1e-6, rtol=0)


def test_batch_equals_single() -> None:
    waves = [speech_like(1.234, 1), 0.02 * speech_like(4.0, 2), speech_like(2.5, 3)]
    batch, lengths = log_mel(waves)
    for row, length, wave in zip(batch, lengths.tolist(), waves, strict=True):
        single, _ = log_mel([wave])
        assert torch.equal(row[:, :length], single[0])
        assert not row[:, length:].any()


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 161, 200, 201])
def test_very_short_utterances_have_finite_features(samples: int) -> None:
    features, lengths = log_mel([speech_like(1)[:samples]])
    assert lengths.tolist() == [num_frames(samples)] == [features.shape[-1]]
    assert features.isfinite().all()


def test_empty_utterance_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        log_mel([np.zeros(0, np.float32)])


def test_filters_equal_transformers() -> None:
    theirs = torch.tensor(WhisperFeatureExtractor().mel_filters.T, dtype=torch.float32)
    torch.testing.assert_close(mel_filters(80), theirs, atol=1e-7, rtol=1e-5)
