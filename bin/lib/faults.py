"""Batches of which the k-th operation on a file fails, ends the process, or is the last before a power failure.

The operations are those of Python on files below one folder: opening for writing, writing, syncing, cutting, moving and
deleting files, making and syncing folders. Nothing here waits for a disk: what a sync would have kept is remembered,
and a power failure leaves that and, of the rest, as little or as much as the fault says.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

__all__ = ["FAULTS", "Disk", "Fault", "in_child"]


@dataclass(frozen=True)
class Fault:
    """What happens at one operation."""

    name: str
    error: int = 0
    """errno that it raises; 0 ends the process."""
    lasting: bool = False
    """Whether all that needs room fails from there on: the disk is full."""
    half: bool = False
    """Whether a write writes half of its bytes first; other operations are let through."""
    power: bool = False
    """Whether what was not synced is lost too."""
    loses_content: bool = False
    """Files hold zeros from where they were synced; their names are kept."""
    loses_names: bool = False
    """Files made or moved since their folder was synced are back in their old places."""
    keeps: str = ""
    """A file of this name loses nothing."""


def _faults() -> tuple[Fault, ...]:
    errors = [Fault(name, error=getattr(errno, name)) for name in ("EIO", "ENOSPC", "EACCES")]
    full = [
        Fault("disk full", error=errno.ENOSPC, lasting=True),
        Fault("disk full in a write", error=errno.ENOSPC, lasting=True, half=True),
        Fault("half written", error=errno.ENOSPC, half=True),
    ]
    kills = [Fault("killed"), Fault("killed in a write", half=True)]
    power = [
        Fault("power: content lost", power=True, loses_content=True),
        Fault("power: names lost", power=True, loses_names=True),
        Fault("power: both lost", power=True, loses_content=True, loses_names=True),
    ]
    # The journal's lines on the disk before what they speak of.
    early = [
        Fault(f"{fault.name}, journal kept", power=True, loses_content=fault.loses_content,
              loses_names=fault.loses_names, keeps=".fun-asr-journal")
        for fault in power
    ]  # fmt: skip
    return (*errors, *full, *kills, *power, *early)


FAULTS = _faults()
_NEEDS_ROOM = {"open", "write", "mkdir"}


@dataclass
class _Inode:
    """A file's content, whatever it is called."""

    synced: bytes = b""


@dataclass
class Disk:
    """Counts the operations below a folder; the one of number `at` goes wrong."""

    folder: Path
    fault: Fault | None = None
    at: int = -1
    count: int = 0
    log: list[str] = field(default_factory=list)
    """What was done, operation and name."""

    def __post_init__(self) -> None:
        self._root = os.path.abspath(self.folder)
        self._open = builtins.open
        self._os = {
            name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "unlink", "mkdir", "ftruncate")
        }
        self._descriptors: dict[int, str] = {}
        names = [str(path) for path in self.folder.rglob("*")]
        self._names = {path: _Inode(Path(path).read_bytes()) for path in names if os.path.isfile(path)}
        self._synced_names = dict(self._names)
        self._synced_folders = {self._root, *(path for path in names if os.path.isdir(path))}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside the `with` block, operations are counted."""
        own: dict[str, Callable[..., Any]] = {
            "open": self._os_open, "write": self._write, "fsync": self._fsync, "replace": self._replace,
            "unlink": self._unlink, "mkdir": self._mkdir, "ftruncate": self._ftruncate,
        }  # fmt: skip
        with ExitStack() as stack:
            for name, function in own.items():
                stack.enter_context(mock.patch.object(os, name, function))
            for module in (builtins, io):
                stack.enter_context(mock.patch.object(module, "open", self._file_open))
            yield

    def _watched(self, path: Any) -> str | None:
        if isinstance(path, int):
            return self._descriptors.get(path)
        absolute = os.path.abspath(os.fspath(path))
        return absolute if isinstance(absolute, str) and f"{absolute}/".startswith(f"{self._root}/") else None

    def _point(self, operation: str, path: str, half: Callable[[], object] | None = None) -> None:
        """An operation is about to be done."""
        number, fault = self.count, self.fault
        self.count += 1
        self.log.append(f"{operation} {os.path.relpath(path, self._root)}")
        if fault is None or number < self.at or (number > self.at and not fault.lasting):
            return
        if number > self.at and operation not in _NEEDS_ROOM:
            return
        if number == self.at and fault.half:
            if half is None:
                return
            half()
        if fault.power:
            self._lose()
        if not fault.error:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(fault.error, os.strerror(fault.error), path)

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
        watched = self._watched(path)
        made = watched is not None and not os.path.exists(watched)
        if watched is not None:
            self._point("open" if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) else "open folder", watched)
        opened: int = self._os["open"](path, flags, mode, **rest)
        if watched is not None:
            self._descriptors[opened] = watched
            if made:
                self._names[watched] = _Inode()
        return opened

    def _file_open(self, file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        watched = None if isinstance(file, int) else self._watched(file)
        if watched is None or not set(mode) & set("wax+"):
            return self._open(file, mode, *rest, **named)
        assert "b" in mode
        self._point("open", watched)
        raw = _File(self, watched, mode.replace("b", ""))
        self._names[watched] = _Inode()
        self._descriptors[raw.fileno()] = watched
        return io.BufferedWriter(raw)

    def _write(self, descriptor: int, data: bytes) -> int:
        if (path := self._watched(descriptor)) is not None:
            self._point("write", path, lambda: self._os["write"](descriptor, bytes(data)[: len(data) // 2]))
        written: int = self._os["write"](descriptor, data)
        return written

    def _fsync(self, descriptor: int) -> None:
        path = self._watched(descriptor)
        if path is None:
            return
        self._point("fsync", path)
        if os.path.isdir(path):
            self._synced_names = {
                name: inode for name, inode in self._synced_names.items() if os.path.dirname(name) != path
            } | {name: inode for name, inode in self._names.items() if os.path.dirname(name) == path}
            self._synced_folders |= {entry.path for entry in os.scandir(path) if entry.is_dir()}
        else:
            self._names[path].synced = Path(path).read_bytes()

    def _replace(self, source: Any, target: Any) -> None:
        old, new = self._watched(source), self._watched(target)
        assert old is not None and new is not None
        self._point("replace", new)
        self._os["replace"](source, target)
        self._names[new] = self._names.pop(old)

    def _unlink(self, path: Any, **rest: Any) -> None:
        if (watched := self._watched(path)) is not None and os.path.lexists(watched):
            self._point("unlink", watched)
        self._os["unlink"](path, **rest)
        if watched is not None:
            self._names.pop(watched, None)

    def _mkdir(self, path: Any, mode: int = 0o777, **rest: Any) -> None:
        if (watched := self._watched(path)) is not None and not os.path.isdir(watched):
            self._point("mkdir", watched)
        self._os["mkdir"](path, mode, **rest)

    def _ftruncate(self, descriptor: int, size: int) -> None:
        if (path := self._watched(descriptor)) is not None:
            self._point("ftruncate", path)
        self._os["ftruncate"](descriptor, size)

    def _lose(self) -> None:
        """Leave what a power failure leaves."""
        fault = self.fault
        assert fault is not None
        now = {path: Path(path).read_bytes() for path in self._names}
        names = dict(self._synced_names if fault.loses_names else self._names)
        if fault.keeps:
            names |= {path: inode for path, inode in self._names.items() if os.path.basename(path) == fault.keeps}
        contents = {id(inode): now[path] for path, inode in self._names.items()}
        after: dict[str, bytes] = {}
        for path, inode in names.items():
            content = contents.get(id(inode), inode.synced)
            if fault.loses_content and os.path.basename(path) != fault.keeps:
                content = inode.synced[: len(content)].ljust(len(content), b"\0")
            after[path] = content
        for path in now:
            self._os["unlink"](path)
        if fault.loses_names:
            lost = [path for path in self.folder.rglob("*") if path.is_dir() and str(path) not in self._synced_folders]
            for folder in lost:
                shutil.rmtree(folder, ignore_errors=True)
        for path, content in after.items():
            if os.path.isdir(os.path.dirname(path)):
                with self._open(path, "wb") as file:
                    file.write(content)


class _File(io.FileIO):
    """A file whose writes are counted."""

    def __init__(self, disk: Disk, path: str, mode: str) -> None:
        self._disk = disk
        self._path = path
        super().__init__(path, mode)

    def write(self, data: Any) -> int:
        half = bytes(data)[: len(data) // 2]
        self._disk._point("write", self._path, lambda: io.FileIO.write(self, half))
        return super().write(data)


def in_child(run: Callable[[], object]) -> int:
    """The exit status of a process that does something and ends: 0, 1 for an exception, or less than 0 for a signal."""
    child = os.fork()
    if not child:
        _run_and_exit(run)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run_and_exit(run: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        run()
        status = 0
    finally:
        os._exit(status)
