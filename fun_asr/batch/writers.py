"""Transcripts as files: one small class a format, written under another name and then moved into place."""

from __future__ import annotations

import itertools
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from fun_asr.transcript import Transcript

__all__ = ["WRITERS", "JSONWriter", "TextWriter", "Writer", "json_line", "write_atomically"]

_temporary_numbers = itertools.count()


class Writer(ABC):
    """Turns a transcript into the content of a file."""

    extension: ClassVar[str]
    """Of the files, with its dot."""

    @abstractmethod
    def render(self, transcript: Transcript) -> str:
        """The whole file, its last line ended."""

    def write(self, transcript: Transcript, path: Path) -> None:
        """Write the file in UTF-8; a reader finds either nothing (or what was there before) or all of it.

        Raises:
            OSError: when the folder cannot be made or written to.
        """
        write_atomically(path, self.render(transcript).encode("utf-8", _ESCAPED))


class TextWriter(Writer):
    """The text alone, on one line."""

    extension = ".txt"

    def render(self, transcript: Transcript) -> str:
        return transcript.text + "\n"


class JSONWriter(Writer):
    """`Transcript.to_dict`, indented."""

    extension = ".json"

    def render(self, transcript: Transcript) -> str:
        return json.dumps(transcript.to_dict(), ensure_ascii=False, indent=2) + "\n"


WRITERS: dict[str, Writer] = {"txt": TextWriter(), "json": JSONWriter()}
"""The formats by name."""

# A file name that is not UTF-8 holds lone surrogates; escaped in this way they are valid JSON, and read back the same.
_ESCAPED = "backslashreplace"


def json_line(transcript: Transcript) -> bytes:
    """`Transcript.to_dict` as one line of JSON Lines, UTF-8, its end included."""
    return (json.dumps(transcript.to_dict(), ensure_ascii=False) + "\n").encode("utf-8", _ESCAPED)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in its folder, which is made if missing, and move it into place.

    Raises:
        OSError: when that fails; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, since the name itself may be as long as the file system allows.
    temporary = path.with_name(f".fun-asr-{os.getpid()}-{next(_temporary_numbers)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
