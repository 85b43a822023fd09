"""Decode and segment recordings in background threads, ahead of whoever consumes the segments."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from fun_asr.audio.calls import note_call
from fun_asr.audio.decode import SAMPLE_RATE, Pass, passes
from fun_asr.audio.excerpt import Excerpt, Tape, report_of
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.report import AudioReport
from fun_asr.audio.segment import Span, pack_speech, pauses, segment_stream
from fun_asr.audio.vad import WINDOW, SpeechDetector, speech_probabilities
from fun_asr.errors import AudioDecodeError

__all__ = ["AudioSegment", "EndOfRecording", "cut_stream", "read_segments"]

SECONDS_AHEAD = 300.0  # of audio that waits, 19 MB: of the recording being consumed, and of all after it
RECORDINGS_AHEAD = 32  # opened before their turn: short ones are read while a batch is recognised


@dataclass(frozen=True)
class AudioSegment:
    """A segment of a recording."""

    recording: int
    """The recording's place among the paths."""
    span: Span
    samples: npt.NDArray[np.float32]
    """Mono 16 kHz `[len(span)]`; none where nobody speaks."""
    speech: bool = True
    channel: int | None = None
    """The channel's number, from 1, where each is read by itself."""
    track: int | None = None
    """The audio track's number, from 1, where all are read."""
    certainty: float = 0.0
    """The highest probability of speech in any 32 ms of it; 0 where no detector was asked."""
    pauses: tuple[tuple[int, int], ...] = ()
    """Stretches of the recording, in samples, in which nobody speaks; none where no detector was asked."""


@dataclass(frozen=True)
class EndOfRecording:
    """The last thing said about a recording."""

    recording: int
    """The recording's place among the paths."""
    error: AudioDecodeError | None
    """Why the recording could not be read to its end."""
    report: AudioReport = field(default_factory=AudioReport)
    """What was found in it."""


Event = AudioSegment | EndOfRecording
_Job = tuple[int, list[str | Excerpt]]
"""The number of the first recording, and that or several parts of one, to be decoded once."""


def cut_stream(
    recording: int,
    blocks: Iterable[npt.NDArray[np.float32]],
    max_seconds: float = 30.0,
    detector: SpeechDetector | None = None,
) -> Iterator[AudioSegment]:
    """Cut a recording into segments that follow each other without a gap, in bounded memory.

    Arguments:
        recording: its number.
        blocks: consecutive pieces of mono 16 kHz audio, of any lengths.
        max_seconds: longest segment, seconds.
        detector: finds speech; without one every segment counts as speech and is cut where the energy is low.
    """
    # Copies, so that a segment keeps no more than itself alive.
    if detector is None:
        for span, samples in segment_stream(blocks, max_seconds):
            yield AudioSegment(recording, span, samples.copy())
    else:
        heard: deque[float] = deque()  # probabilities of the windows that are not yet in a span
        pieces = _noted(speech_probabilities(detector, blocks), heard)
        for span, samples, certainty in pack_speech(pieces, max_seconds):
            speech = certainty > 0
            levels = [heard.popleft() for _ in range(-(-len(span) // WINDOW))]
            yield AudioSegment(
                recording,
                span,
                samples.copy() if speech else samples[:0].copy(),
                speech,
                certainty=certainty,
                pauses=tuple(pauses(levels, span)) if speech else (),
            )


def _noted(
    pieces: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]], heard: deque[float]
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    for samples, probabilities in pieces:
        heard.extend(probabilities.tolist())
        yield samples, probabilities


def read_segments(
    paths: Iterable[str | Excerpt],
    max_seconds: float = 30.0,
    workers: int = 1,
    detector: SpeechDetector | None = None,
    options: AudioOptions | None = None,
) -> Generator[Event, None, None]:
    """Cut recordings into segments, in order, whatever the number of threads.

    The threads are daemons and end when the iterator is closed or collected.

    Arguments:
        paths: audio or video files; taken one by one, shortly before they are opened. Parts of one that follow each
            other, none beginning before the one before it, are cut out of it as it is decoded, once.
        max_seconds: longest segment, seconds.
        workers: recordings decoded at the same time.
        detector: as for `cut_stream`.
        options: what is taken from each recording.

    Yields:
        The segments of the first path, its end, those of the second path, and so on. Where every channel or track is
            read by itself, a recording's segments begin again at its beginning with each.
    """
    ahead = _Ahead()
    jobs: SimpleQueue[_Job | None] = SimpleQueue()
    for _ in range(workers):
        arguments = (jobs, max_seconds, detector, options or AudioOptions(), ahead)
        threading.Thread(target=_work, args=arguments, name="fun-asr-reader", daemon=True).start()
    remaining = _jobs(paths, options or AudioOptions())
    started = 0
    try:
        while True:
            while started < ahead.first + RECORDINGS_AHEAD and (following := next(remaining, None)) is not None:
                jobs.put(following)
                started += len(following[1])
            if ahead.first == started:
                return
            yield ahead.get()
    finally:
        ahead.stop()
        for _ in range(workers):
            jobs.put(None)


class _Ahead:
    """Events of recordings read at the same time, handed out in the order of the recordings, bounded in all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: dict[int, deque[Event]] = {}
        self._samples: Counter[int] = Counter()  # of each recording, in its events
        self.first = 0  # recording that the next event is of
        self.stopped = False

    def put(self, event: Event) -> bool:
        """Wait for room and store; False when nobody wants events any more."""
        with self._changed:
            # Jobs start in the order of the recordings, so a thread is always on the first one, and may always go on.
            self._changed.wait_for(lambda: self.stopped or self._has_room(event))
            self._events.setdefault(event.recording, deque()).append(event)
            self._samples[event.recording] += _samples(event)
            self._changed.notify_all()
            return not self.stopped

    def _has_room(self, event: Event) -> bool:
        # Those after the first one are consumed when it has ended: their share must not be its own.
        own = self._samples[self.first]
        if event.recording != self.first:
            waiting = self._samples.total() - own
        elif self._events.get(self.first):
            waiting = own
        else:
            return True
        return waiting + _samples(event) <= SECONDS_AHEAD * SAMPLE_RATE

    def get(self) -> Event:
        """Wait for the next event."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events.get(self.first)))
            event = self._events[self.first].popleft()
            self._samples[event.recording] -= _samples(event)
            if isinstance(event, EndOfRecording):
                del self._events[self.first], self._samples[self.first]
                self.first += 1
            self._changed.notify_all()
            return event

    def stop(self) -> None:
        """Let waiting threads go."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


def _samples(event: Event) -> int:
    return len(event.samples) if isinstance(event, AudioSegment) else 0


def _work(
    jobs: SimpleQueue[_Job | None],
    max_seconds: float,
    detector: SpeechDetector | None,
    options: AudioOptions,
    ahead: _Ahead,
) -> None:
    while (job := jobs.get()) is not None and not ahead.stopped:
        _Reader(job, max_seconds, detector, options, ahead).read()


class _Reader:
    """Reads one recording, or several parts of it."""

    def __init__(
        self, job: _Job, max_seconds: float, detector: SpeechDetector | None, options: AudioOptions, ahead: _Ahead
    ) -> None:
        self._first, self._sources = job
        self._max_seconds, self._detector, self._options, self._ahead = max_seconds, detector, options, ahead
        self._reports = [AudioReport() for _ in self._sources]
        self._ended = 0  # of the sources, the first ones

    def read(self) -> None:
        """Put all events; they end early where nobody wants them any more."""
        error: AudioDecodeError | None = None
        source = self._sources[0]
        report = AudioReport()
        try:
            with closing(passes(os.fspath(source), self._options, report)) as streams:
                for one in streams:
                    if not (self._parts(one) if isinstance(source, Excerpt) else self._whole(one)):
                        return
        except AudioDecodeError as raised:
            error = raised
        except Exception as raised:  # one recording must not end the run, whatever a codec raises
            error = AudioDecodeError(source, f"cannot be decoded: {type(raised).__name__}: {raised}")
        if not isinstance(source, Excerpt):
            self._reports = [report]
        while self._ended < len(self._sources):
            self._end(error)

    def _whole(self, one: Pass) -> bool:
        if not self._cut(0, one, one.blocks()):
            return False
        if self._detector is not None:
            note_call(one.apart, self._detector, one.report)
        return True

    def _parts(self, one: Pass) -> bool:
        tape = Tape(one.blocks())
        starts = [source.start for source in self._sources if isinstance(source, Excerpt)]
        for place, source in enumerate(self._sources):
            assert isinstance(source, Excerpt)
            report = self._reports[place]
            error: AudioDecodeError | None = None
            try:
                keep = starts[place + 1] if place + 1 < len(starts) else None
                if not self._cut(place, one, tape.part(source, keep, report)):
                    return False
            except AudioDecodeError as raised:
                error = raised
            if tape.ended and len(starts) == 1 and self._detector is not None:
                note_call(one.apart, self._detector, one.report)
            report.merge(report_of(one.report, source))
            if self._options.track == "all":
                report.track = None
            if len(starts) > 1:
                self._end(error)
            elif error is not None:
                raise error
        return True

    def _cut(self, place: int, one: Pass, blocks: Iterator[npt.NDArray[np.float32]]) -> bool:
        for segment in cut_stream(self._first + place, blocks, self._max_seconds, self._detector):
            if not self._ahead.put(replace(segment, channel=one.channel, track=one.track)):
                return False
        return True

    def _end(self, error: AudioDecodeError | None) -> None:
        source = self._sources[self._ended]
        if error is not None and isinstance(source, Excerpt):
            alone = len(self._sources) == 1 and not source.offset
            error = AudioDecodeError(source.path if alone else str(source), error.cause)
        self._ahead.put(EndOfRecording(self._first + self._ended, error, self._reports[self._ended]))
        self._ended += 1


def _jobs(paths: Iterable[str | Excerpt], options: AudioOptions) -> Iterator[_Job]:
    """Recordings, and parts of one recording together where each comes once."""
    # What is heard several times over cannot be cut in the order of its parts.
    together = options.channels != "each" and options.track != "all"
    parts: list[str | Excerpt] = []
    first = 0
    for path in paths:
        if parts and not (together and _follows(parts[-1], path)):
            yield first, parts
            first, parts = first + len(parts), []
        if isinstance(path, Excerpt):
            parts.append(path)
        else:
            yield first, [path]
            first += 1
    if parts:
        yield first, parts


def _follows(earlier: str | Excerpt, later: str | Excerpt) -> bool:
    return (
        isinstance(earlier, Excerpt)
        and isinstance(later, Excerpt)
        and earlier.path == later.path
        and earlier.offset <= later.offset
    )


def default_workers() -> int:
    """Threads that decode fast enough for the cores that there are to recognise.

    Two at least: until the first batch is full nothing else runs.
    """
    return max(2, min(4, (os.cpu_count() or 1) // 4))
