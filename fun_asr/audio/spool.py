"""Recordings that are no files: bytes and open files, put where the decoder can seek in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from fun_asr.errors import AudioDecodeError, ConfigError

__all__ = ["Source", "Spool", "is_source"]

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A path, or the content of a recording: bytes or a file open for reading in binary."""


def is_source(value: object) -> bool:
    """Whether a value is one recording, and not several."""
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(value, "read")


class Spool:
    """Temporary files that are gone with it."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names: dict[str, str | None] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def paths(self, sources: Iterable[Source]) -> Iterator[str | os.PathLike[str]]:
        """A path for each of some recordings; contents are written to files as they are reached.

        Raises:
            AudioDecodeError: when a file cannot be read.
            ConfigError: for what is neither a path nor a content.
        """
        for source in sources:
            if isinstance(source, str | os.PathLike):
                yield source
            elif is_source(source):
                yield self._write(source)
            else:
                raise ConfigError(
                    f"a recording is a path, bytes or a file open for reading, not {type(source).__name__}; "
                    "samples in memory go to transcribe_samples(samples, sampling_rate=...)"
                )

    def name_of(self, path: str | None) -> str | None:
        """What a recording is called: its own path, or None where it has none."""
        return None if path is None else self._names.get(path, path)

    def is_spooled(self, path: str | None) -> bool:
        """Whether a path is one of a temporary file."""
        return path in self._names

    def drop(self, path: str | None) -> None:
        """Remove a recording's temporary file, if it has one."""
        if path is not None and path in self._names:
            del self._names[path]
            Path(path).unlink(missing_ok=True)

    def _write(self, source: bytes | BinaryIO) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="fun-asr-")
        name = None if isinstance(source, bytes | bytearray | memoryview) else getattr(source, "name", None)
        label = name if isinstance(name, str) else None
        handle, path = tempfile.mkstemp(dir=self._folder.name, suffix=Path(label or "").suffix[:10])
        with os.fdopen(handle, "wb") as file:
            if isinstance(source, bytes | bytearray | memoryview):
                file.write(source)
            else:
                try:
                    shutil.copyfileobj(source, file)
                except (OSError, ValueError, TypeError) as error:
                    raise AudioDecodeError(label or "a file object", f"cannot be read ({error})") from None
        self._names[path] = label
        return path
