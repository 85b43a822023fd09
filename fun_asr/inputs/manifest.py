"""Lists of recordings: JSONL manifests in NeMo's keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fun_asr.errors import ManifestError

__all__ = ["ManifestRow", "parse_rows", "read_rows"]


@dataclass(frozen=True)
class ManifestRow:
    """One line of a manifest."""

    audio_filepath: str
    """A relative path is meant from the manifest's folder."""
    language: str | None
    speaker: str | None
    fields: Mapping[str, Any]
    """All keys but `audio_filepath`."""


def read_rows(path: Path) -> tuple[list[ManifestRow], list[ManifestError]]:
    """Read a manifest of one JSON object a line with `audio_filepath` and, optionally, `language` and `speaker`.

    Arguments:
        path: the manifest.

    Returns:
        its rows, and an error for each line that is none; one error alone when the file cannot be read.
    """
    try:
        with path.open("rb") as lines:
            return parse_rows(lines, str(path), path.parent)
    except OSError as error:
        return [], [ManifestError(f"{path}: {error.strerror}")]


def parse_rows(lines: Iterable[bytes], name: str, folder: Path) -> tuple[list[ManifestRow], list[ManifestError]]:
    """Rows and errors as of `read_rows`.

    Arguments:
        lines: of the manifest.
        name: what the manifest is called in errors.
        folder: where relative paths start.
    """
    rows: list[ManifestRow] = []
    errors: list[ManifestError] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(_row(line, folder))
            except ValueError as error:
                errors.append(ManifestError(f"{name}:{number}: {error}"))
    if not rows and not errors:
        errors.append(ManifestError(f"{name}: is a manifest without recordings"))
    return rows, errors


def _row(line: bytes, folder: Path) -> ManifestRow:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
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
