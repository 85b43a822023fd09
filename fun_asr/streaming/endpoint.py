"""Where utterances begin and end in sound that is still coming, found window by window.

What is found depends on the samples alone, never on the pieces in which they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.segment import CERTAIN, SPEECH, Span, longest_pause
from fun_asr.audio.vad import CONTEXT, WINDOW, WINDOWS_PER_SECOND, SpeechDetector, State

__all__ = ["Endpointer", "Utterance"]

Samples = npt.NDArray[np.float32]

BEFORE = round(0.4 * WINDOWS_PER_SECOND)  # windows kept before speech: soft onsets
SPOKEN = 0.3  # probability below which a window is silence once somebody speaks


@dataclass
class Utterance:
    """Speech that has begun."""

    start: int
    """First sample, counted from the start of the stream."""
    pieces: list[Samples] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    """Probability of speech in each window."""
    quiet: int = 0
    """Windows at its end in which nobody speaks."""
    ended: bool = False

    @property
    def samples(self) -> Samples:
        """Mono 16 kHz."""
        if len(self.pieces) > 1:
            self.pieces = [np.concatenate(self.pieces)]
        return self.pieces[0] if self.pieces else np.zeros(0, np.float32)

    @property
    def span(self) -> Span:
        """Its place in the stream."""
        return Span(self.start, self.start + sum(map(len, self.pieces)))

    def spoken(self, tail: int) -> Span:
        """The same less what follows the last speech after `tail` windows."""
        if self.quiet <= tail:
            return self.span
        return Span(self.start, self.start + (len(self.levels) - self.quiet + tail) * WINDOW)

    @property
    def certainty(self) -> float:
        """The highest probability of speech in a window."""
        return max(self.levels)


class Endpointer:
    """Cuts a stream into utterances.

    Arguments:
        detector: tells speech.
        silence: seconds without speech that end an utterance.
        longest: seconds after which one is cut though nobody has paused, at the longest pause of its latter half.
    """

    def __init__(self, detector: SpeechDetector, *, silence: float, longest: float) -> None:
        self._detector = detector
        self._silence = round(silence * WINDOWS_PER_SECOND)
        self._longest = round(longest * SAMPLE_RATE) // WINDOW
        self._state: State | None = None
        self._context = np.zeros(CONTEXT, np.float32)
        self._waiting = np.zeros(0, np.float32)  # less than a window
        self._before: deque[tuple[Samples, float]] = deque(maxlen=2 * BEFORE)  # windows in which nobody speaks
        self._read = 0  # samples in windows
        self._utterance: Utterance | None = None

    @property
    def seconds(self) -> float:
        """Of the stream so far."""
        return (self._read + len(self._waiting)) / SAMPLE_RATE

    def feed(self, samples: Samples) -> Iterator[Utterance]:
        """Take more of the stream.

        Arguments:
            samples: mono 16 kHz, any number.

        Returns:
            an iterator over the utterance that somebody is speaking, after each window of it, the last time with
            `ended`.
        """
        waiting = np.concatenate([self._waiting, samples])
        windows = len(waiting) // WINDOW
        self._waiting = waiting[windows * WINDOW :]
        for number in range(windows):
            yield from self._take(waiting[number * WINDOW : (number + 1) * WINDOW])

    def finish(self) -> Iterator[Utterance]:
        """The stream is over: what is being said ends here."""
        rest, self._waiting = self._waiting, np.zeros(0, np.float32)
        if len(rest):
            yield from self._take(rest)
        if self._utterance is not None:
            utterance, self._utterance = self._utterance, None
            utterance.ended = True
            yield utterance

    def _take(self, window: Samples) -> Iterator[Utterance]:
        level = self._level(window)
        self._read += len(window)
        if self._utterance is None:
            self._before.append((window, level))
            if level < CERTAIN:
                return
            # From before the faint beginning of the word on.
            faint = next((i for i, (_, p) in enumerate(reversed(self._before)) if p < SPEECH), len(self._before))
            kept = list(self._before)[-(faint + BEFORE) :]
            self._before.clear()
            start = self._read - sum(len(piece) for piece, _ in kept)
            self._utterance = Utterance(start, [piece for piece, _ in kept], [probability for _, probability in kept])
        else:
            self._utterance.pieces.append(window)
            self._utterance.levels.append(level)
            self._utterance.quiet = 0 if level >= SPOKEN else self._utterance.quiet + 1
        utterance = self._utterance
        if utterance.quiet >= self._silence:
            utterance.ended = True
            self._utterance = None
        elif len(utterance.levels) >= self._longest:
            self._utterance = self._cut(utterance)
        yield utterance

    def _cut(self, utterance: Utterance) -> Utterance:
        """End an utterance before its last window; returns the one that begins there."""
        levels = np.array(utterance.levels, np.float32)
        windows = longest_pause(utterance.samples, levels >= SPEECH, len(levels))
        samples = utterance.samples
        rest = Utterance(utterance.start + windows * WINDOW, [samples[windows * WINDOW :]], utterance.levels[windows:])
        rest.quiet = min(utterance.quiet, len(rest.levels))
        utterance.pieces, utterance.levels = [samples[: windows * WINDOW]], utterance.levels[:windows]
        # Up to the cut, so that no sound lies between the two.
        utterance.quiet, utterance.ended = 0, True
        return rest

    @torch.inference_mode()
    def _level(self, window: Samples) -> float:
        """The probability of speech; one window at a time, since the last digits depend on how many there are."""
        padded = np.concatenate([self._context, window, np.zeros(WINDOW - len(window), np.float32)])
        self._context = padded[-CONTEXT:]
        probability, self._state = self._detector(torch.tensor(padded[None]), self._state)
        return float(probability[0])
