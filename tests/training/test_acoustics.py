"""Noise and rooms in training: levels, times and decay as asked for, and a torchaudio that does not fit torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fun_asr.audio.features import log_mel
from fun_asr.configuration import load_yaml
from fun_asr.errors import ConfigError
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training import acoustics
from fun_asr.training.acoustics import Wave, made_up_room, mix, reverberate
from fun_asr.training.augment import AugmentConfig, augment_wave
from fun_asr.training.config import TrainConfig
from fun_asr.training.data import Collator, Utterance
from fun_asr.training.trainer import Trainer

STILL = {"speeds": (1.0,), "noise_probability": 0.0, "gain_db": 0.0, "telephone_probability": 0.0}


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> Wave:
    return (level * np.random.default_rng(seed).normal(size=int(seconds * 16_000))).astype(np.float32)


def energy(wave: Wave) -> float:
    return float(np.sum(wave.astype(np.float64) ** 2))


@pytest.mark.parametrize("snr_db", [-3.0, 10.0, 25.0])
def test_noise_is_mixed_at_the_asked_signal_to_noise_ratio(snr_db: float) -> None:
    speech = noise(1)
    added = mix(speech, noise(1, level=0.7, seed=1), snr_db) - speech
    assert 10 * np.log10(energy(speech) / energy(added)) == pytest.approx(snr_db, abs=0.01)


def test_silence_has_no_signal_to_noise_ratio_and_stays_as_it_is() -> None:
    speech, silence = noise(1), np.zeros(16_000, np.float32)
    assert np.array_equal(mix(speech, silence, 10.0), speech)
    assert np.array_equal(mix(silence, speech, 10.0), silence)
    assert np.array_equal(reverberate(silence, noise(0.3)), silence)
    assert np.array_equal(reverberate(speech, silence), speech)


def test_reverberation_is_convolution_with_the_room_from_its_direct_sound_on() -> None:
    speech = noise(0.2)
    room = np.concatenate([np.zeros(37), [1.0], 0.3 * noise(0.05, seed=1)]).astype(np.float32)
    expected = np.convolve(speech.astype(np.float64), room.astype(np.float64))[37 : 37 + len(speech)]
    expected *= np.sqrt(energy(speech) / np.sum(expected**2))
    np.testing.assert_allclose(reverberate(speech, room), expected, atol=1e-6)


@pytest.mark.parametrize("delay", [0, 800])
def test_a_reverberated_word_stays_where_it_was_and_as_loud(delay: int) -> None:
    speech = np.zeros(32_000, np.float32)
    speech[8_000:16_000] = noise(0.5)
    room = np.concatenate([np.zeros(delay, np.float32), made_up_room(0.5, 0.0, np.random.default_rng(2))])
    heard = reverberate(speech, room)
    assert heard.shape == speech.shape
    assert heard.dtype == np.float32
    assert np.abs(heard[:7_990]).max() < 1e-5 < np.abs(heard[8_000:8_010]).max()
    assert energy(heard[16_000:20_000]) > 0.01 * energy(heard), "it rings after the word's end"
    assert energy(heard) == pytest.approx(energy(speech), rel=1e-3)


@pytest.mark.parametrize("decay_seconds", [0.2, 0.9])
def test_a_made_up_room_dies_away_as_asked(decay_seconds: float) -> None:
    room = made_up_room(decay_seconds, -6.0, np.random.default_rng(0))
    assert np.abs(room).argmax() == 0
    assert 10 * np.log10(energy(room[1:]) / energy(room[:1])) == pytest.approx(-6.0, abs=0.01)
    # Schroeder 1965: the energy still to come, from 5 to 25 dB under its start, drawn out to 60 dB.
    left_db = 10 * np.log10(np.cumsum(room[:0:-1].astype(np.float64) ** 2)[::-1])
    five, twenty_five = (int(np.argmax(left_db < left_db[0] - drop)) for drop in (5, 25))
    assert 3 * (twenty_five - five) / 16_000 == pytest.approx(decay_seconds, rel=0.1)


def test_rooms_are_drawn_from_the_recorded_ones_or_made_up() -> None:
    speech, recorded = noise(1), [noise(0.1, seed=1), noise(0.2, seed=2)]
    config = AugmentConfig(**{**STILL, "room_probability": 1.0})
    heard = [augment_wave(speech, [], config, np.random.default_rng(seed), recorded) for seed in range(20)]
    expected = [np.clip(reverberate(speech, room), -1, 1) for room in recorded]
    chosen = [[np.array_equal(wave, one) for one in expected].index(True) for wave in heard]
    assert set(chosen) == {0, 1}
    first, second = (augment_wave(speech, [], config, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(first, speech)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, augment_wave(speech, [], config, np.random.default_rng(0)))


def test_without_rooms_every_other_draw_is_the_same() -> None:
    speech, recorded = noise(1), [noise(0.1, seed=1)]
    without, with_rooms = (
        augment_wave(speech, [noise(2, seed=3)], AugmentConfig(), np.random.default_rng(5), rooms)
        for rooms in ([], recorded)
    )
    assert np.array_equal(without, with_rooms)


def test_training_batches_are_heard_in_the_rooms(tmp_path: Path, tiny_model_dir: Path) -> None:
    soundfile.write(tmp_path / "speech.wav", noise(1), 16_000, subtype="FLOAT")
    utterance = Utterance(audio_filepath=tmp_path / "speech.wav", duration=1.0, text="one", written="one")
    room = noise(0.1, seed=1)
    augment = AugmentConfig(**{**STILL, "room_probability": 1.0, "freq_masks": 0, "time_masks": 0})
    tokenizer, ctc_tokenizer = Tokenizer(tiny_model_dir / "tokenizer.json"), CTCTokenizer(tiny_model_dir / "ctc.model")
    collate = Collator(tokenizer, ctc_tokenizer, n_mels=80, max_tokens=24)
    batch = collate.augmented(augment, [], [room])([utterance], np.random.default_rng(0))
    assert batch is not None
    torch.testing.assert_close(batch.features, log_mel([reverberate(noise(1), room)])[0])


@pytest.mark.parametrize("key", ["noise_dir", "room_dir"])
def test_folders_that_hold_nothing_are_refused(key: str, tmp_path: Path, tiny_model_dir: Path) -> None:
    def config() -> TrainConfig:
        lines = [f"init: {tiny_model_dir}", "output_dir: run", "train: [{manifest: train.jsonl}]", f"{key}: sounds"]
        (tmp_path / "train.yaml").write_text("\n".join([*lines, "augment: {room_probability: 0.5}"]))
        return load_yaml(TrainConfig, tmp_path / "train.yaml")

    soundfile.write(tmp_path / "speech.wav", noise(1), 16_000)
    (tmp_path / "train.jsonl").write_text('{"audio_filepath": "speech.wav", "duration": 1, "text": "one"}')
    with pytest.raises(ConfigError, match=r"sounds: no such folder"):
        Trainer(config(), tmp_path)
    (tmp_path / "sounds").mkdir()
    with pytest.raises(ConfigError, match=r"sounds: no recordings"):
        Trainer(config(), tmp_path)
    soundfile.write(tmp_path / "sounds" / "a.wav", noise(0.1), 16_000)
    trainer = Trainer(config(), tmp_path)
    assert [len(trainer.collate.noises), len(trainer.collate.rooms)] == [
        int(key == "noise_dir"),
        int(key == "room_dir"),
    ]


def test_recorded_rooms_that_no_utterance_would_be_heard_in_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("{init: m, output_dir: run, train: [{manifest: a.jsonl}], room_dir: rooms}")
    with pytest.raises(ConfigError, match=r"room_dir.*room_probability"):
        load_yaml(TrainConfig, tmp_path / "train.yaml")


@pytest.fixture
def torchaudio_forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process: torchaudio is imported again."""
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    acoustics._functional.cache_clear()
    yield
    acoustics._functional.cache_clear()


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
def test_a_torchaudio_that_does_not_fit_torch_is_named(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchaudio_forgotten: None
) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(f"raise {error}('built for another')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"torchaudio does not load.*built for another.*pip install"):
        mix(noise(1), noise(1, seed=1), 10.0)
