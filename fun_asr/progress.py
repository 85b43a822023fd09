"""How much of the audio of some recordings is done, and how much there is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fun_asr.audio.decode import probe
from fun_asr.audio.excerpt import Excerpt
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.spool import Source
from fun_asr.clips import cut_into
from fun_asr.options import TranscriptionOptions
from fun_asr.transcript import Result, Transcript

__all__ = ["OnProgress", "Progress"]

OnProgress = Callable[[float, float | None], object]
"""Called with the seconds of audio that are done, and the seconds that all recordings have together; None while the
length of one is not known."""


class Progress:
    """Tells how much audio is done, and of how much; a context manager.

    A sequence of recordings is looked through for their lengths in a thread of its own, others as they are taken.

    Arguments:
        on_progress: is told.
        sources: the recordings.
        options: how they are read, and which parts of them.
    """

    def __init__(self, on_progress: OnProgress, sources: Iterable[Source], options: TranscriptionOptions) -> None:
        self._on_progress = on_progress
        self._options = options
        self._done = 0.0
        self._told: tuple[float, float | None] = 0.0, None
        self._seconds: dict[int, float | None] = {}  # by number of the recording
        self._count: int | None = None  # of recordings; unknown until an iterator is at its end
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        if isinstance(sources, Sequence):
            self._count = len(sources)
            self._thread = threading.Thread(target=self._look, args=(sources,), name="fun-asr-lengths", daemon=True)
            self._thread.start()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._thread is not None:
            self._thread.join()

    def taken(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | os.PathLike[str]]:
        """The recordings as they are taken."""
        number = -1
        for number, path in enumerate(paths):
            if number not in self._seconds:
                self._learn(number, self._length(path))
            yield path
        self._count = number + 1

    def add(self, seconds: float) -> None:
        """Take up that so much more audio is done."""
        self._done += seconds
        total = self._total()
        # Each channel or track that is transcribed by itself is audio too.
        self._tell(None if total is None else max(total, self._done))

    def finish(self, number: int, result: Result) -> None:
        """Take up that a recording is done; of one that fails nothing more comes."""
        if not isinstance(result, Transcript):
            self._learn(number, 0.0)
        elif self._seconds.get(number) is None:
            self._learn(number, result.duration)

    def end(self) -> None:
        """All are done."""
        if self._told != (self._done, self._done):
            self._tell(self._done)

    def _tell(self, total: float | None) -> None:
        self._told = self._done, total
        self._on_progress(*self._told)

    def _total(self) -> float | None:
        with self._lock:
            if len(self._seconds) != self._count:
                return None
            total = 0.0
            for seconds in self._seconds.values():
                if seconds is None:
                    return None
                total += seconds
            return total

    def _length(self, path: str | os.PathLike[str]) -> float | None:
        return _length(path, self._options.clip_timestamps, self._options.audio)

    def _learn(self, number: int, seconds: float | None) -> None:
        with self._lock:
            self._seconds[number] = seconds

    def _look(self, sources: Sequence[Source]) -> None:
        for number, source in enumerate(sources):
            if self._closed:
                return
            if number not in self._seconds and isinstance(source, str | os.PathLike):
                seconds = self._length(source)
                with self._lock:
                    self._seconds.setdefault(number, seconds)


def _length(path: str | os.PathLike[str], clip_timestamps: Sequence[float], options: AudioOptions) -> float | None:
    """Seconds of a recording that are transcribed, by its header; None where that does not tell."""
    parts = [part for part, _ in cut_into(path, clip_timestamps)]
    whole = probe(Path(os.fsdecode(path)), options)
    total = 0.0
    for part in parts:
        offset, duration = (part.offset, part.duration) if isinstance(part, Excerpt) else (0.0, None)
        if whole is not None:
            rest = max(0.0, whole - offset)
            total += rest if duration is None else min(duration, rest)
        elif duration is not None:
            total += duration
        else:
            return None
    return total
