"""How a batch goes, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fun_asr.cli.common import print_error, print_warnings

if TYPE_CHECKING:
    from fun_asr.batch.runner import Failure
    from fun_asr.batch.shards import Task
    from fun_asr.transcript import Transcript

LINE_SECONDS = 60.0


class BatchProgress:
    """Shows files, hours of audio, RTFx, the time left and failures; a `BatchObserver` and a context manager.

    The time left follows from the bytes done and to do, as lengths are unknown before recordings are opened.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._start = self._last_line = time.monotonic()
        self._files = self._done = self._failed = 0
        self._bytes = self._bytes_done = 0
        self._seconds = 0.0

    def __enter__(self) -> BatchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def planned(self, tasks: Sequence[Task], left: Sequence[Task]) -> None:
        """As `BatchObserver.planned`."""
        from tqdm import tqdm

        if len(left) < len(tasks):
            click.echo(f"fun-asr: {len(tasks) - len(left)} of {len(tasks)} were done before", err=True)
        self._files = len(left)
        self._bytes = sum(task.key.size for task in left)
        self._start = self._last_line = time.monotonic()
        # Without a unit or a rate of its own: both are in the description.
        self._bar = tqdm(total=len(left), disable=None, bar_format="{percentage:3.0f}%|{bar}| {desc}")
        self._show(0)

    def done(self, task: Task, transcript: Transcript) -> None:
        """As `BatchObserver.done`."""
        self._seconds += transcript.duration
        with self._bar.external_write_mode(file=sys.stderr):
            print_warnings(transcript)
        self._finish(task)

    def failed(self, task: Task | None, failure: Failure) -> None:
        """As `BatchObserver.failed`."""
        self._failed += 1
        with self._bar.external_write_mode(file=sys.stderr):
            print_error(failure.error)
        if task is not None:
            self._finish(task)

    def _finish(self, task: Task) -> None:
        self._done += 1
        self._bytes_done += task.key.size
        self._show(1)

    def _show(self, finished: int) -> None:
        if not self._bar.disable:
            self._bar.set_description_str(self._status(), refresh=finished == 0)
            self._bar.update(finished)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            click.echo(f"fun-asr: {self._status()}", err=True)

    def _status(self) -> str:
        elapsed = time.monotonic() - self._start
        left = "?"
        if self._bytes_done:
            left = _clock(elapsed * (self._bytes - self._bytes_done) / self._bytes_done)
        speed = self._seconds / elapsed if elapsed else 0.0
        return (
            f"{self._done}/{self._files} files, {self._seconds / 3600:.2f} h of audio, RTFx {speed:.1f}, "
            f"{left} left, {self._failed} failed"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
