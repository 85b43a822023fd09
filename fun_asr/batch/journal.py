"""An append-only record of a batch: what was begun, finished and failed, so that a killed run can be taken up again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from fun_asr.errors import FunASRError
from fun_asr.transcript import Lost

try:
    import fcntl
except ImportError:  # Windows, where two runs on one folder are not kept apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["JOURNAL_FILE", "Entry", "Journal", "Key"]

JOURNAL_FILE = ".fun-asr-journal"  # no output is called so: each has a format's extension


class Key(NamedTuple):
    """What a recording was when it was transcribed, and how it was transcribed."""

    path: str
    """Absolute."""
    size: int
    """Bytes."""
    mtime_ns: int
    config: str
    """Hash of everything else that decides on the transcript."""


@dataclass
class Entry:
    """The latest that is known of a recording."""

    key: Key
    name: str
    """Of its outputs, without extension, below the output folder."""
    failed: bool = False
    outputs: dict[str, int] = field(default_factory=dict)
    """Bytes written, by format."""

    @property
    def ended(self) -> bool:
        """Whether the recording was transcribed or could not be."""
        return self.failed or bool(self.outputs)


class Journal:
    """The journal of an output folder, locked against a second run; a context manager.

    It has one JSON object a line. Each is one `write` to a file opened for appending, so a kill loses at most the last
    line, of which the rest is passed over when it is read again. Nothing is synced to the disk: after a power failure
    the recorded sizes tell which outputs are whole.

    Arguments:
        path: made where it is missing.

    Raises:
        FunASRError: when it cannot be opened, or another run has it open.
    """

    def __init__(self, path: Path) -> None:
        self.entries: dict[str, Entry] = {}
        """By absolute path."""
        self.shards: list[list[Key]] = []
        """Recordings that were transcribed together, in the order in which they were begun."""
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise FunASRError(f"{path}: {error.strerror}") from None
        try:
            self._lock()
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    @property
    def empty(self) -> bool:
        """Whether nothing was begun since the last restart."""
        return not self.entries

    def restart(self) -> None:
        """Forget what was done, but not which outputs are this journal's."""
        self._append({"event": "restart"})
        self._restart()

    def begin(self, files: Sequence[tuple[Key, str]]) -> None:
        """Note, before any output is written, which recordings are transcribed together and their outputs' names.

        Raises:
            OSError: when that cannot be written; as for the methods below.
        """
        self._append({"event": "begin", "files": [[*key, name] for key, name in files]})
        self._begin(files)

    def done(self, key: Key, name: str, outputs: Mapping[str, int], seconds: float, lost: Sequence[Lost] = ()) -> None:
        """Note that a recording's outputs are in place.

        Arguments:
            key, name: the recording.
            outputs: bytes by format.
            seconds, lost: length of the recording, and what of it could not be decoded, for whoever reads the journal.
        """
        record = {"event": "done", "file": [*key, name], "outputs": dict(outputs), "seconds": round(seconds, 3)}
        if lost:
            record |= {"incomplete": True, "lost": [part.to_dict() for part in lost]}
        self._append(record)
        self._done(key, name, outputs)

    def model(self, info: Mapping[str, Any]) -> None:
        """Note what transcribes from here on, for whoever reads the journal."""
        self._append({"event": "model", "model": dict(info)})

    def failed(self, key: Key, name: str, cause: str) -> None:
        """Note that a recording has no transcript, and why."""
        self._append({"event": "failed", "file": [*key, name], "cause": cause})
        self._entry(key, name).failed = True

    def _restart(self) -> None:
        self.shards.clear()
        for entry in self.entries.values():
            entry.failed = False
            entry.outputs.clear()

    def _begin(self, files: Sequence[tuple[Key, str]]) -> None:
        self.shards.append([key for key, _ in files])
        for key, name in files:
            self._entry(key, name)

    def _done(self, key: Key, name: str, outputs: Mapping[str, int]) -> None:
        entry = self._entry(key, name)
        entry.failed = False
        entry.outputs.update(outputs)

    def _entry(self, key: Key, name: str) -> Entry:
        entry = self.entries.get(key.path)
        if entry is None or entry.key != key or entry.name != name:
            entry = self.entries[key.path] = Entry(key, name)
        return entry

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise FunASRError(f"{self._path.parent}: another batch is writing into this folder") from None

    def _read(self) -> None:
        with os.fdopen(os.dup(self._file), "rb") as lines:
            last = b"\n"
            for last in lines:
                # What a kill left of a line, or another program wrote.
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                    self._apply(json.loads(last))
        if not last.endswith(b"\n"):
            # It must not take the next line with it.
            with contextlib.suppress(OSError):
                os.write(self._file, b"\n")

    def _apply(self, record: dict[str, Any]) -> None:
        event = record["event"]
        if event == "restart":
            self._restart()
        elif event == "begin":
            self._begin([(Key(*file[:4]), file[4]) for file in record["files"]])
        elif event != "model":
            *key, name = record["file"]
            if event == "done":
                self._done(Key(*key), name, record["outputs"])
            elif event == "failed":
                self._entry(Key(*key), name).failed = True

    def _append(self, record: dict[str, Any]) -> None:
        # ASCII: a name that is not UTF-8 becomes escapes that read back the same.
        line = (json.dumps(record, separators=(",", ":")) + "\n").encode("ascii")
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            error.filename = str(self._path)
            raise
