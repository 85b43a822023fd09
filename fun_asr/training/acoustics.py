"""What a microphone hears beside the speaker: noise, and the room's reverberation; torchaudio does the arithmetic."""

from __future__ import annotations

import functools
import shlex
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.errors import ConfigError

__all__ = ["Wave", "made_up_room", "mix", "reverberate"]

Wave = npt.NDArray[np.float32]

MATCHING = ("torch>=2.11,<2.15", "torchaudio>=2.11,<2.12")
"""What pyproject.toml asks for, for the message that says how to mend a pair that does not load."""


def mix(wave: Wave, noise: Wave, snr_db: float) -> Wave:
    """Speech plus noise of the same length at a signal-to-noise ratio in dB (of mean powers)."""
    if not (wave.any() and noise.any()):
        return wave
    mixed = _functional().add_noise(torch.from_numpy(wave), torch.from_numpy(noise), torch.tensor(snr_db))
    return np.asarray(mixed.numpy(), np.float32)


def reverberate(wave: Wave, room: Wave) -> Wave:
    """Speech as it sounds in a room: as long and as loud as before, each word where it was.

    Arguments:
        wave: float32 `[samples]` at 16 kHz.
        room: an impulse response, float32 `[samples]` at 16 kHz; its largest sample is the direct sound.
    """
    direct = int(np.abs(room).argmax())
    heard = _functional().fftconvolve(torch.from_numpy(wave), torch.from_numpy(room))[direct : direct + len(wave)]
    power = float(heard.square().mean())
    if power == 0:
        return wave
    scale = (float(np.mean(wave**2)) / power) ** 0.5
    return np.asarray((heard * scale).numpy(), np.float32)


def made_up_room(decay_seconds: float, reverberation_db: float, rng: np.random.Generator) -> Wave:
    """An impulse response after Polack's statistical model (1988): the direct sound, then noise that dies away.

    Arguments:
        decay_seconds: until the reverberation has fallen by 60 dB (RT60).
        reverberation_db: energy of the reverberation above that of the direct sound.
        rng: draws the noise.
    """
    count = max(1, round(decay_seconds * SAMPLE_RATE))
    tail = rng.normal(size=count) * 10 ** (-3 * np.arange(count) / count)
    tail *= 10 ** (reverberation_db / 20) / np.sqrt(np.sum(tail**2))
    return np.concatenate([[1.0], tail]).astype(np.float32)


@functools.cache
def _functional() -> ModuleType:
    """torchaudio's functions, imported here alone: nothing else needs a torchaudio that loads.

    Raises:
        ConfigError: when it does not: its compiled part is built for CUDA or for none, and for one version of it.
    """
    try:
        import torchaudio.functional
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"torchaudio does not load beside torch {torch.__version__} ({error}); "
            f"install both from the same index: pip install --force-reinstall {shlex.join(MATCHING)}"
        ) from error
    functional: ModuleType = torchaudio.functional
    return functional
