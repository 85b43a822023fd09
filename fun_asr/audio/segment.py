"""Cut long recordings at pauses into spans that a recogniser can take at once.

`segment_stream` finds pauses by energy alone. `pack_speech` knows where somebody speaks: it leaves long stretches
without speech out of the spans with speech, and cuts where nobody speaks, be it loud.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.vad import WINDOW, WINDOWS_PER_SECOND

__all__ = ["CERTAIN", "SPEECH", "Span", "longest_pause", "pack_speech", "pauses", "segment_stream", "split_at_pauses"]

HOP = SAMPLE_RATE // 100  # 160 samples = 10 ms, the resolution of a cut
SMOOTHING = 20  # hops = 0.2 s: longer than the closure of a stop consonant, shorter than a pause between phrases
MARGIN = SMOOTHING // 2 * HOP  # 1600 samples = 0.1 s on either side of a cut that were measured
SETBACK = 50  # hops = 0.5 s: in a long pause, how far before its end the cut lies
COMPARABLE_DB = 6.0  # pauses this much louder than the quietest one count as equally good
PAUSE_DB = 35.0  # this far below speech is a pause, however much quieter another one is
FLOOR = 1e-10  # mean square of -100 dBFS
SPEECH = 0.1  # probability; by bin/bench-vad, 0.3 misses three times as much speech, and 0.05 takes more noise for it
CERTAIN = 0.5  # probability that a span with speech reaches somewhere, or nobody speaks in it
PADDING = round(0.4 * WINDOWS_PER_SECOND)  # windows kept on either side of speech: soft onsets and endings
LONG_PAUSE = round(2.0 * WINDOWS_PER_SECOND)  # windows beyond the padding: a longer one is not recognised
SPOKEN = 0.3  # probability of speech between words, where the next one is soon certain
AUDIBLE_PAUSE = 6  # windows = 0.2 s
SHORT_PAUSE = 3  # windows = 0.1 s, of which a cut is better than one where the energy is low


@dataclass(frozen=True)
class Span:
    """A half-open range of a recording, in samples at 16 kHz."""

    start: int
    """First sample."""
    end: int
    """One past the last sample."""

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self) / SAMPLE_RATE


def split_at_pauses(
    samples: npt.NDArray[np.float32], max_seconds: float = 30.0, min_seconds: float | None = None
) -> list[Span]:
    """Cut a recording into contiguous spans, each cut at the quietest point of the latter part of its window.

    Arguments:
        samples: mono audio at 16 kHz, without NaN.
        max_seconds: longest span in seconds, at least 1. A recording that fits is a single span.
        min_seconds: shortest span in seconds, the last one excepted; half of `max_seconds` by default.

    Returns:
        Every sample lies in exactly one span; no samples, no spans.

    Raises:
        ValueError: if `samples` is not one-dimensional or not 0 < min_seconds < max_seconds.
    """
    return [span for span, _ in segment_stream([samples], max_seconds, min_seconds)]


def segment_stream(
    blocks: Iterable[npt.NDArray[np.float32]], max_seconds: float = 30.0, min_seconds: float | None = None
) -> Iterator[tuple[Span, npt.NDArray[np.float32]]]:
    """Cut a stream as `split_at_pauses` cuts the joined blocks, holding one span and one block at a time.

    Arguments:
        blocks: consecutive pieces of mono 16 kHz audio, of any lengths.
        max_seconds, min_seconds: as for `split_at_pauses`, seconds.

    Yields:
        Position in the whole stream, and the samples there (a view: copy before writing to it).

    Raises:
        ValueError: as for `split_at_pauses`, at the first step.
    """
    longest = round(max_seconds * SAMPLE_RATE)
    shortest = longest // 2 if min_seconds is None else round(min_seconds * SAMPLE_RATE)
    if longest < SAMPLE_RATE or not 0 < shortest < longest:
        raise ValueError(f"need max_seconds >= 1 and 0 < min_seconds < max_seconds, not {max_seconds}, {min_seconds}")
    start = 0
    held: list[npt.NDArray[np.float32]] = []
    held_samples = 0
    for block in blocks:
        if block.ndim != 1:
            raise ValueError(f"need mono samples of shape [samples], not {block.shape}")
        held.append(block)
        held_samples += len(block)
        if held_samples <= longest:
            continue
        # Joined only when a span is due: joining at every block would be quadratic for short blocks.
        rest = held[0] if len(held) == 1 else np.concatenate(held)
        while len(rest) > longest:
            cut = _cut(rest[:longest], shortest)
            yield Span(start, start + cut), rest[:cut]
            start, rest = start + cut, rest[cut:]
        held, held_samples = [rest], len(rest)
    if held_samples:
        yield Span(start, start + held_samples), np.concatenate(held)


def _cut(window: npt.NDArray[np.float32], shortest: int) -> int:
    """Samples of a full window that go into its span."""
    hops = len(window) // HOP
    power = np.square(window[: hops * HOP], dtype=np.float64).reshape(hops, HOP).mean(axis=1)
    total = np.concatenate(([0.0], np.cumsum(power)))
    # Entry i is centred on hop i + SMOOTHING / 2, so both sides of every candidate lie inside the window: what a
    # later block brings cannot change a cut.
    smooth = np.maximum(total[SMOOTHING:] - total[:-SMOOTHING], 0.0) / SMOOTHING
    level = 10 * np.log10(smooth + FLOOR)
    first = max(0, -(-(shortest - MARGIN) // HOP))
    candidates = level[first:]
    if len(candidates) == 0:
        return len(window)
    speech = float(np.percentile(level, 90))
    quietest = float(candidates.min())
    threshold = max(quietest + min(COMPARABLE_DB, max(0.0, speech - quietest) / 4), speech - PAUSE_DB)
    paused = np.flatnonzero(candidates <= threshold)
    if len(paused) == 0:
        return len(window)
    breaks = np.flatnonzero(np.diff(paused) > 1)
    last = int(paused[-1])
    length = last - int(paused[breaks[-1] + 1 if len(breaks) else 0])
    return (first + last - min(length // 2, SETBACK)) * HOP + MARGIN


def pack_speech(
    pieces: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]], max_seconds: float = 30.0
) -> Iterator[tuple[Span, npt.NDArray[np.float32], float]]:
    """Cut a stream into spans with and without speech, holding little more than one span at a time.

    Arguments:
        pieces: consecutive samples with the probabilities of speech in their windows, as `speech_probabilities` gives
            them.
        max_seconds: longest span in seconds, at least 6: half of it must hold more than a long pause, or the 0.4 s
            before a word may go with the pause.

    Returns:
        an iterator over position in the stream, samples there, and the highest probability of speech in a window, 0
        where nobody speaks. The spans follow each other without a gap. One without speech either has no window as
        likely as 0.5, or lies at least 0.4 s from speech and is longer than 2 s, at the end excepted.
    """
    longest = round(max_seconds * SAMPLE_RATE) // WINDOW
    start = 0
    rest = np.zeros(0, np.float32)
    levels = np.zeros(0, np.float32)
    for samples, probabilities in pieces:
        rest = np.concatenate([rest, samples])
        levels = np.concatenate([levels, probabilities])
        while (found := _next_span(rest, levels >= SPEECH, longest, final=False)) is not None:
            windows, speech = found
            yield Span(start, start + windows * WINDOW), rest[: windows * WINDOW], _certainty(levels[:windows], speech)
            start, rest, levels = start + windows * WINDOW, rest[windows * WINDOW :], levels[windows:]
    while len(rest):
        last = _next_span(rest, levels >= SPEECH, longest, final=True)
        assert last is not None
        windows, speech = last
        end = min(windows * WINDOW, len(rest))
        yield Span(start, start + end), rest[:end], _certainty(levels[:windows], speech)
        start, rest, levels = start + end, rest[end:], levels[windows:]


def pauses(levels: Sequence[float], span: Span) -> Iterator[tuple[int, int]]:
    """Stretches of at least 0.2 s of a span in which nobody speaks, as samples of the recording.

    Arguments:
        levels: probability of speech in each window of the span.
        span: its place in the recording.
    """
    quiet = np.asarray(levels) < SPOKEN
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    for start, end in edges.tolist():
        if end - start >= AUDIBLE_PAUSE:
            yield span.start + start * WINDOW, min(span.start + end * WINDOW, span.end)


def _certainty(levels: npt.NDArray[np.float32], speech: bool) -> float:
    """The highest probability of speech; 0 where it is too low, or no speech was found."""
    highest = float(levels.max())
    return highest if speech and highest >= CERTAIN else 0.0


def _next_span(
    rest: npt.NDArray[np.float32], heard: npt.NDArray[np.bool_], longest: int, *, final: bool
) -> tuple[int, bool] | None:
    """Windows of the first span and whether it has speech; None where more of the stream decides on it.

    Arguments:
        rest: samples not yet cut.
        heard: whether there is speech in each of their windows `[W]`.
        longest: most windows of a span.
        final: whether nothing follows.
    """
    counts = np.concatenate([np.zeros(PADDING + 1, int), np.cumsum(heard)])
    counts = np.concatenate([counts, np.full(PADDING, counts[-1])])
    padded = counts[2 * PADDING + 1 :] > counts[: -2 * PADDING - 1]
    known = len(heard) if final else max(0, len(heard) - PADDING)  # what follows may speak into the last ones
    edges = np.flatnonzero(np.diff(padded[:known], prepend=True, append=True)).reshape(-1, 2)
    for quiet_start, quiet_end in edges.tolist():
        quiet = quiet_end - quiet_start
        ended = quiet_end < known
        if quiet_start == 0:
            whole = final and not ended
            if whole or (quiet >= LONG_PAUSE and (ended or quiet >= longest)):
                return min(quiet, longest), False
            if not ended:
                return None
        elif quiet_start > longest:
            break
        elif quiet >= LONG_PAUSE:
            return quiet_start, True
    # Beyond it, so that a long pause which begins within it is known to be one.
    if known >= longest + LONG_PAUSE or (final and known > longest):
        return longest_pause(rest, heard, longest), True
    return (known, True) if final else None


def longest_pause(rest: npt.NDArray[np.float32], heard: npt.NDArray[np.bool_], longest: int) -> int:
    """Windows of a span that ends in the longest pause of its latter half.

    Arguments:
        rest: samples, at least as many as in `longest` windows.
        heard: whether there is speech in each of their windows `[W]`.
        longest: most windows of the span.
    """
    first = longest // 2
    edges = np.flatnonzero(np.diff(heard[first:longest], prepend=True, append=True)).reshape(-1, 2)
    if len(edges):
        lengths = edges[:, 1] - edges[:, 0]
        best = len(lengths) - 1 - int(lengths[::-1].argmax())
        if lengths[best] >= SHORT_PAUSE:
            return first + int(edges[best].sum()) // 2
    return max(1, _cut(rest[: longest * WINDOW], first * WINDOW) // WINDOW)
