"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["TEMPORARY_PREFIX", "TEMPORARY_SUFFIX", "replacing", "write_atomically"]

TEMPORARY_PREFIX = ".fun-asr-"
TEMPORARY_SUFFIX = ".tmp"

_temporary_numbers = itertools.count()


def write_atomically(path: Path, content: bytes, temporary_name: str | None = None) -> None:
    """Write a file under a temporary name in its folder, which is made if missing, and move it into place.

    Arguments:
        path: the file.
        content: all of it.
        temporary_name: None makes one up; a name used before replaces what a killed process left under it.

    Raises:
        OSError: when that fails; nothing is left behind.
    """
    with replacing(path, temporary_name) as temporary:
        temporary.write_bytes(content)


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
