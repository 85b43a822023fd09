"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["TEMPORARY_PREFIX", "TEMPORARY_SUFFIX", "replacing", "sync_folder", "write_atomically"]

TEMPORARY_PREFIX = ".fun-asr-"
TEMPORARY_SUFFIX = ".tmp"

_temporary_numbers = itertools.count()

# What file systems say that cannot sync a folder; on Windows folders cannot be opened.
_UNSYNCABLE = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EISDIR}


def write_atomically(path: Path, content: bytes, temporary_name: str | None = None, *, sync: bool = False) -> None:
    """Write a file under a temporary name in its folder, which is made if missing, and move it into place.

    Arguments:
        path: the file.
        content: all of it.
        temporary_name: None makes one up; a name used before replaces what a killed process left under it.
        sync: wait until the content is on the disk before it is moved, so that a power failure leaves either what was
            there or all of it; `sync_folder` waits for the move.

    Raises:
        OSError: when that fails; nothing is left behind.
    """
    with replacing(path, temporary_name) as temporary, open(temporary, "wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until files made in a folder, or moved into it, are there after a power failure; where that is possible.

    Raises:
        OSError: when the disk fails.
    """
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
    finally:
        os.close(opened)


@contextlib.contextmanager
def replacing(path: Path, temporary_name: str | None = None) -> Iterator[Path]:
    """`write_atomically` for what writes to a path: the temporary one, moved into place after the `with` block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, since the name itself may be as long as the file system allows.
    made_up = f"{TEMPORARY_PREFIX}{os.getpid()}-{next(_temporary_numbers)}{TEMPORARY_SUFFIX}"
    temporary = path.with_name(temporary_name or made_up)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary, str(temporary)):
            # A full disk is met in writing, which names no file, and the temporary name tells nobody anything.
            error.filename = str(path)
        raise
