"""An append-only record of a batch: what was begun, finished and failed, so that a killed run can be taken up again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from fun_asr.errors import FunASRError
from fun_asr.files import sync_folder
from fun_asr.transcript import Lost

try:
    import fcntl
except ImportError:  # Windows, where two runs on one folder are not kept apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["JOURNAL_FILE", "Entry", "Journal", "Key"]

JOURNAL_FILE = ".fun-asr-journal"  # no output is called so: each has a format's extension

_CHECKSUM = b',"crc32":"'  # in no string, where quotation marks are escaped
_CHECKSUM_BYTES = len(_CHECKSUM) + 8 + len(b'"}')
_KEYS = {
    "restart": {"event"},
    "begin": {"event", "files"},
    "done": {"event", "file", "outputs", "seconds"},
    "failed": {"event", "file", "cause"},
    "model": {"event", "model"},
}
"""Of each event's line. One with others had a checksum whose name was damaged."""
_LOSS_KEYS = {"incomplete", "lost"}  # of the line of a recording of which a part could not be decoded


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
    begun: bool = False
    """Whether it was begun, perhaps once more, and not ended."""

    @property
    def ended(self) -> bool:
        """Whether the recording was transcribed or could not be, each time that it was begun."""
        return not self.begun and (self.failed or bool(self.outputs))


class Journal:
    """The journal of an output folder, locked against a second run; a context manager.

    It has one JSON object a line, its checksum last. Each is one `write` to a file opened for appending, so a kill
    loses at most the last line; what is left of it, or damaged in another way, is passed over when it is read again. A
    lost line costs work that is done again. What is begun is synced to the disk at once, since without it a later run
    could not tell whose outputs it finds; who records what is done syncs the outputs first.

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
        self.path = path
        """Where it is."""
        self._torn = False  # whether the file ends inside a line
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise FunASRError(f"{path}: {error.strerror}") from None
        try:
            self._lock()
            self._read()
            sync_folder(path.parent)
        except OSError as error:
            os.close(self._file)
            raise FunASRError(f"{path}: {error.strerror or error}") from None
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
        os.fsync(self._file)
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
        self._failed(key, name)

    def _restart(self) -> None:
        self.shards.clear()
        for entry in self.entries.values():
            entry.failed = entry.begun = False
            entry.outputs.clear()

    def _begin(self, files: Sequence[tuple[Key, str]]) -> None:
        self.shards.append([key for key, _ in files])
        for key, name in files:
            self._entry(key, name).begun = True

    def _failed(self, key: Key, name: str) -> None:
        entry = self._entry(key, name)
        entry.failed, entry.begun = True, False

    def _done(self, key: Key, name: str, outputs: Mapping[str, int]) -> None:
        entry = self._entry(key, name)
        entry.outputs.update(outputs)
        entry.failed = entry.begun = False

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
                raise FunASRError(f"{self.path.parent}: another batch is writing into this folder") from None

    def _read(self) -> None:
        with os.fdopen(os.dup(self._file), "rb") as lines:
            for line in lines:
                self._torn = not line.endswith(b"\n")
                # What a kill or a bad disk left of a line, or another program wrote.
                with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    self._apply(_parse(line))

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
                self._failed(Key(*key), name)

    def _append(self, record: dict[str, Any]) -> None:
        # ASCII: a name that is not UTF-8 becomes escapes that read back the same.
        body = json.dumps(record, separators=(",", ":")).encode("ascii")
        # A part of a line must not take the next one with it.
        line = b"\n" * self._torn + body[:-1] + _CHECKSUM + b'%08x"}\n' % zlib.crc32(body)
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            error.filename = str(self.path)
            raise
        self._torn = False


def _parse(line: bytes) -> dict[str, Any]:
    """The record of a line; those that older versions wrote have no checksum.

    Raises:
        ValueError, KeyError, TypeError: for a damaged line.
    """
    line = line.rstrip(b"\n")
    body, digits = line[:-_CHECKSUM_BYTES] + b"}", line[-10:-2]
    if line[-_CHECKSUM_BYTES:].startswith(_CHECKSUM):
        if line[-2:] != b'"}' or digits != b"%08x" % zlib.crc32(body):
            raise ValueError("damaged")
        line = body
    record: dict[str, Any] = json.loads(line)
    if record.keys() not in (_KEYS[record["event"]], _KEYS["done"] | _LOSS_KEYS):
        raise ValueError("damaged")
    return record
