"""Pieces at any rate, with any number of channels, to mono at 16 kHz, with what is lost at its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

from fun_asr.audio.downmix import Apart, Downmix
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.pieces import Hole, Piece
from fun_asr.audio.report import SAMPLE_RATE, AudioReport, Loss, clock
from fun_asr.errors import AudioDecodeError

__all__ = ["Apart", "ToMono"]

LOUDEST = 100.0  # 40 dB over full scale: floats beyond it were never scaled to [-1, 1]
OVER = 4.0  # 12 dB over full scale: above it clipping would leave little of the speech
FEW = 1e-3  # part of the samples that may be wild without meaning anything for the others
ZEROS_AT_ONCE = 1 << 16  # frames
LOWEST_RATE = 1000  # Hz: less holds no speech, and a read of it would come to gigabytes at 16 kHz

Samples = npt.NDArray[np.float32]


class ToMono:
    """Resamples and mixes one stream of pieces, and reports what it notices.

    Arguments:
        path: the recording, for messages.
        options: which channels, and whether to be strict.
        report: told what is found.
        apart: collects what channels do not share.
    """

    def __init__(
        self, path: str | os.PathLike[str], options: AudioOptions, report: AudioReport, apart: Apart | None = None
    ) -> None:
        self._path, self._options, self._report, self._apart = path, options, report, apart
        self._rate = self._channels = 0
        self._base = 0  # samples at 16 kHz of the stretches before, at other rates
        self._frames = 0  # at this rate
        self._mixer: Downmix | None = None
        self._resampler: soxr.ResampleStream | None = None
        self._emitted = 0
        self._gain = 1.0
        self._turned = 0.0
        self._bad = 0

    def samples(self, pieces: Iterable[Piece]) -> Iterator[Samples]:
        """float32 [n] at 16 kHz; not clipped."""
        for piece in pieces:
            if isinstance(piece, Hole):
                yield from self._hole(piece)
                continue
            values = self._sane(piece.values)
            if (piece.rate, values.shape[1]) != (self._rate, self._channels):
                yield from self._change(piece.rate, values.shape[1])
            self._frames += len(values)
            yield from self._add(values)
        yield from self._change(0, 0)
        self._conclude()

    def _change(self, rate: int, channels: int) -> Iterator[Samples]:
        """Finish what there is at the old rate or with the old channels."""
        if self._mixer is not None:
            for mono in self._mixer.end():
                yield from self._resample(mono)
            self._turned += self._mixer.turned_seconds
            self._mixer = None
        if 0 < rate < LOWEST_RATE:
            raise AudioDecodeError(self._path, f"its header, perhaps damaged, says {rate} samples a second")
        if rate != self._rate:
            if self._resampler is not None:
                rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
                self._emitted += len(rest)
                yield rest
            self._base, self._frames = self._emitted, 0
            self._rate = rate
            self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ") if rate else None
        self._channels = channels
        self._report.channels = max(self._report.channels, channels)
        if self._options.channel is None and channels > 1:
            self._mixer = Downmix(rate, channels, self._apart)

    def _add(self, values: Samples) -> Iterator[Samples]:
        if self._mixer is not None:
            for mono in self._mixer.add(values):
                yield from self._resample(mono)
            return
        yield from self._resample(np.ascontiguousarray(values[:, self._chosen(values.shape[1])]))

    def _chosen(self, channels: int) -> int:
        wanted = self._options.channel
        if wanted is None or (channels == 1 and self._options.channels in ("left", "right")):
            return 0
        if wanted >= channels:
            if self._report.channels > wanted:
                return 0
            raise AudioDecodeError(self._path, f"has {channels} channel{'s' * (channels > 1)}, not {wanted + 1}")
        return wanted

    def _resample(self, mono: Samples) -> Iterator[Samples]:
        assert self._resampler is not None
        samples = self._resampler.resample_chunk(mono)
        self._emitted += len(samples)
        yield samples

    def _hole(self, hole: Hole) -> Iterator[Samples]:
        if self._rate == 0:
            yield from self._change(hole.rate, 1)
        # Of a link that could not be opened, the rate is unknown, and the length is then too.
        ratio = self._rate / hole.rate
        frames = None if hole.frames is None else round(hole.frames * ratio)
        if hole.cause is not None:
            start = self._base + self._frames * SAMPLE_RATE // self._rate
            length = None if frames is None else round(frames * SAMPLE_RATE / self._rate)
            if self._options.strict:
                raise AudioDecodeError(self._path, f"damaged at {clock(start / SAMPLE_RATE)}: {hole.cause}")
            self._report.lose(Loss(start, length, hole.cause, hole.filled))
        if hole.filled and frames:
            self._frames += frames
            for first in range(0, frames, ZEROS_AT_ONCE):
                yield from self._add(np.zeros((min(ZEROS_AT_ONCE, frames - first), self._channels), np.float32))

    def _sane(self, values: Samples) -> Samples:
        """Values that are no numbers as 0, and those far over full scale scaled or cut off."""
        peak = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
        # Written so that NaN counts as well.
        if peak <= OVER and self._gain == 1.0:
            return values
        if self._options.strict and not peak <= LOUDEST:
            raise AudioDecodeError(self._path, "samples are NaN, infinite or far outside [-1, 1]; export it again")
        finite = np.isfinite(values)
        if not finite.all():
            self._bad += int(values.size - np.count_nonzero(finite))
            values = np.where(finite, values, np.float32(0))
            peak = float(np.abs(values).max(initial=0.0))
        if peak > OVER:
            wild = np.count_nonzero(np.abs(values) > OVER)
            if wild > FEW * values.size:
                self._gain = min(self._gain, 1.0 / peak)
            elif peak > LOUDEST:
                self._report.warn("single samples are far outside [-1, 1]; cut off")
        if self._gain == 1.0:
            return values
        return values * np.float32(self._gain)

    def _conclude(self) -> None:
        report = self._report
        if self._bad:
            report.warn(f"{self._bad} sample{'s are' if self._bad > 1 else ' is'} not a finite number; taken as 0")
        if self._gain < 1.0:
            report.warn(f"samples reach {1 / self._gain:.3g} times full scale; made that much quieter")
        if self._turned:
            report.warn(
                f"channels have opposite phase for {self._turned:.1f} s and would cancel; "
                "one was turned round before mixing"
            )
        if self._options.channels in ("left", "right") and report.channels == 1:
            report.warn(f"has one channel, which is taken for the {self._options.channels} one")
