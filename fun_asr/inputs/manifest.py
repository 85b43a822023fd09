"""Lists of recordings: JSONL manifests in NeMo's keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fun_asr.errors import ManifestError
from fun_asr.text.encodings import without_mark

__all__ = ["ManifestRow", "parse_rows", "read_rows"]

_NOT_JSON = object()


@dataclass(frozen=True)
class ManifestRow:
    """One line of a manifest."""

    audio_filepath: str
    """A relative path is meant from the manifest's folder."""
    language: str | None
    """As the line names it."""
    speaker: str | None
    fields: Mapping[str, Any]
    """All keys but `audio_filepath`."""
    place: str = field(default="", compare=False)
    """The manifest and the line's number, as errors name them."""


def read_rows(path: Path) -> tuple[list[ManifestRow], list[ManifestError]]:
    """Read a manifest of JSON objects with `audio_filepath` and, optionally, `language` and `speaker`.

    The objects stand one a line, or in one array.

    Arguments:
        path: the manifest.

    Returns:
        its rows, and an error for each line that is none; one error alone when the file cannot be read.
    """
    try:
        return parse_rows(path.read_bytes(), str(path), path.parent)
    except OSError as error:
        return [], [ManifestError(f"{path}: {error.strerror}")]


def parse_rows(content: bytes, name: str, folder: Path) -> tuple[list[ManifestRow], list[ManifestError]]:
    """Rows and errors as of `read_rows`.

    Arguments:
        content: of the manifest.
        name: what the manifest is called in errors.
        folder: where relative paths start.
    """
    rows: list[ManifestRow] = []
    errors: list[ManifestError] = []
    for number, entry in _entries(without_mark(content)):
        try:
            rows.append(replace(_row(entry, folder), place=f"{name}:{number}"))
        except ValueError as error:
            errors.append(ManifestError(f"{name}:{number}: {error}"))
    if not rows and not errors:
        errors.append(ManifestError(f"{name}: is a manifest without recordings"))
    return rows, errors


def _entries(content: bytes) -> Iterator[tuple[int, Any]]:
    """What the manifest holds, with the numbers of the lines, or in an array the places; `_NOT_JSON` for a bad line."""
    if content.lstrip().startswith(b"["):
        try:
            yield from enumerate(json.loads(content), start=1)
        except json.JSONDecodeError as error:
            yield error.lineno, _NOT_JSON
        except (ValueError, RecursionError):
            yield 1, _NOT_JSON
        return
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, _NOT_JSON


def _row(entry: Any, folder: Path) -> ManifestRow:
    if entry is _NOT_JSON:
        raise ValueError("is not JSON")
    if not isinstance(entry, dict) or not isinstance(entry.get("audio_filepath"), str):
        raise ValueError('needs a JSON object with "audio_filepath"')
    if entry.get("offset"):
        raise ValueError("a part of a recording (offset) cannot be read from a manifest; cut it into a file of its own")
    path = entry.pop("audio_filepath")
    if "\0" in path:
        raise ValueError("audio_filepath holds a NUL character")
    return ManifestRow(str(folder / path), _label(entry, "language"), _label(entry, "speaker"), entry)


def _label(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    # Labels are printed: on one line, without the lone surrogates that JSON may hold.
    label = "" if value is None else " ".join(str(value).split()).encode("utf-8", "backslashreplace").decode()
    return label or None
