"""The standard streams, where one is closed, full, or of an encoding that cannot hold a text."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from typing import TextIO

__all__ = [
    "STANDARD_INPUT_NAME",
    "STANDARD_OUTPUT_NAME",
    "give_up_output",
    "is_closed",
    "not_encoded",
    "prepare_streams",
]

STANDARD_INPUT_NAME = "standard input"
STANDARD_OUTPUT_NAME = "standard output"


class _Closed(io.RawIOBase):
    """A stream of which no byte can be read or written, which is said to whoever tries."""

    def __init__(self, name: str) -> None:
        self._name = name

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise OSError(errno.EBADF, "is closed", self._name)

    def write(self, data: object) -> int:
        # click finds out by writing nothing whether a stream takes bytes.
        if len(memoryview(data)):  # type: ignore[arg-type]
            raise OSError(errno.EBADF, "is closed", self._name)
        return 0


class _StandardOutput(io.FileIO):
    """Says in its errors what could not be written to."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            error.filename = STANDARD_OUTPUT_NAME
            raise


def prepare_streams() -> None:
    """Put streams in the place of standard input and output whose errors name them, also where they are closed."""
    _fill_closed()
    output = sys.stdout
    # With PYTHONUNBUFFERED the buffer is the file itself.
    if isinstance(output, io.TextIOWrapper) and type(getattr(output.buffer, "raw", output.buffer)) is io.FileIO:
        output.flush()
        raw = _StandardOutput(output.fileno(), "wb", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw) if hasattr(output.buffer, "raw") else raw,
            encoding=output.encoding,
            errors=output.errors,
            line_buffering=output.line_buffering,
            write_through=output.write_through,
        )


def _fill_closed() -> None:
    """Put streams that explain themselves in the place of closed ones (`>&-`), which Python knows as None.

    Their descriptors are taken by the null device, since the next file that is opened would get them, and with it what
    a library writes to its standard error.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    # typeshed has them as never None.
    closed = {name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None}
    if "stdin" in closed:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Closed(STANDARD_INPUT_NAME)), encoding="utf-8")
    if "stdout" in closed:
        # Nothing stays in a buffer, which would fail once more when the interpreter ends.
        raw = _Closed(STANDARD_OUTPUT_NAME)
        sys.stdout = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    if "stderr" in closed:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (open until the end)


def is_closed(stream: TextIO) -> bool:
    """Whether a standard stream is one that `prepare_streams` put there."""
    buffer = getattr(stream, "buffer", None)
    return isinstance(getattr(buffer, "raw", buffer), _Closed)


def not_encoded(error: UnicodeEncodeError) -> str | None:
    """What is wrong with the encoding of standard output; None where the text was for something else."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if not _same(error.encoding, encoding) or _same(encoding, "utf-8"):
        return None
    letter = error.object[error.start]
    return f"{STANDARD_OUTPUT_NAME}: is {encoding}, which has no {letter!r}; PYTHONIOENCODING=utf-8 sets what has"


def _same(first: str, second: str) -> bool:
    try:
        return codecs.lookup(first) == codecs.lookup(second)
    except LookupError:
        return False


def give_up_output() -> None:
    """Send what is left to nowhere: the interpreter's end would try to write it again, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
