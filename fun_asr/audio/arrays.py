"""Sound that a program holds in memory: checked, and brought to the one rate that recognisers take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.errors import ConfigError

__all__ = ["Resampler", "checked_samples", "resampled"]

Samples = npt.NDArray[np.float32]

LOUDEST = 8.0  # of what is meant to lie in [-1, 1]: filters and mixes go a little over it
INT16 = 32768
RATES = (1_000, 1_000_000)


def checked_samples(samples: npt.ArrayLike) -> Samples:
    """One channel of sound as float32 in about [-1, 1].

    Arguments:
        samples: `[samples]`, floating point in [-1, 1] or int16.

    Raises:
        ConfigError: for samples of another shape or type, NaN, or integers that were only made floating point.
    """
    array = np.asarray(samples)
    if array.ndim == 1 and array.dtype == np.int16:
        return array.astype(np.float32) / np.float32(INT16)
    if array.ndim != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ConfigError(
            "need finite floating-point mono samples (or int16) of shape [samples], "
            f"got {array.dtype} {list(array.shape)}"
        )
    loudest = float(np.abs(array).max(initial=0.0))
    if loudest > LOUDEST:
        raise ConfigError(
            f"samples are to lie in [-1, 1] and reach {loudest:g}; if they were 16-bit integers, divide by {INT16}"
        )
    return array.astype(np.float32, copy=False)


def resampled(samples: Samples, sampling_rate: int) -> Samples:
    """A whole waveform at 16 kHz.

    Raises:
        ConfigError: for a sampling rate that no recording has.
    """
    resampler = Resampler(sampling_rate)
    return samples if sampling_rate == SAMPLE_RATE else np.concatenate([resampler.feed(samples), resampler.finish()])


class Resampler:
    """Brings a stream to 16 kHz; what comes out does not depend on the pieces in which it went in.

    Arguments:
        sampling_rate: of what goes in, Hz.

    Raises:
        ConfigError: for a sampling rate that no recording has.
    """

    def __init__(self, sampling_rate: int) -> None:
        low, high = RATES
        if not low <= sampling_rate <= high:
            raise ConfigError(f"sampling_rate must lie between {low} and {high} Hz, got {sampling_rate}")
        self._stream = (
            None
            if sampling_rate == SAMPLE_RATE
            else soxr.ResampleStream(sampling_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        )

    def feed(self, samples: Samples) -> Samples:
        """What is known at 16 kHz after some more samples."""
        return samples if self._stream is None else self._piece(samples, last=False)

    def finish(self) -> Samples:
        """The rest."""
        return np.zeros(0, np.float32) if self._stream is None else self._piece(np.zeros(0, np.float32), last=True)

    def _piece(self, samples: Samples, *, last: bool) -> Samples:
        assert self._stream is not None
        found: Samples = self._stream.resample_chunk(np.ascontiguousarray(samples), last=last)
        return found
