"""Open recordings as seekable files: regular ones as they are, pipes spooled, parts of files as files of their own."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from typing import BinaryIO

from fun_asr.errors import AudioDecodeError

__all__ = ["Window", "is_spooled", "open_source", "size_of"]


def is_spooled(path: str | os.PathLike[str]) -> bool:
    """Whether reading the path uses it up: a pipe, a FIFO or a socket."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def open_source(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a recording for reading; what cannot be sought in is copied to a temporary file first.

    Without a buffer: libsndfile reads from the same descriptor, and a buffer would not know where that has got to.

    Raises:
        AudioDecodeError: when there is nothing to read, or it is not a file or pipe.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioDecodeError(path, "is a directory, not a recording")
        if stat.S_ISFIFO(mode):
            file = _spooled(path)
        elif stat.S_ISREG(mode):
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - for the caller to close
        else:
            raise AudioDecodeError(path, "is neither a file nor a pipe; write the audio to a file first")
        if os.fstat(file.fileno()).st_size == 0:
            file.close()
            raise AudioDecodeError(path, "is empty (0 bytes)")
        return file
    except (OSError, ValueError) as error:
        raise AudioDecodeError(path, getattr(error, "strerror", None) or str(error)) from error


def _spooled(path: str | os.PathLike[str]) -> io.FileIO:
    with open(path, "rb") as pipe, tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(pipe, spool, 1 << 20)
        spool.flush()
        return os.fdopen(os.dup(spool.fileno()), "rb", buffering=0)


def size_of(file: BinaryIO) -> int:
    """Length in bytes; the position moves."""
    return file.seek(0, io.SEEK_END)


class Window(io.RawIOBase, BinaryIO):
    """A part of a file as a file, with other bytes in place of its first ones if need be.

    Arguments:
        file: what it is a part of; its position moves.
        start, end: the part, bytes.
        head: what is read in place of as many bytes from `start`.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, head: bytes = b"") -> None:
        super().__init__()
        self._file, self._start, self._end, self._head = file, start, end, head
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end - self._start}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._start - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._start + self._position)
        data = self._file.read(wanted)
        if self._position < len(self._head):
            part = self._head[self._position :][: len(data)]
            data = part + data[len(part) :]
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
