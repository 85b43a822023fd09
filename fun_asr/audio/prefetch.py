"""Decode and segment recordings in background threads, ahead of whoever consumes the segments."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from queue import Full, Queue, SimpleQueue

import numpy as np
import numpy.typing as npt

from fun_asr.audio.decode import stream
from fun_asr.audio.segment import Span, pack_speech, segment_stream
from fun_asr.audio.vad import SpeechDetector, speech_probabilities
from fun_asr.errors import AudioDecodeError

__all__ = ["AudioSegment", "EndOfRecording", "cut_stream", "read_segments"]

SEGMENTS_AHEAD = 4  # of each recording that is read ahead
RECORDINGS_AHEAD = 4  # beyond those being decoded: short ones are opened before their turn
STOP_CHECK_SECONDS = 0.1


@dataclass(frozen=True)
class AudioSegment:
    """A segment of a recording."""

    recording: int
    """The recording's place among the paths."""
    span: Span
    samples: npt.NDArray[np.float32]
    """Mono 16 kHz `[len(span)]`; none where nobody speaks."""
    speech: bool = True


@dataclass(frozen=True)
class EndOfRecording:
    """The last thing said about a recording."""

    recording: int
    """The recording's place among the paths."""
    error: AudioDecodeError | None
    """Why the recording could not be read to its end."""


Event = AudioSegment | EndOfRecording
_Job = tuple[int, str, "Queue[Event]"]


def cut_stream(
    recording: int,
    blocks: Iterable[npt.NDArray[np.float32]],
    max_seconds: float = 30.0,
    detector: SpeechDetector | None = None,
) -> Iterator[AudioSegment]:
    """Cut a recording into segments that follow each other without a gap, in bounded memory.

    Parameters
    ----------
    recording : int
        Its number.
    blocks : iterable of float32 [samples]
        Consecutive pieces of mono 16 kHz audio, of any lengths.
    max_seconds : float
        Longest segment, seconds.
    detector : SpeechDetector, optional
        Finds speech; without one every segment counts as speech and is cut where the energy is low.
    """
    # Copies, so that a segment keeps no more than itself alive.
    if detector is None:
        for span, samples in segment_stream(blocks, max_seconds):
            yield AudioSegment(recording, span, samples.copy())
    else:
        for span, samples, speech in pack_speech(speech_probabilities(detector, blocks), max_seconds):
            yield AudioSegment(recording, span, samples.copy() if speech else samples[:0].copy(), speech)


def read_segments(
    paths: Iterable[str], max_seconds: float = 30.0, workers: int = 1, detector: SpeechDetector | None = None
) -> Generator[Event, None, None]:
    """Cut recordings into segments, in order, whatever the number of threads.

    The threads are daemons and end when the iterator is closed or collected.

    Parameters
    ----------
    paths : iterable of str
        Audio or video files; taken one by one, shortly before they are opened.
    max_seconds : float
        Longest segment, seconds.
    workers : int
        Recordings decoded at the same time.
    detector : SpeechDetector, optional
        As for `cut_stream`.

    Yields
    ------
    AudioSegment or EndOfRecording
        The segments of the first path, its end, those of the second path, and so on.
    """
    stop = threading.Event()
    jobs: SimpleQueue[_Job | None] = SimpleQueue()
    for _ in range(workers):
        arguments = (jobs, max_seconds, detector, stop)
        threading.Thread(target=_work, args=arguments, name="fun-asr-reader", daemon=True).start()
    started: deque[Queue[Event]] = deque()
    remaining = enumerate(paths)
    try:
        while True:
            while len(started) < workers + RECORDINGS_AHEAD and (following := next(remaining, None)) is not None:
                started.append(Queue(maxsize=SEGMENTS_AHEAD))
                jobs.put((*following, started[-1]))
            if not started:
                return
            # Jobs start in the order of the paths, so a thread is always on the recording awaited here.
            events = started.popleft()
            while True:
                event = events.get()
                yield event
                if isinstance(event, EndOfRecording):
                    break
    finally:
        stop.set()
        for _ in range(workers):
            jobs.put(None)


def _work(
    jobs: SimpleQueue[_Job | None], max_seconds: float, detector: SpeechDetector | None, stop: threading.Event
) -> None:
    while (job := jobs.get()) is not None and not stop.is_set():
        recording, path, events = job
        error: AudioDecodeError | None = None
        try:
            for segment in cut_stream(recording, stream(path), max_seconds, detector):
                if not _put(events, segment, stop):
                    return
        except AudioDecodeError as raised:
            error = raised
        except Exception as raised:  # one recording must not end the run, whatever a codec raises
            error = AudioDecodeError(path, f"cannot be decoded: {type(raised).__name__}: {raised}")
        _put(events, EndOfRecording(recording, error), stop)


def _put(events: Queue[Event], event: Event, stop: threading.Event) -> bool:
    """False when the consumer has gone."""
    while not stop.is_set():
        try:
            events.put(event, timeout=STOP_CHECK_SECONDS)
            return True
        except Full:
            continue
    return False


def default_workers() -> int:
    """Threads that decode fast enough for the cores that there are to recognise."""
    return max(1, min(4, (os.cpu_count() or 1) // 4))
