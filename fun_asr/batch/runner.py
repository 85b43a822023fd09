"""A batch from the recordings found to their outputs: what is left to do is done, recorded and counted."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from fun_asr.audio.excerpt import plain_seconds
from fun_asr.audio.names import short_names, stem
from fun_asr.batch.check import unreadable
from fun_asr.batch.engine import Engine, RecordingDone, Work
from fun_asr.batch.journal import JOURNAL_FILE, Journal, Key
from fun_asr.batch.shards import Shard, Task, plan
from fun_asr.errors import AudioDecodeError, FunASRError, Terminated
from fun_asr.files import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, sync_folder, write_atomically
from fun_asr.inputs.discover import output_names
from fun_asr.inputs.sources import Recording
from fun_asr.transcript import Lost, ModelInfo, Result, Transcript, TranscriptionFailure
from fun_asr.writers.base import Writer

__all__ = ["BatchObserver", "BatchRun", "Failure", "Summary", "describe", "hash_config"]

Status = Literal["finished", "stopped", "interrupted", "terminated", "planned"]
"""Planned is what `BatchRun.look` only looked at."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # every other output would fail too


@dataclass(frozen=True)
class Failure:
    """What could not be done."""

    path: str | None
    """The recording or folder as the user named it, with the times of a part of it (talk.wav#t=12.5,15); None where it
    is a list or a line of one."""
    error: FunASRError


class BatchObserver(Protocol):
    """Is told how a batch goes."""

    def planned(self, tasks: Sequence[Task], left: Sequence[Task]) -> None:
        """Before the first recording: all, and those to do now."""

    def done(self, task: Task, transcript: Transcript) -> None:
        """A recording's outputs are in place."""

    def failed(self, task: Task | None, failure: Failure) -> None:
        """Something failed; the task where it is one that was planned."""


@dataclass
class Summary:
    """How a batch went."""

    total: int
    """Recordings, and whatever else failed before it was one."""
    done_before: int = 0
    transcribed: int = 0
    failures: list[Failure] = field(default_factory=list)
    incomplete: dict[str, tuple[Lost, ...]] = field(default_factory=dict)
    """What could not be decoded of recordings that were transcribed, by path."""
    audio_seconds: float = 0.0
    """Of what was transcribed."""
    wall_seconds: float = 0.0
    status: Status = "finished"
    repeated: int = 0
    """Recordings that were given more than once, and taken once."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Files below folders that are no recordings: how many of each suffix, in lower case."""

    @property
    def left(self) -> int:
        """Recordings that were not come to."""
        return self.total - self.done_before - self.transcribed - len(self.failures)

    @property
    def rtfx(self) -> float:
        """Seconds of audio transcribed a second, everything included."""
        return self.audio_seconds / self.wall_seconds if self.wall_seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report, for JSON."""
        return {
            "status": self.status,
            "total": self.total,
            "done_before": self.done_before,
            "transcribed": self.transcribed,
            "failed": len(self.failures),
            "left": self.left,
            "left_out": dict(self.left_out),
            "audio_seconds": round(self.audio_seconds, 3),
            "wall_seconds": round(self.wall_seconds, 3),
            "rtfx": round(self.rtfx, 2),
            "incomplete": [
                {"path": path, "lost": [part.to_dict() for part in lost]} for path, lost in self.incomplete.items()
            ],
            "failures": [
                {
                    "path": failure.path,
                    "kind": type(failure.error).__name__,
                    "cause": failure.error.cause if isinstance(failure.error, AudioDecodeError) else str(failure.error),
                }
                for failure in self.failures
            ],
        }


def hash_config(*parts: object) -> str:
    """A short hash of what decides on a transcript, given as values that JSON can hold."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(
    recordings: Iterable[Recording],
    folder: str,
    config: str,
    language: str | None,
    journal: Journal,
    *,
    named: bool = False,
) -> tuple[list[Task], list[Failure]]:
    """What there is to know of recordings before they are opened, and those that are not there.

    Arguments:
        recordings: different ones.
        folder: their places below it name their outputs.
        config: hash of the model and its options.
        language: code for all; None leaves it to the lists, or else to detection.
        journal: gives recordings that it knows the names they had.
        named: outputs hold the recordings' names, so that one which gets another name is done again.
    """
    by_path: dict[str, Recording] = {}
    for recording in recordings:
        by_path[_identity(recording, by_path)] = recording
    places = {
        path: place
        for path, recording in by_path.items()
        if (place := _place_of_outputs(recording, path, folder)) is not None
    }
    given = {path: entry.name for path, entry in journal.entries.items()}
    names = output_names(by_path, folder, given, places)
    unnamed = {places.get(path, path): path for path, recording in by_path.items() if recording.info.name is None}
    called = {unnamed[place]: name for place, name in short_names(unnamed).items()}
    tasks: list[Task] = []
    failures: list[Failure] = []
    for path, recording in by_path.items():
        try:
            status = os.stat(recording.path)
        except OSError as error:
            failures.append(Failure(path, AudioDecodeError(recording.path, error.strerror or str(error))))
            continue
        if not stat.S_ISREG(status.st_mode):
            failures.append(Failure(path, AudioDecodeError(recording.path, "is not a regular file")))
            continue
        spoken = language or recording.language
        info = recording.info
        own = hash_config(config, spoken, info.name, info.fields)
        if recording.excerpt is not None:
            own = hash_config(own, recording.excerpt.offset, recording.excerpt.duration)
        if info.name is None:
            info = dataclasses.replace(info, name=called[path])
            if named and called[path] != stem(os.path.basename(places.get(path, path))):
                own = hash_config(own, called[path])
        key = Key(os.path.abspath(path), status.st_size, status.st_mtime_ns, own)
        tasks.append(Task(recording.source, key, names[path], spoken, info))
    return tasks, failures


def _identity(recording: Recording, others: Container[str]) -> str:
    """The recording's path, with the part's times where it is not the only one or does not begin where that does."""
    excerpt = recording.excerpt
    if excerpt is None or not (excerpt.offset or recording.path in others):
        return recording.path
    return str(excerpt) if str(excerpt) not in others else f"{excerpt}&id={recording.output_name}"


def _place_of_outputs(recording: Recording, identity: str, folder: str) -> str | None:
    """A path after which outputs are called; None where that is the recording's own."""
    if recording.output_name is not None:
        return os.path.join(folder, recording.output_name.lstrip(os.sep) + ".wav")
    if recording.excerpt is None or identity == recording.path:
        return None
    name = stem(recording.path)
    return f"{name}@{plain_seconds(recording.offset)}{recording.path[len(name) :]}"


@dataclass
class BatchRun:
    """One run of a batch; `run` may be called once.

    Outputs are written and recorded by this process alone, whatever does the work.
    """

    tasks: Sequence[Task]
    journal: Journal
    engine: Engine
    writers: Mapping[str, Writer]
    output_dir: Path
    observer: BatchObserver
    failures: Sequence[Failure] = ()
    """What failed before there was a task."""
    max_failures: int | None = None
    """Stop at this many; None never does."""
    overwrite: bool = False
    """Do everything again, and replace files that no batch wrote."""
    check_files: bool = False
    """Open every recording before the first is transcribed."""

    def __post_init__(self) -> None:
        self._summary = Summary(total=len(self.tasks) + len(self.failures))
        self._begun: list[Shard] = []
        self._waiting: deque[Shard] = deque()
        self._results: dict[int, int] = {}  # work -> results received
        self._model: ModelInfo | None = None  # the one last noted
        self._synced: set[Path] = set()  # folders that are sure to be in theirs
        self._no_room = False
        # The same in every run: what a kill left is used up by the recording that it was written for.
        # Another in each run of those that share the folder.
        place = self.output_dir if self.journal.path.name == JOURNAL_FILE else self.output_dir / self.journal.path.name
        digest = hashlib.sha256(os.fsencode(os.path.abspath(place))).hexdigest()[:8]
        self._temporary = f"{TEMPORARY_PREFIX}{digest}{TEMPORARY_SUFFIX}"

    def run(self) -> Summary:
        """Do what is left; KeyboardInterrupt and a full disk end it early, with the summary of what was done.

        Raises:
            FunASRError: when no worker can load the model, or what was done cannot be forgotten.
        """
        start = time.perf_counter()
        summary = self._summary
        try:
            if self.overwrite and not self.journal.empty:
                self._restart()
            self._plan()
            if not self._gave_up():
                with closing(self.engine.run(self._next_work)) as events:
                    for event in events:
                        if isinstance(event, RecordingDone):
                            self._results[event.work] += 1
                            self._receive(self._begun[event.work], event.index, event.result)
                        elif event.error is not None:
                            self._retry(self._begun[event.work], self._results[event.work], event.error)
                        if self._gave_up():
                            break
            if summary.left or self._no_room:
                summary.status = "stopped"
        except KeyboardInterrupt as interrupt:
            summary.status = "terminated" if isinstance(interrupt, Terminated) else "interrupted"
        summary.wall_seconds = time.perf_counter() - start
        return summary

    def look(self) -> Summary:
        """What `run` would do, in place of it: the observer is told, and nothing is written.

        The journal forgets what it would be told to, so it must be a copy.
        """
        if self.overwrite and not self.journal.empty:
            self._restart()
        self._plan()
        self._summary.status = "planned"
        return self._summary

    def _restart(self) -> None:
        try:
            self.journal.restart()
        except OSError as error:
            raise FunASRError(f"{self.output_dir}: cannot be written to: {error.strerror or error}") from None

    def _plan(self) -> None:
        """Find out what is left to do; what cannot be done fails here."""
        complete = {task.key for task in self.tasks if self._complete(task)}
        self._summary.done_before = len(complete)
        left = [task for task in self.tasks if task.key not in complete]
        self.observer.planned(self.tasks, left)
        for failure in self.failures:
            self._fail(None, failure)
        unfit = self._foreign(left)
        if self.check_files:
            unfit |= unreadable([task for task in left if task.key not in unfit])
        for task in left:
            if task.key in unfit:
                self._fail(task, Failure(task.path, unfit[task.key]))
        fit = [task for task in self.tasks if task.key not in unfit]
        self._waiting.extend(plan(fit, self.journal, complete, self.engine.workers))

    def _gave_up(self) -> bool:
        return self._no_room or (self.max_failures is not None and len(self._summary.failures) >= self.max_failures)

    def _place(self, task: Task, writer: Writer) -> Path:
        return self.output_dir / (task.name + writer.extension)

    def _complete(self, task: Task) -> bool:
        """Whether every output asked for is recorded and there as it was written."""
        entry = self.journal.entries.get(task.key.path)
        if entry is None or entry.key != task.key or entry.failed:
            return False
        for name, writer in self.writers.items():
            try:
                if os.stat(self._place(task, writer)).st_size != entry.outputs.get(name):
                    return False
            except OSError:
                return False
        return True

    def _foreign(self, tasks: Sequence[Task]) -> dict[Key, FunASRError]:
        """Those whose outputs would replace files that no batch wrote."""
        if self.overwrite:
            return {}
        ours = {entry.name for entry in self.journal.entries.values()}
        return {
            task.key: FunASRError(f"{place}: exists, and no batch wrote it; --overwrite replaces it")
            for task in tasks
            if task.name not in ours
            for place in (self._place(task, writer) for writer in self.writers.values())
            if os.path.lexists(place)
        }

    def _next_work(self) -> Work | None:
        while self._waiting:
            shard = self._waiting.popleft()
            if not shard.noted:
                try:
                    self.journal.begin([(task.key, task.name) for task in shard.tasks])
                except OSError as error:
                    # Without the record, a later run could not tell whose outputs these are.
                    for i in sorted(shard.wanted):
                        self._fail_to_write(shard.tasks[i], self.output_dir, error)
                        if self._gave_up():
                            return None
                    continue
            number = len(self._begun)
            self._begun.append(shard)
            self._results[number] = 0
            return Work(number, tuple(task.source for task in shard.tasks), shard.tasks[0].language)
        return None

    def _receive(self, shard: Shard, index: int, result: Result) -> None:
        task = shard.tasks[index]
        if index not in shard.wanted:
            return
        if isinstance(result, TranscriptionFailure):
            self._record_failure(task, result.error)
            return
        outputs: dict[str, int] = {}
        place = self.output_dir
        try:
            for name, writer in self.writers.items():
                place = self._place(task, writer)
                content = writer.encode(result, task.info)
                write_atomically(place, content, self._temporary, sync=True)
                outputs[name] = len(content)
            place = place.parent
            self._sync(place)
            place = self.output_dir
            if result.model is not None and result.model != self._model:
                self.journal.model(result.model.to_dict())
                self._model = result.model
            self.journal.done(task.key, task.name, outputs, result.duration, result.lost)
        except OSError as error:
            self._fail_to_write(task, place, error)
            return
        self._summary.transcribed += 1
        if result.incomplete:
            self._summary.incomplete[task.path] = result.lost
        self._summary.audio_seconds += result.duration
        self.observer.done(task, result)

    def _sync(self, folder: Path) -> None:
        """Make sure of the files moved into a folder, and of the folder, which this run may have made."""
        sync_folder(folder)
        while folder != self.output_dir and folder not in self._synced:
            sync_folder(folder.parent)
            self._synced.add(folder)
            folder = folder.parent

    def _retry(self, shard: Shard, results: int, cause: str) -> None:
        """Do each recording of a work that broke off by itself, to find out which one breaks it."""
        rest = [task for i, task in enumerate(shard.tasks) if i >= results and i in shard.wanted]
        if len(shard.tasks) == 1:
            for task in rest:
                self._record_failure(task, AudioDecodeError(task.path, cause))
            return
        self._waiting.extendleft(Shard((task,), frozenset({0}), noted=True) for task in reversed(rest))

    def _record_failure(self, task: Task, error: FunASRError) -> None:
        cause = error.cause if isinstance(error, AudioDecodeError) else str(error)
        # Recorded or not, it is tried again by the next run.
        with suppress(OSError):
            self.journal.failed(task.key, task.name, cause)
        self._fail(task, Failure(task.path, error))

    def _fail_to_write(self, task: Task, place: Path, error: OSError) -> None:
        # Not recorded as failed: with its shard, which is then cut short, it is transcribed again when there is room.
        self._no_room = self._no_room or error.errno in _NO_ROOM
        cause = f"{task.path}: cannot be written to {place}: {error.strerror or error}"
        self._fail(task, Failure(task.path, FunASRError(cause)))

    def _fail(self, task: Task | None, failure: Failure) -> None:
        self._summary.failures.append(failure)
        self.observer.failed(task, failure)
