"""The recordings of a batch: folders, files, manifests, wav.scp and lists on standard input, each recording once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fun_asr.errors import FunASRError, ManifestError
from fun_asr.inputs.discover import Search, expanded, find_recordings
from fun_asr.inputs.info import RecordingInfo
from fun_asr.inputs.manifest import ManifestRow, parse_rows, read_rows
from fun_asr.text.encodings import without_mark
from fun_asr.text.languages import language_code, unknown_language

__all__ = ["Recording", "Sources", "find_sources"]

MANIFEST_SUFFIXES = (".jsonl", ".json")
SCP_SUFFIX = ".scp"
LIST_ON_STANDARD_INPUT = "-"
_STANDARD_INPUT_NAME = "standard input"
# Or an array of objects; a path may begin with a bracket.
_MANIFEST = re.compile(rb"\s*(?:\[\s*)?\{")


@dataclass(frozen=True)
class Recording:
    """A recording and what its list says of it."""

    path: str
    """As it was given or found."""
    language: str | None = None
    """Code; None where no list gives one."""
    info: RecordingInfo = field(default_factory=RecordingInfo)


@dataclass
class Sources:
    """What was found."""

    recordings: list[Recording]
    """In the order of the arguments; a folder's sorted by name."""
    failures: list[FunASRError]
    """Folders, lists and their lines that cannot be used."""
    folder: str
    """The deepest folder that holds everything found; the recordings' places below it are kept in the output."""
    repeated: int
    """Recordings that were given again, which are left out."""
    left_out: Counter[str]
    """Files below folders that are no recordings: how many of each suffix, in lower case."""


def find_sources(arguments: Sequence[str], search: Search, standard_input: BinaryIO) -> Sources:
    """Find the recordings that the arguments of a batch stand for.

    Arguments:
        arguments: audio files, folders, globs, manifests (.jsonl, .json), Kaldi's wav.scp (.scp), or `-` for a list on
            standard input: paths, one a line or ended by NUL characters, or the lines of a manifest. Relative paths
            start from the manifest's folder, in wav.scp and on standard input from the working directory.
        search: what is taken from folders.
        standard_input: read to its end where `-` is among the arguments.
    """
    found: list[Recording] = []
    failures: list[FunASRError] = []
    folders: list[str] = []

    left_out: Counter[str] = Counter()

    def add_paths(paths: Sequence[str]) -> None:
        if paths:
            inputs = find_recordings(paths, search)
            found.extend(map(Recording, inputs.recordings))
            failures.extend(inputs.failures)
            folders.append(inputs.folder)
            left_out.update(inputs.left_out)

    def add_listed(recordings: Iterable[Recording], errors: Iterable[FunASRError]) -> None:
        listed = list(recordings)
        found.extend(listed)
        failures.extend(errors)
        folders.extend(os.path.dirname(os.path.abspath(recording.path)) for recording in listed)

    for argument in (path for given in arguments for path in expanded(given)):
        is_list = not os.path.isdir(argument)
        if argument == LIST_ON_STANDARD_INPUT:
            content = without_mark(standard_input.read())
            if _MANIFEST.match(content):
                add_listed(*_of_rows(*parse_rows(content, _STANDARD_INPUT_NAME, Path())))
            elif paths := _listed_paths(content):
                add_paths(paths)
            else:
                failures.append(ManifestError(f"{_STANDARD_INPUT_NAME}: is a list without recordings"))
        elif is_list and argument.lower().endswith(MANIFEST_SUFFIXES):
            add_listed(*_of_rows(*read_rows(Path(argument))))
        elif is_list and argument.lower().endswith(SCP_SUFFIX):
            add_listed(*_read_scp(Path(argument)))
        else:
            add_paths([argument])

    once: dict[str, Recording] = {}
    for recording in found:
        once.setdefault(os.path.abspath(recording.path), recording)
    folder = os.path.commonpath(folders) if folders else os.getcwd()
    return Sources(list(once.values()), failures, folder, len(found) - len(once), left_out)


def _of_rows(rows: list[ManifestRow], errors: list[ManifestError]) -> tuple[list[Recording], list[ManifestError]]:
    """The recordings of a manifest, and beside its other errors those for languages that nobody knows."""
    recordings: list[Recording] = []
    errors = list(errors)
    for row in rows:
        code = None if row.language is None else language_code(row.language)
        if row.language is not None and code is None:
            errors.append(ManifestError(f"{row.place}: {unknown_language(row.language)}"))
        else:
            recordings.append(Recording(row.audio_filepath, code, RecordingInfo(fields=row.fields)))
    return recordings, errors


def _listed_paths(content: bytes) -> list[str]:
    # `find -print0` can name what has a line break in its name.
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [path for path in (os.fsdecode(name) for name in names) if path.strip() and path != LIST_ON_STANDARD_INPUT]


def _read_scp(path: Path) -> tuple[list[Recording], list[FunASRError]]:
    recordings: list[Recording] = []
    errors: list[FunASRError] = []
    try:
        lines = without_mark(path.read_bytes()).splitlines()
    except OSError as error:
        return [], [ManifestError(f"{path}: {error.strerror}")]
    for number, line in enumerate(lines, start=1):
        fields = os.fsdecode(line).strip().split(maxsplit=1)
        if len(fields) == 1 or (fields and "\0" in fields[1]):
            errors.append(ManifestError(f"{path}:{number}: needs an utterance id and a path"))
        elif fields and fields[1].endswith("|"):
            errors.append(ManifestError(f"{path}:{number}: is a command; only files are read, so run it first"))
        elif fields:
            recordings.append(Recording(fields[1], info=RecordingInfo(name=fields[0])))
    if not recordings and not errors:
        errors.append(ManifestError(f"{path}: is a list without recordings"))
    return recordings, errors
