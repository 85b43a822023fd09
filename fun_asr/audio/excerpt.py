"""Parts of recordings as recordings of their own: several are cut out of one stream, which is decoded once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fun_asr.audio.report import SAMPLE_RATE, AudioReport, Loss, clock
from fun_asr.errors import AudioDecodeError

__all__ = ["Excerpt", "Tape", "cut_out", "plain_seconds", "report_of"]

ROUNDING_SECONDS = 0.1
"""Lists round lengths: a recording that ends this soon after a part belongs to it, up to its end."""

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Excerpt(os.PathLike[str]):
    """A part of a recording, which stands wherever a recording's path may.

    Raises:
        ValueError: when it can be no part of a recording.
    """

    path: str
    offset: float = 0.0
    """Seconds from the start of the recording."""
    duration: float | None = None
    """Seconds; None is all that follows."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offset) and self.offset >= 0):
            raise ValueError(f"offset must be seconds from 0 on, got {self.offset:g}")
        if self.duration is not None and not (math.isfinite(self.duration) and self.duration > 0):
            raise ValueError(f"duration must be more than 0 seconds, got {self.duration:g}")

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        """The recording with a media fragment (W3C, Media Fragments URI 1.0): talk.wav#t=12.5,15."""
        end = "" if self.duration is None else f",{plain_seconds(self.offset + self.duration)}"
        return f"{self.path}#t={plain_seconds(self.offset)}{end}"

    @property
    def start(self) -> int:
        """Its first sample at 16 kHz."""
        return round(self.offset * SAMPLE_RATE)

    @property
    def end(self) -> int | None:
        """The sample after its last one; None where it goes on to the end."""
        return None if self.duration is None else round((self.offset + self.duration) * SAMPLE_RATE)


def plain_seconds(seconds: float) -> str:
    """Seconds to the millisecond without needless zeros: 12.5."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


class Tape:
    """A recording's samples, which come but once, read in parts of which none begins before the one before it.

    Memory holds what parts have in common, and nothing else of them.

    Arguments:
        blocks: consecutive, mono at 16 kHz; what they raise is raised again for each part that it keeps from its end.
    """

    def __init__(self, blocks: Iterable[Samples]) -> None:
        self._blocks = iter(blocks)
        self._held: list[Samples] = []
        self._start = self._end = 0  # of what is held, in samples of the recording
        self._error: AudioDecodeError | None = None
        self.ended = False
        """Whether all was read."""

    def part(self, excerpt: Excerpt, keep: int | None, report: AudioReport) -> Iterator[Samples]:
        """The blocks of a part.

        Arguments:
            excerpt: the part.
            keep: the sample at which the part after it begins; None where there is none.
            report: told where the recording ends before the part does.

        Raises:
            AudioDecodeError: when the recording ends before the part begins, or as the blocks.
        """
        slack = round(ROUNDING_SECONDS * SAMPLE_RATE)
        position, end = excerpt.start, excerpt.end
        while self._end <= position and self._pull():
            self._forget(position)
        if self._end <= position:
            raise AudioDecodeError(str(excerpt), f"begins behind the end of the recording, {_at(self._end)}")
        while end is None or position < end:
            if self._end <= position and not self._pull():
                break
            available = self._end if end is None else min(self._end, end)
            yield from self._between(position, available)
            position = available
            self._forget(position if keep is None else min(position, keep))
        if end is None:
            return
        if position < end - slack:
            missing = (end - position) / SAMPLE_RATE
            report.warn(f"the recording ends at {_at(position)}, {missing:.1f} s before its part does")
        while self._end <= end + slack and self._pull():
            pass
        if end < self._end <= end + slack:
            yield from self._between(end, self._end)

    def _pull(self) -> bool:
        """Read on; False at the end."""
        if self._error is not None:
            raise self._error
        try:
            block = next(self._blocks, None)
        except AudioDecodeError as error:
            self._error = error
            raise
        if block is None:
            self.ended = True
            return False
        self._held.append(block)
        self._end += len(block)
        return True

    def _between(self, start: int, end: int) -> Iterator[Samples]:
        place = self._start
        for block in list(self._held):
            if place + len(block) > start and place < end:
                yield block[max(0, start - place) : end - place]
            place += len(block)

    def _forget(self, before: int) -> None:
        while self._held and self._start + len(self._held[0]) <= before:
            self._start += len(self._held.pop(0))


def _at(samples: int) -> str:
    return clock(samples / SAMPLE_RATE)


def cut_out(samples: Samples, excerpt: Excerpt) -> Samples:
    """A part of a recording that was decoded whole.

    Arguments:
        samples: the recording, mono at 16 kHz `[samples]`.
        excerpt: the part.

    Raises:
        AudioDecodeError: when the recording ends before the part begins.
    """
    return np.concatenate(list(Tape([samples]).part(excerpt, None, AudioReport())))


def report_of(report: AudioReport, excerpt: Excerpt) -> AudioReport:
    """What a recording's report says of a part, of which times count from the part's start."""
    start, end = excerpt.start, excerpt.end
    lost: list[Loss] = []
    for loss in report.lost:
        until = None if loss.length is None else loss.start + loss.length
        if (end is None or loss.start < end) and (until is None or until > start):
            first = max(loss.start, start)
            last = until if end is None or until is None else min(until, end)
            lost.append(replace(loss, start=first - start, length=None if last is None else last - first))
    return replace(report, lost=lost, warnings=list(report.warnings))
