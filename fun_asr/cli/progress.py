"""How far a command has come, on standard error: a bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from fun_asr.audio.excerpt import Excerpt
from fun_asr.cli.common import print_error, print_warnings
from fun_asr.cli.lengths import Lengths
from fun_asr.cli.say import informs, record, say

if TYPE_CHECKING:
    from fun_asr.batch.runner import Failure
    from fun_asr.batch.shards import Task
    from fun_asr.transcript import Transcript

LINE_SECONDS = 30.0
BAR_SECONDS = 1.0
UNKNOWN_COLUMNS = 80


class Pace:
    """How fast audio is done, and when all will be.

    Before the first audio is done, some of what follows it has been read, and is in the time that it took. So once as
    much again is done, the pace is that since the first report.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._first: tuple[float, float] | None = None
        self._last = 0.0, self._start
        self.done = 0.0
        """Seconds of audio."""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def rtfx(self) -> float:
        """Seconds of audio done in a second."""
        return self.done / self.elapsed if self.elapsed else 0.0

    def add(self, seconds: float) -> None:
        """Take up that so much more audio is done."""
        self.done += seconds
        self._last = self.done, self._clock()
        self._first = self._first or self._last

    def left(self, total: float | None) -> float | None:
        """Seconds until `total` seconds of audio are done; None while that cannot be known."""
        if total is None or self._first is None:
            return None
        done, at = self._last
        first_done, first_at = self._first
        if done >= 2 * first_done and at > first_at:
            pace = (at - first_at) / (done - first_done)
        else:
            pace = (at - self._start) / done
        return max(0.0, (total - done) * pace - (self._clock() - at))


class Progress:
    """Shows files, audio done and to do, RTFx, the time left and failures; a context manager.

    Nothing is shown where standard error is to have warnings and errors alone.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._lengths: Lengths | None = None
        self._files = self._files_done = self._failed = 0
        self._pace = Pace()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        if self._lengths is not None:
            self._lengths.close()
        if self._bar is not None:
            self._bar.close()

    def begin(self, sizes: Mapping[str, int | None], files: int | None = None) -> None:
        """Start the clock.

        Arguments:
            sizes: bytes of each recording, by path; None where they are not known.
            files: how many recordings there are, where some paths are given more than once.
        """
        from tqdm import tqdm

        self._files = len(sizes) if files is None else files
        shown = informs()
        self._bar = tqdm(
            total=1.0,
            disable=None if shown else True,
            ncols=_columns(sys.stderr),
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
        )
        self._pace = Pace()
        if shown:
            self._lengths = Lengths(sizes)
            period = LINE_SECONDS if self._bar.disable else BAR_SECONDS
            self._thread = threading.Thread(target=self._tick, args=(period,), name="fun-asr-progress", daemon=True)
            self._thread.start()
            self._draw()

    def add(self, seconds: float) -> None:
        """Take up that so much more audio is done."""
        self._pace.add(seconds)
        self._draw()

    def finish(self, path: str, *, seconds: float | None = None, failed: bool = False) -> None:
        """Take up that a recording is done.

        Arguments:
            path: as in `begin`.
            seconds: its length, where it is known now.
            failed: whether it has no transcript.
        """
        self._files_done += 1
        self._failed += failed
        if self._lengths is not None:
            self._lengths.learn(path, seconds or 0.0)
        self._draw()

    def out_of_the_way(self, stream: TextIO) -> AbstractContextManager[Any]:
        """While a stream is written to, which may be the same terminal."""
        return self._bar.external_write_mode(file=stream)  # type: ignore[no-any-return]

    def fail(self) -> None:
        """Take up that something else failed than a recording."""
        self._failed += 1

    def _tick(self, period: float) -> None:
        while not self._stopped.wait(period):
            # Where standard error or the log file fails, the command's own lines say so.
            with suppress(OSError):
                if self._bar.disable:
                    status, facts = self.status()
                    say(status, **facts)
                else:
                    self._draw()

    def _draw(self) -> None:
        if self._bar is None or self._bar.disable:
            return
        total = self._total()
        with self._bar.get_lock():
            self._bar.n = 0.0 if not total else min(1.0, self._pace.done / total)
            self._bar.set_description_str(self.status()[0])

    def _total(self) -> float | None:
        total = None if self._lengths is None else self._lengths.total
        # Each channel or track that is transcribed by itself is audio too.
        return None if total is None else max(total, self._pace.done)

    def status(self) -> tuple[str, dict[str, Any]]:
        """How far it is, as a text and as numbers."""
        pace, total = self._pace, self._total()
        left = pace.left(total)
        parts = [
            f"{clock(pace.done)} of {'?' if total is None else clock(total)} of audio",
            f"RTFx {pace.rtfx:.1f}",
            f"{'?' if left is None else clock(left)} left",
        ]
        if self._files > 1:
            parts.insert(0, f"{self._files_done}/{self._files} files")
        if self._failed:
            parts.append(f"{self._failed} failed")
        facts = {
            "files_done": self._files_done,
            "files": self._files,
            "failed": self._failed,
            "audio_seconds_done": round(pace.done, 1),
            "audio_seconds": None if total is None else round(total, 1),
            "rtfx": round(pace.rtfx, 2),
            "seconds_left": None if left is None else round(left, 1),
        }
        return ", ".join(parts), facts


class BatchProgress(Progress):
    """The progress of a batch: a `BatchObserver`."""

    def __enter__(self) -> BatchProgress:
        return self

    def planned(self, tasks: Sequence[Task], left: Sequence[Task]) -> None:
        """As `BatchObserver.planned`."""
        if len(left) < len(tasks):
            say(f"{len(tasks) - len(left)} of {len(tasks)} were done before")
        self.begin({task.path: task.key.size for task in left})
        if self._lengths is not None:
            for task in left:
                # A part's length is its list's, and says nothing of the file's.
                if isinstance(task.source, Excerpt) and task.source.duration is not None:
                    self._lengths.learn(task.path, task.source.duration)
        self._reported = False

    def progressed(self, seconds: float) -> None:
        """Some worker is done with so many seconds of audio."""
        self._reported = True
        self.add(seconds)

    def done(self, task: Task, transcript: Transcript) -> None:
        """As `BatchObserver.done`."""
        print_warnings(transcript)
        record_done(transcript)
        if not self._reported:
            self.add(transcript.duration)
        self.finish(task.path, seconds=transcript.duration)

    def failed(self, task: Task | None, failure: Failure) -> None:
        """As `BatchObserver.failed`."""
        print_error(failure.error)
        if task is None:
            self.fail()
        else:
            self.finish(task.path, failed=True)


def record_done(transcript: Transcript) -> None:
    """Note in the log file that a recording has a transcript."""
    record(
        "transcribed",
        path=transcript.path,
        duration=round(transcript.duration, 3),
        language=transcript.language,
        incomplete=transcript.incomplete,
    )


def _columns(stream: TextIO) -> int | None:
    """Of a terminal that does not know how wide it is, as in containers and under `script`; None of any other."""
    try:
        return None if os.get_terminal_size(stream.fileno()).columns else UNKNOWN_COLUMNS
    except (OSError, ValueError):
        return None


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any: 1:02, 1:00:02."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
