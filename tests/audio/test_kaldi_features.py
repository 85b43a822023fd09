"""Stacked filter banks against torchaudio's port of Kaldi, and transformers' stacking."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchaudio
from transformers.models.fun_asr_nano.feature_extraction_fun_asr_nano import FunAsrNanoFeatureExtractor

from fun_asr.audio.kaldi_features import stacked_fbank
from tests.models.reference import clips


def reference(wave: npt.NDArray[np.float32], n_mels: int = 80) -> torch.Tensor:
    bank = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(wave)[None] * 32768, num_mel_bins=n_mels, frame_length=25, frame_shift=10, dither=0.0,
        sample_frequency=16000, window_type="hamming",
    )  # fmt: skip
    stacked: torch.Tensor = FunAsrNanoFeatureExtractor()._apply_lfr(bank)
    return stacked


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 1359, 1360, 1361, 2320, 12345])
def test_every_length_gives_the_frames_of_kaldi(samples: int) -> None:
    wave = 0.1 * np.random.RandomState(samples).standard_normal(samples).astype(np.float32)
    found, lengths = stacked_fbank([wave])
    assert lengths.tolist() == [len(reference(wave))]
    torch.testing.assert_close(found[0], reference(wave), atol=1e-3, rtol=0)


def test_speech_silence_and_full_scale_give_those_of_kaldi() -> None:
    speech = clips()[0]
    for wave in (speech, np.zeros(8000, np.float32), np.sign(speech), 1e-5 * speech):
        torch.testing.assert_close(stacked_fbank([wave])[0][0], reference(wave), atol=2e-3, rtol=0)


def test_a_batch_changes_nothing_and_is_zero_behind_each_utterance() -> None:
    waves = [*clips(), np.ones(399, np.float32)]
    together, lengths = stacked_fbank(waves)
    assert lengths[-1] == 1  # filled up to one window
    for row, wave, length in zip(together, waves, lengths.tolist(), strict=True):
        (alone,), _ = stacked_fbank([wave])
        # Some processors add up a product's rows otherwise when there are more of them.
        torch.testing.assert_close(row[:length], alone, rtol=0, atol=1e-5)
        assert not row[length:].any()


def test_other_numbers_of_bins_are_those_of_kaldi() -> None:
    wave = clips()[0]
    torch.testing.assert_close(stacked_fbank([wave], n_mels=40)[0][0], reference(wave, 40), atol=1e-3, rtol=0)
