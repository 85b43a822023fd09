"""The recordings of a batch: folders, files, manifests, Kaldi's data and lists on standard input, each of them once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fun_asr.audio.excerpt import ROUNDING_SECONDS, Excerpt
from fun_asr.errors import FunASRError, ManifestError
from fun_asr.inputs.discover import Search, expanded, find_recordings, identity_of
from fun_asr.inputs.info import RecordingInfo
from fun_asr.inputs.kaldi import is_data_dir, read_scp
from fun_asr.inputs.manifest import ManifestRow, parse_rows, read_rows
from fun_asr.text.encodings import encoding_of, without_mark
from fun_asr.text.languages import language_code, unknown_language

__all__ = ["Recording", "Sources", "find_sources"]

MANIFEST_SUFFIXES = (".jsonl", ".json")
SCP_SUFFIX = ".scp"
LIST_ON_STANDARD_INPUT = "-"
_STANDARD_INPUT_NAME = "standard input"
# Or an array of objects; a path may begin with a bracket.
_MANIFEST = re.compile(rb"\s*(?:\[\s*)?\{")
# What no name holds, but every recording soon does; `find -print0` ends names with NUL.
_NO_NAMES = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]|\0\0")
_LOOKED_AT = 4096  # bytes


@dataclass(frozen=True)
class Recording:
    """A recording, or a part of one, and what its list says of it."""

    path: str
    """As it was given or found."""
    language: str | None = None
    """Code; None where no list gives one."""
    info: RecordingInfo = field(default_factory=RecordingInfo)
    excerpt: Excerpt | None = None
    """Which part of it; None is all."""
    output_name: str | None = None
    """What its outputs are called; None is after the recording."""

    @property
    def source(self) -> str | Excerpt:
        """What is to be decoded."""
        return self.excerpt or self.path

    @property
    def offset(self) -> float:
        """Where it begins in the recording, seconds."""
        return self.excerpt.offset if self.excerpt else 0.0


@dataclass
class Sources:
    """What was found."""

    recordings: list[Recording]
    """In the order of the arguments; a folder's sorted by name, the parts of a recording by their times, together."""
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
        arguments: audio files, folders, globs, manifests (.jsonl, .json), Kaldi's wav.scp (.scp) and data directories,
            or `-` for a list on standard input: paths, one a line or ended by NUL characters, or the lines of a
            manifest. Relative paths start from the manifest's folder, in wav.scp and on standard input from the working
            directory.
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
            content = standard_input.read()
            if encoding_of(content)[0] == 0 and _NO_NAMES.search(content[:_LOOKED_AT]):
                cause = "holds no list; batch - takes paths, one a line, and transcribe - the recording itself"
                failures.append(ManifestError(f"{_STANDARD_INPUT_NAME}: {cause}"))
                continue
            content = without_mark(content)
            if _MANIFEST.match(content):
                add_listed(*_of_rows(*parse_rows(content, _STANDARD_INPUT_NAME, Path())))
            elif paths := _listed_paths(content):
                add_paths(paths)
            else:
                failures.append(ManifestError(f"{_STANDARD_INPUT_NAME}: is a list without recordings"))
        elif is_list and argument.lower().endswith(MANIFEST_SUFFIXES):
            add_listed(*_of_rows(*read_rows(Path(argument))))
        elif is_list and argument.lower().endswith(SCP_SUFFIX):
            add_listed(*_of_rows(*read_scp(Path(argument))))
        elif is_data_dir(argument):
            add_listed(*_of_rows(*read_rows(Path(argument)), named=True))
        else:
            add_paths([argument])

    once = _each_once(found)
    folder = os.path.commonpath(folders) if folders else os.getcwd()
    return Sources(once, failures, folder, len(found) - len(once), left_out)


def _each_once(found: Iterable[Recording]) -> list[Recording]:
    """Recordings and parts without those given again, those of one file together in the order of their times."""
    # Files by the device and inode of their folders, and a name: links lead to one folder under several paths.
    files: dict[tuple[object, str], dict[object, Recording]] = {}
    folders: dict[str, object] = {}
    for recording in found:
        folder, name = os.path.split(os.path.abspath(recording.path))
        if folder not in folders:
            folders[folder] = identity_of(folder)
        parts = files.setdefault((folders[folder], name), {})
        if not _is_among(recording, parts.values()):
            parts.setdefault((recording.excerpt, recording.output_name), recording)
    return [part for parts in files.values() for part in sorted(parts.values(), key=lambda part: part.offset)]


def _is_among(recording: Recording, parts: Collection[Recording]) -> bool:
    """Whether a file is called whole where another part has its length, or the other way round."""
    whole, excerpt = recording.excerpt is None, recording.excerpt
    if excerpt is not None and excerpt.offset:
        return False
    return any(
        _covers(other.excerpt or excerpt)
        for other in parts
        if whole != (other.excerpt is None) and not other.offset and recording.output_name == other.output_name
    )


def _covers(excerpt: Excerpt | None) -> bool:
    from fun_asr.audio.decode import probe

    if excerpt is None or excerpt.duration is None:
        return True
    length = probe(excerpt.path)
    return length is None or length <= excerpt.duration + ROUNDING_SECONDS


def _of_rows(
    rows: list[ManifestRow], errors: list[ManifestError], *, named: bool = False
) -> tuple[list[Recording], list[ManifestError]]:
    """The recordings of a list, and beside its other errors those for languages that nobody knows.

    Arguments:
        rows, errors: of the list.
        named: call outputs after the utterances.
    """
    recordings: list[Recording] = []
    errors = list(errors)
    for row in rows:
        code = None if row.language is None else language_code(row.language)
        if row.language is not None and code is None:
            errors.append(ManifestError(f"{row.place}: {unknown_language(row.language)}"))
            continue
        info = RecordingInfo(name=row.name, fields=row.fields)
        excerpt = row.source if isinstance(row.source, Excerpt) else None
        recordings.append(Recording(row.audio_filepath, code, info, excerpt, row.name if named else None))
    return recordings, errors


def _listed_paths(content: bytes) -> list[str]:
    # `find -print0` can name what has a line break in its name.
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [path for path in (os.fsdecode(name) for name in names) if path.strip() and path != LIST_ON_STANDARD_INPUT]
