"""Only parts of recordings: a recording is cut, each part recognised by itself, and one transcript made of all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise

from fun_asr.audio.excerpt import Excerpt
from fun_asr.errors import ConfigError
from fun_asr.transcript import Cut, Result, Segment, Transcript

__all__ = ["checked_clips", "cut_into", "joined", "moved", "parse_clips"]


def parse_clips(text: str) -> tuple[float, ...]:
    """Times as Whisper writes them: 0,30,60,90.

    Raises:
        ConfigError: as for `checked_clips`, and for what is no number.

    >>> parse_clips("0, 30,60")
    (0.0, 30.0, 60.0)
    """
    try:
        return checked_clips([float(part) for part in text.split(",")])
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"clip_timestamps: {text!r} is not seconds with commas between, such as 0,30,60,90") from None


def checked_clips(times: Sequence[float]) -> tuple[float, ...]:
    """Start, end, start, end, ... in seconds, each after the one before; the last end may be left out.

    Raises:
        ConfigError: when they are anything else.
    """
    found = tuple(float(time) for time in times)
    if not all(math.isfinite(time) and time >= 0 for time in found):
        raise ConfigError("clip_timestamps must be seconds from 0 on")
    for number, (time, after) in enumerate(pairwise(found)):
        if time > after or (time == after and number % 2 == 0):
            raise ConfigError(f"clip_timestamps must ascend, but {after:g} follows {time:g}")
    return found


def cut_into(path: str | os.PathLike[str], times: Sequence[float]) -> Iterator[tuple[str | Excerpt, float]]:
    """The parts of a recording and where each begins in it; itself, from 0, without times.

    Arguments:
        path: the recording, or a part of one, from whose start the times count.
        times: as `checked_clips` gives them.
    """
    whole = path if isinstance(path, Excerpt) else os.fsdecode(path)
    if not times:
        yield whole, 0.0
        return
    for start, end in zip(times[::2], [*times[1::2], None], strict=False):
        if not isinstance(whole, Excerpt):
            yield Excerpt(whole, start, None if end is None else end - start), start
        else:
            last = min((time for time in (end, whole.duration) if time is not None), default=None)
            # Of a part that begins behind its recording's end, reading says so.
            length = None if last is None else max(last - start, 0.001)
            yield Excerpt(whole.path, whole.offset + start, length), start


def moved(segment: Segment, seconds: float) -> Segment:
    """A segment whose times count from another start."""
    if not seconds:
        return segment
    return replace(
        segment,
        start=segment.start + seconds,
        end=segment.end + seconds,
        words=tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in segment.words),
        pauses=tuple((start + seconds, end + seconds) for start, end in segment.pauses),
    )


def joined(results: Iterator[Result], times: Sequence[float]) -> Iterator[Result]:
    """Of the results of every recording's parts, in their order, one for each recording; of none without times."""
    parts = max(1, -(-len(times) // 2))
    while of_one := tuple(islice(results, parts)):
        yield _joined(of_one) if parts > 1 else of_one[0]


def _joined(parts: Sequence[Result]) -> Result:
    found: list[Transcript] = []
    for part in parts:
        if not isinstance(part, Transcript):
            return part
        found.append(part)
    longest = max(found, key=lambda part: (part.language is not None, _spoken_seconds(part.segments)))
    return replace(
        longest,
        duration=found[-1].duration,
        segments=tuple(segment for part in found for segment in part.segments),
        chunks=tuple(chunk for part in found for chunk in part.chunks),
        word_times=any(part.word_times for part in found),
        cut=Cut(
            silent_segments=sum(part.cut.silent_segments for part in found),
            loops=sum(part.cut.loops for part in found),
            words=sum(part.cut.words for part in found),
        ),
        lost=tuple(dict.fromkeys(lost for part in found for lost in part.lost)),
        # What there is to say of a file is said once, not for each of its parts.
        warnings=tuple(dict.fromkeys(warning for part in found for warning in part.warnings)),
    )


def _spoken_seconds(segments: Iterable[Segment]) -> float:
    return sum(segment.end - segment.start for segment in segments if segment.text)
