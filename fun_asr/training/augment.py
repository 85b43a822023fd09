"""Augmentation of waveforms (speed, room, noise, telephone band, level) and of log-mel features (SpecAugment)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from torch import Tensor

from fun_asr.training.acoustics import Wave, made_up_room, mix, reverberate


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training audio is varied; the defaults are mild."""

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """One is drawn per utterance (Ko et al. 2015)."""
    room_probability: float = 0.0
    """Chance of a room's reverberation (Ko et al. 2017): a measured room of `room_dir`, else a made-up one."""
    room_decay_min: float = 0.2
    """Seconds until the reverberation of a made-up room has fallen by 60 dB."""
    room_decay_max: float = 0.9
    room_db_min: float = -15.0
    """Energy of a made-up room's reverberation above that of the direct sound."""
    room_db_max: float = 3.0
    noise_probability: float = 0.4
    snr_db_min: float = 5.0
    snr_db_max: float = 25.0
    telephone_probability: float = 0.08
    """Chance of a pass through an 8 kHz sampling rate."""
    gain_db: float = 6.0
    """The level moves by up to this much either way."""
    freq_masks: int = 2
    freq_mask_bins: int = 15
    time_masks: int = 5
    """One for every 2 s at most."""
    time_mask_ratio: float = 0.04
    """Longest time mask as a part of the utterance."""


def augment_wave(
    wave: Wave, noises: Sequence[Wave], config: AugmentConfig, rng: np.random.Generator, rooms: Sequence[Wave] = ()
) -> Wave:
    """Speed, room, noise, telephone band and level of one utterance.

    Arguments:
        wave: float32 `[samples]` at 16 kHz.
        noises: recordings to mix in, as `wave`.
        config: how much of each.
        rng: draws.
        rooms: impulse responses, as `wave`; rooms are made up where there are none.
    """
    speed = float(rng.choice(config.speeds))
    if speed != 1.0:
        wave = soxr.resample(wave, 16_000 * speed, 16_000, quality="MQ")
    # A config without rooms draws nothing for them: noise and level are then the same whether or not rooms can be had.
    if config.room_probability > 0 and rng.random() < config.room_probability:
        wave = reverberate(wave, _room(rooms, config, rng))
    if noises and rng.random() < config.noise_probability:
        noise = noises[int(rng.integers(len(noises)))]
        start = int(rng.integers(max(1, len(noise) - len(wave))))
        wave = mix(wave, np.resize(noise[start:], len(wave)), rng.uniform(config.snr_db_min, config.snr_db_max))
    if rng.random() < config.telephone_probability:
        narrow = soxr.resample(soxr.resample(wave, 16_000, 8_000, quality="MQ"), 8_000, 16_000, quality="MQ")
        wave = narrow[: len(wave)]
    gain = 10 ** (rng.uniform(-config.gain_db, config.gain_db) / 20)
    louder: Wave = np.clip(wave * gain, -1.0, 1.0).astype(np.float32)
    return louder


def _room(rooms: Sequence[Wave], config: AugmentConfig, rng: np.random.Generator) -> Wave:
    if rooms:
        return rooms[int(rng.integers(len(rooms)))]
    decay_seconds = rng.uniform(config.room_decay_min, config.room_decay_max)
    return made_up_room(decay_seconds, rng.uniform(config.room_db_min, config.room_db_max), rng)


def spec_augment(features: Tensor, lengths: Sequence[int], config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Mask bands and spans of log-mel `[B, M, T]` in place with the utterance's mean (Park et al. 2019)."""
    _, bins, _ = features.shape
    for row, length in zip(features, lengths, strict=True):
        fill = row[:, :length].mean()
        for _ in range(config.freq_masks):
            width = int(rng.integers(config.freq_mask_bins + 1))
            start = int(rng.integers(bins - width + 1))
            row[start : start + width, :length] = fill
        for _ in range(min(config.time_masks, length // 200)):
            width = int(rng.integers(int(config.time_mask_ratio * length) + 1))
            start = int(rng.integers(length - width + 1))
            row[:, start : start + width] = fill
    return features
