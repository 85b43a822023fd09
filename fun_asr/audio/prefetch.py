"""Decode and segment recordings in background threads, ahead of whoever consumes the segments."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from queue import Full, Queue, SimpleQueue

import numpy as np
import numpy.typing as npt

from fun_asr.audio.decode import stream
from fun_asr.audio.segment import Span, segment_stream
from fun_asr.errors import AudioDecodeError

__all__ = ["AudioSegment", "EndOfRecording", "read_segments"]

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
    """Mono 16 kHz `[len(span)]`."""


@dataclass(frozen=True)
class EndOfRecording:
    """The last thing said about a recording."""

    recording: int
    """The recording's place among the paths."""
    error: AudioDecodeError | None
    """Why the recording could not be read to its end."""


Event = AudioSegment | EndOfRecording
_Job = tuple[int, str, "Queue[Event]"]


def read_segments(paths: Iterable[str], max_seconds: float = 30.0, workers: int = 1) -> Generator[Event, None, None]:
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

    Yields
    ------
    AudioSegment or EndOfRecording
        The segments of the first path, its end, those of the second path, and so on.
    """
    stop = threading.Event()
    jobs: SimpleQueue[_Job | None] = SimpleQueue()
    for _ in range(workers):
        threading.Thread(target=_work, args=(jobs, max_seconds, stop), name="fun-asr-reader", daemon=True).start()
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


def _work(jobs: SimpleQueue[_Job | None], max_seconds: float, stop: threading.Event) -> None:
    while (job := jobs.get()) is not None and not stop.is_set():
        recording, path, events = job
        error: AudioDecodeError | None = None
        try:
            for span, samples in segment_stream(stream(path), max_seconds):
                # A copy, so that a segment keeps no more than itself alive.
                if not _put(events, AudioSegment(recording, span, samples.copy()), stop):
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
