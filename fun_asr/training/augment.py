"""Augmentation of waveforms (speed, room, noise, telephone band, level) and of log-mel features (SpecAugment)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr
from torch import Tensor

Wave = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training audio is varied; the defaults are mild."""

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """One is drawn per utterance (Ko et al. 2015)."""
    noise_probability: float = 0.4
    snr_db_min: float = 5.0
    snr_db_max: float = 25.0
    telephone_probability: float = 0.08
    """Chance of a pass through an 8 kHz sampling rate."""
    room_probability: float = 0.0
    """Chance of a made-up room's echo."""
    room_seconds_max: float = 0.5
    """Longest time in which its echo falls by 60 dB."""
    gain_db: float = 6.0
    """The level moves by up to this much either way."""
    freq_masks: int = 2
    freq_mask_bins: int = 15
    time_masks: int = 5
    """One for every 2 s at most."""
    time_mask_ratio: float = 0.04
    """Longest time mask as a part of the utterance."""


def augment_wave(wave: Wave, noises: Sequence[Wave], config: AugmentConfig, rng: np.random.Generator) -> Wave:
    """Speed, room, noise, telephone band and level of one utterance, float32 `[samples]` at 16 kHz."""
    speed = float(rng.choice(config.speeds))
    if speed != 1.0:
        wave = soxr.resample(wave, 16_000 * speed, 16_000, quality="MQ")
    if config.room_probability and rng.random() < config.room_probability:
        wave = reverberate(wave, rng.uniform(0.1, config.room_seconds_max), rng.uniform(0.0, 12.0), rng)
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


def reverberate(wave: Wave, seconds: float, direct_db: float, rng: np.random.Generator) -> Wave:
    """The sound with a room's echo: noise that decays exponentially (Moorer 1979), at the same level and place.

    Arguments:
        wave: float32 `[samples]` at 16 kHz.
        seconds: in which the echo falls by 60 dB.
        direct_db: energy of the direct sound by that of the echo.
        rng: draws the room.
    """
    time = np.arange(1, round(seconds * 16_000)) / 16_000
    echo = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    echo *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(echo**2))
    response = np.concatenate([[1.0], echo])
    size = 1 << (len(wave) + len(response) - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)[: len(wave)]
    level = np.sqrt(np.mean(wave**2) / max(float(np.mean(heard**2)), 1e-12))
    echoing: Wave = (heard * level).astype(np.float32)
    return echoing


def mix(wave: Wave, noise: Wave, snr_db: float) -> Wave:
    """Speech plus noise of the same length at a signal-to-noise ratio in dB (of mean powers)."""
    speech_power, noise_power = float(np.mean(wave**2)), float(np.mean(noise**2))
    if speech_power == 0 or noise_power == 0:
        return wave
    scale = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    mixed: Wave = (wave + scale * noise).astype(np.float32)
    return mixed


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
