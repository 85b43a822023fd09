"""A file that says how a batch goes while it runs, for monitors: JSON, or text for Prometheus's node exporter."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fun_asr.batch.runner import BatchObserver, Failure, Summary
from fun_asr.batch.shards import Task
from fun_asr.files import write_atomically
from fun_asr.transcript import Transcript

__all__ = ["PROMETHEUS_SUFFIX", "StatusFile"]

PROMETHEUS_SUFFIX = ".prom"
INTERVAL_SECONDS = 5.0

_STATES = ("done_before", "transcribed", "failed", "left")


class StatusFile:
    """Writes a batch's counts every few seconds; a `BatchObserver` that tells another one too, and a context manager.

    A file whose name ends in .prom has metrics in Prometheus's text format, another one a JSON object. `updated` moves
    while the batch runs, also where one recording takes long.

    Arguments:
        path: the file; None writes none.
        observer: is told everything too.
        warn: is told, once, where the file cannot be written, which the batch outlives.
    """

    def __init__(self, path: Path | None, observer: BatchObserver, warn: Callable[[str], object]) -> None:
        self._path, self._observer, self._warn = path, observer, warn
        self._counts = {state: 0 for state in _STATES}
        self._audio_seconds = 0.0
        self._status = "running"
        self._started = time.time()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="fun-asr-status", daemon=True)

    def __enter__(self) -> Self:
        if self._path is not None:
            self._write()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What ends without a summary has failed."""
        self._end("failed")

    def planned(self, tasks: Sequence[Task], left: Sequence[Task]) -> None:
        """As `BatchObserver.planned`."""
        with self._lock:
            self._counts |= {"done_before": len(tasks) - len(left), "left": len(left)}
        self._observer.planned(tasks, left)

    def done(self, task: Task, transcript: Transcript) -> None:
        """As `BatchObserver.done`."""
        with self._lock:
            self._counts["transcribed"] += 1
            self._counts["left"] -= 1
            self._audio_seconds += transcript.duration
        self._observer.done(task, transcript)

    def failed(self, task: Task | None, failure: Failure) -> None:
        """As `BatchObserver.failed`."""
        with self._lock:
            self._counts["failed"] += 1
            self._counts["left"] -= task is not None
        self._observer.failed(task, failure)

    def ended(self, summary: Summary) -> None:
        """The batch has ended, and how."""
        self._end(summary.status)

    def _end(self, status: str) -> None:
        if self._path is None or self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        self._status = status
        self._write()

    def _keep_up(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self._write()

    def _write(self) -> None:
        assert self._path is not None
        with self._lock:
            state = self._state()
        text = _prometheus(state) if self._path.suffix == PROMETHEUS_SUFFIX else json.dumps(state, indent=2) + "\n"
        try:
            write_atomically(self._path, text.encode())
        except OSError as error:
            self._warn(f"{self._path}: cannot be written to: {error.strerror or error}")
            self._warn = lambda _: None

    def _state(self) -> dict[str, Any]:
        now = time.time()
        elapsed = now - self._started
        return {
            "status": self._status,
            "total": sum(self._counts.values()),
            **self._counts,
            "audio_seconds": round(self._audio_seconds, 3),
            "wall_seconds": round(elapsed, 3),
            "rtfx": round(self._audio_seconds / elapsed, 2) if elapsed > 0 else 0.0,
            "started": round(self._started, 3),
            "updated": round(now, 3),
        }


def _prometheus(state: dict[str, Any]) -> str:
    """Prometheus's text format, version 0.0.4."""
    metrics = [
        ("recordings", "Recordings of the batch by state.", {f'{{state="{s}"}}': state[s] for s in _STATES}),
        ("audio_seconds", "Audio transcribed.", {"": state["audio_seconds"]}),
        ("wall_seconds", "Time that the batch has run.", {"": state["wall_seconds"]}),
        ("started_timestamp_seconds", "When the batch began.", {"": state["started"]}),
        ("updated_timestamp_seconds", "When these numbers were right.", {"": state["updated"]}),
        ("running", "1 while the batch runs, 0 when it has ended.", {"": int(state["status"] == "running")}),
        ("succeeded", "1 when the batch has ended and nothing is left or has failed.", {"": _succeeded(state)}),
    ]
    lines = []
    for name, description, values in metrics:
        lines += [f"# HELP fun_asr_batch_{name} {description}", f"# TYPE fun_asr_batch_{name} gauge"]
        lines += [f"fun_asr_batch_{name}{labels} {value}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def _succeeded(state: dict[str, Any]) -> int:
    return int(state["status"] == "finished" and not state["left"] and not state["failed"])
