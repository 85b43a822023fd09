"""Front ends of conformers: as transformers', the same in a batch, and for utterances of any length."""

import numpy as np
import pytest
from transformers import ParakeetFeatureExtractor
from transformers.models.granite_speech5.feature_extraction_granite_speech5 import GraniteSpeech5FeatureExtractor

from fun_asr.audio.conformer_features import normalised_log_mel, stacked_log_mel
from tests.models.reference import clips, worst


@pytest.mark.parametrize("n_mels", [80, 128])
def test_normalised_features_are_those_of_transformers(n_mels: int) -> None:
    reference = ParakeetFeatureExtractor(feature_size=n_mels)
    waves = clips()
    batch, lengths = normalised_log_mel(waves, n_mels=n_mels)
    for wave, row, length in zip(waves, batch, lengths.tolist(), strict=True):
        inputs = reference([wave], sampling_rate=16000, return_tensors="pt")
        assert length == int(inputs["attention_mask"].sum())
        assert worst(row[:length], inputs["input_features"][0, :length]) < 1e-4
        assert not row[length:].any()


@pytest.mark.parametrize("cut", [0, 37, 163, 200, 300])
def test_stacked_features_are_those_of_transformers_alone(cut: int) -> None:
    reference = GraniteSpeech5FeatureExtractor()
    waves = [wave[: len(wave) - cut] for wave in clips()]
    batch, lengths = stacked_log_mel(waves)
    for wave, row, length in zip(waves, batch, lengths.tolist(), strict=True):
        inputs = reference([wave], sampling_rate=16000, return_tensors="pt")
        assert length == int(inputs["attention_mask"].sum())
        assert worst(row[:length], inputs["input_features"][0]) < 1e-4
        assert not row[length:].any()


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 319, 320, 321, 641])
def test_the_shortest_utterances_have_finite_features(samples: int) -> None:
    wave = clips()[0][5000 : 5000 + samples]
    for features in (normalised_log_mel, stacked_log_mel):
        batch, lengths = features([wave, clips()[1]])
        assert bool(batch.isfinite().all())
        assert lengths[0] in (samples // 160, -(-(samples // 160) // 2))


def test_silence_has_finite_features() -> None:
    silence = np.zeros(16000, np.float32)
    for features in (normalised_log_mel, stacked_log_mel):
        assert bool(features([silence])[0].isfinite().all())
