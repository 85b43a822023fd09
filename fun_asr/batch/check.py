"""Which recordings cannot be read, found out by opening each and decoding its first second."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from fun_asr.batch.journal import Key
from fun_asr.batch.shards import Task
from fun_asr.errors import AudioDecodeError, FunASRError

__all__ = ["unreadable"]

READERS = 4
CHECKED_SECONDS = 1.0


def unreadable(tasks: Sequence[Task]) -> dict[Key, FunASRError]:
    """What is wrong with the recordings that do not open; damage further on shows only when all is decoded.

    As strict as reading can be: what would be transcribed in part is named here too. Pipes can be read once, and are
    left alone.
    """
    with ThreadPoolExecutor(READERS) as readers:
        files = dict.fromkeys(task.file for task in tasks)
        found = dict(zip(files, readers.map(_error, files), strict=True))
    return {task.key: error for task in tasks if (error := found[task.file]) is not None}


def _error(path: str) -> FunASRError | None:
    from fun_asr.audio.decode import stream
    from fun_asr.audio.options import AudioOptions
    from fun_asr.audio.source import is_spooled

    if is_spooled(path):
        return None
    try:
        with closing(stream(path, CHECKED_SECONDS, AudioOptions(strict=True))) as blocks:
            next(blocks)
    except AudioDecodeError as error:
        return error
    except Exception as error:  # whatever a codec raises
        return AudioDecodeError(path, f"cannot be decoded: {type(error).__name__}: {error}")
    return None
