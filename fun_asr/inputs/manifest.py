"""Lists of utterances: JSONL manifests in NeMo's keys, and Kaldi's data directories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fun_asr.audio.excerpt import Excerpt
from fun_asr.errors import ManifestError
from fun_asr.text.encodings import without_mark

__all__ = ["ManifestRow", "parse_rows", "read_rows"]

_NOT_JSON = object()


@dataclass(frozen=True)
class ManifestRow:
    """One utterance of a list."""

    audio_filepath: str
    """A relative path is meant from the manifest's folder, or in Kaldi's wav.scp from the working directory."""
    language: str | None
    """As the line names it."""
    speaker: str | None
    fields: Mapping[str, Any]
    """All keys but `audio_filepath`; of Kaldi's data directory the `id`, `text`, `speaker` and so on that it has."""
    place: str = field(default="", compare=False)
    """The manifest and the line's number, as errors name them."""
    name: str | None = None
    """The utterance's identifier, where the list has one for each."""
    offset: float = 0.0
    """Where it begins in the recording, seconds."""
    duration: float | None = None
    """Its length in seconds; None is all of the recording that follows."""

    @property
    def source(self) -> str | Excerpt:
        """What is to be decoded: the recording, or a part of it."""
        whole = not self.offset and self.duration is None
        return self.audio_filepath if whole else Excerpt(self.audio_filepath, self.offset, self.duration)


def read_rows(path: Path) -> tuple[list[ManifestRow], list[ManifestError]]:
    """Read a list of utterances: a manifest, or a folder that is a data directory of Kaldi's (`read_data_dir`).

    A manifest has JSON objects with `audio_filepath` and, optionally, `offset`, `duration` (seconds), `language` and
    `speaker`, one a line or in one array. A duration of 0 or null is all that follows.

    Arguments:
        path: the manifest or the folder.

    Returns:
        its rows, and an error for each line that is none; one error alone when the file cannot be read.
    """
    if path.is_dir():
        from fun_asr.inputs.kaldi import read_data_dir

        return read_data_dir(path)
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
    path = entry.pop("audio_filepath")
    if "\0" in path:
        raise ValueError("audio_filepath holds a NUL character")
    row = ManifestRow(
        str(folder / path),
        _label(entry, "language"),
        _label(entry, "speaker"),
        entry,
        offset=_seconds(entry, "offset") or 0.0,
        duration=_seconds(entry, "duration") or None,
    )
    Excerpt(row.audio_filepath, row.offset, row.duration)  # refuses what can be no part of a recording
    return row


def _seconds(entry: dict[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{key} must be a number of seconds, got {value!r}") from None


def _label(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    # Labels are printed: on one line, without the lone surrogates that JSON may hold.
    label = "" if value is None else " ".join(str(value).split()).encode("utf-8", "backslashreplace").decode()
    return label or None
