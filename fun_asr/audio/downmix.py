"""Several channels to one: the mean, so made that opposite phases do not cancel, or a channel by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["Apart", "Downmix"]

COMPARED_RATE = 8_000  # Hz at which channels are compared, at least, where the recording has as much
WINDOW_SECONDS = 0.5  # over which the phase between channels is judged
RAMP_SECONDS = 0.005  # in which weights change, so that nothing clicks
OPPOSITE = -0.6  # correlation below which adding a channel would take away more than it brings
IN_PHASE = -0.2  # above which a channel that was turned round is turned back: between them nothing changes
AUDIBLE = 1e-6  # mean square of -60 dBFS
UNLIKE = 0.3  # correlation, at any delay between microphones, below which channels carry something of their own
DELAY_SECONDS = 0.025  # 8 m between microphones
MUCH_QUIETER = 0.03  # of the loudest channel's power: crosstalk
APART_SECONDS = 20.0  # of each channel that are kept to be looked at
MOST_COMPARED = 8  # channels: microphone arrays and stems beyond it are not calls

Samples = npt.NDArray[np.float32]
Spread = npt.NDArray[np.float64]


class Apart:
    """What each channel had that the others had not, up to 20 s a channel: different speech, perhaps."""

    def __init__(self) -> None:
        self.rate = 0
        self._kept: dict[int, list[Samples]] = {}
        self._seconds: dict[int, float] = {}

    @property
    def channels(self) -> dict[int, Samples]:
        """Samples of each channel at `rate`, by place from 0."""
        return {channel: np.concatenate(parts) for channel, parts in self._kept.items()}

    def add(self, values: Samples, centred: Spread, correlation: Spread, rate: int) -> None:
        """Look at a window.

        Arguments:
            values: `[n, C]`.
            centred: them, thinned out where the rate is high and without their means, `[C, n]`.
            correlation: between the channels `[C, C]`.
            rate: Hz, of `values`.
        """
        if values.shape[1] > MOST_COMPARED or rate != (self.rate or rate):
            return
        self.rate = rate
        power = np.square(centred).mean(axis=1)
        active = (power > AUDIBLE) & (power > MUCH_QUIETER * power.max())
        alike = np.abs(correlation - np.eye(len(power)))[:, active].max(axis=1, initial=0.0)
        wanted = [
            channel
            for channel in np.flatnonzero(active & (alike < UNLIKE)).tolist()
            if self._seconds.get(channel, 0.0) < APART_SECONDS
        ]
        if not wanted:
            return
        lags = round(DELAY_SECONDS * rate * centred.shape[1] / len(values))
        for channel in wanted:
            others = [other for other in np.flatnonzero(active).tolist() if other != channel]
            if all(_greatest_correlation(centred[channel], centred[other], lags) < UNLIKE for other in others):
                self._kept.setdefault(channel, []).append(values[:, channel].copy())
                self._seconds[channel] = self._seconds.get(channel, 0.0) + len(values) / rate


def _greatest_correlation(first: Spread, second: Spread, lags: int) -> float:
    """The greatest magnitude of the correlation of two signals, either up to so many samples late."""
    size = 1 << (len(first) + lags).bit_length()
    spectrum = np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size)
    products = np.fft.irfft(spectrum, size)
    near = np.abs(np.concatenate([products[: lags + 1], products[size - lags :]]))
    scale = float(np.sqrt(np.square(first).sum() * np.square(second).sum()))
    return float(near.max()) / scale if scale else 0.0


class Downmix:
    """Turns frames at one rate with one number of channels into mono, window by window.

    A channel whose waveform is nearly the reverse of the strongest one's is turned round before the mean is taken:
    everything that any channel has stays in the mixture, and nothing cancels.

    Arguments:
        rate: Hz.
        channels: their number.
        apart: collects what the channels do not share; None looks for nothing.
    """

    def __init__(self, rate: int, channels: int, apart: Apart | None = None) -> None:
        self._rate, self._channels = rate, channels
        self._window = max(1, round(WINDOW_SECONDS * rate))
        self._ramp = max(1, round(RAMP_SECONDS * rate))
        self._signs = np.ones(channels, np.float32)
        self._held: list[Samples] = []
        self._held_frames = 0
        self._apart = apart
        self.turned_seconds = 0.0
        """For how long some channel was turned round."""

    def add(self, values: Samples) -> Iterator[Samples]:
        """Mono of the windows that are complete with these frames `[n, C]`."""
        first = self._window - self._held_frames
        if self._held_frames and len(values) >= first:
            yield self._mixed(np.concatenate([*self._held, values[:first]]))
            values = values[first:]
            self._held, self._held_frames = [], 0
        if not self._held_frames:
            whole = len(values) // self._window * self._window
            for start in range(0, whole, self._window):
                yield self._mixed(values[start : start + self._window])
            values = values[whole:]
        if len(values):
            # A copy where the rest of a long piece would be kept alive.
            small = values.base is None or values.base.nbytes <= 2 * values.nbytes
            self._held.append(values if small else values.copy())
            self._held_frames += len(values)

    def end(self) -> Iterator[Samples]:
        """Mono of what is left."""
        if self._held_frames:
            yield self._mixed(np.concatenate(self._held))
        self._held, self._held_frames = [], 0

    def _mixed(self, values: Samples) -> Samples:
        signs = self._judge(values)
        before = self._signs
        self._signs = signs
        mixed = values @ (signs / np.float32(self._channels))
        if (signs != before).any():
            ramp = min(self._ramp, len(values))
            rising = np.linspace(0, 1, ramp, dtype=np.float32)
            old = values[:ramp] @ (before / np.float32(self._channels))
            mixed[:ramp] = old * (1 - rising) + mixed[:ramp] * rising
        if (signs < 0).any():
            self.turned_seconds += len(values) / self._rate
        return mixed

    def _judge(self, values: Samples) -> Samples:
        """The sign with which each channel goes into the mean."""
        # A few thousand frames tell the correlation of half a second as well as all, and high rates cost no more.
        step = max(1, self._rate // COMPARED_RATE)
        centred = np.array(values[::step].T, np.float64, order="C")  # [C, n]: rows are summed much faster
        centred -= centred.mean(axis=1, keepdims=True)
        products = centred @ centred.T / max(1, centred.shape[1])
        power = np.diag(products).copy()
        reference = int(power.argmax())
        # Of opposite channels the first keeps its sign, however the noise in them falls.
        strong = np.flatnonzero(power > 0.5 * power[reference])
        reference = int(strong[0]) if len(strong) else reference
        scale = np.sqrt(np.maximum(np.outer(power, power), 1e-300))
        correlation = products / scale
        if self._apart is not None:
            self._apart.add(values, centred, correlation, self._rate)
        if power[reference] <= 0.0:
            return self._signs
        with_reference = correlation[reference]
        signs = np.where(with_reference < OPPOSITE, -1.0, np.where(with_reference > IN_PHASE, 1.0, self._signs))
        # What is this quiet cancels nothing.
        signs[power < 1e-3 * power[reference]] = 1.0
        signs[reference] = 1.0
        return signs.astype(np.float32)
