"""Kaldi's data directories: wav.scp, and beside it segments, utt2spk, utt2lang and text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fun_asr.audio.excerpt import Excerpt
from fun_asr.errors import ManifestError
from fun_asr.inputs.manifest import ManifestRow
from fun_asr.text.encodings import decoded, without_mark

__all__ = ["SCP_FILE", "is_data_dir", "read_data_dir", "read_scp"]

SCP_FILE = "wav.scp"
_SHOWN = 40  # characters of a command

_Errors = list[ManifestError]


def is_data_dir(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a data directory: it has a wav.scp."""
    return os.path.isfile(os.path.join(path, SCP_FILE))


def read_scp(path: Path) -> tuple[list[ManifestRow], list[ManifestError]]:
    """Recordings of a wav.scp, an id and a path a line; commands and parts of archives are refused by name.

    Relative paths are meant from the working directory, as Kaldi's programs read them.

    Returns:
        its rows, and an error for each line that is none; one error alone when the file cannot be read.
    """
    rows: list[ManifestRow] = []
    errors: _Errors = []
    for number, line in _lines(path, errors):
        name, _, recording = line.partition(" ")
        place = f"{path}:{number}"
        recording = recording.strip()
        if not recording or "\0" in recording:
            errors.append(ManifestError(f"{place}: needs an utterance id and a path"))
        elif recording.endswith("|"):
            command = recording[:_SHOWN] + "..." * (len(recording) > _SHOWN)
            cause = f"{name} is a command ({command}); only files are read, so run it first"
            errors.append(ManifestError(f"{place}: {cause}"))
        elif _in_archive(recording):
            cause = f"{name} is a part of an archive ({recording}); only files are read: copy it out with wav-copy"
            errors.append(ManifestError(f"{place}: {cause}"))
        else:
            rows.append(ManifestRow(recording, None, None, {}, place, name))
    if not rows and not errors:
        errors.append(ManifestError(f"{path}: is a list without recordings"))
    return rows, errors


def read_data_dir(folder: Path) -> tuple[list[ManifestRow], list[ManifestError]]:
    """The utterances of a data directory: those of `segments`, or where there is none, wav.scp's recordings whole.

    Returns:
        a row for each utterance, its `text` and `speaker` in `fields` where the folder has them, and an error for each
        line that cannot be used.
    """
    if not is_data_dir(folder):
        return [], [ManifestError(f"{folder}: is a folder without {SCP_FILE}, so none of Kaldi's data")]
    recordings, errors = read_scp(folder / SCP_FILE)
    texts = _table(folder / "text", errors)
    speakers = _table(folder / "utt2spk", errors)
    languages = _table(folder / "utt2lang", errors)
    segments = folder / "segments"
    rows = list(_cut(segments, recordings, errors)) if segments.exists() else recordings
    return [_described(row, texts, speakers, languages) for row in rows], errors


def _in_archive(recording: str) -> bool:
    """Whether a byte's number stands behind the path."""
    _, colon, place = recording.rpartition(":")
    return bool(colon) and place.isdecimal() and not os.path.exists(recording)


def _cut(path: Path, recordings: list[ManifestRow], errors: _Errors) -> Iterator[ManifestRow]:
    by_name = {row.name: row for row in recordings}
    # What cannot be read was named once, and is not named again for each of its utterances.
    refused = any(str(error).startswith(str(path.parent / SCP_FILE)) for error in errors)
    for number, line in _lines(path, errors):
        place = f"{path}:{number}"
        fields = line.split()
        try:
            name, recording, start, end = fields[:4]
            offset, stop = float(start), float(end)
            # Kaldi writes -1 for the end of the recording.
            duration = None if stop == -1 else stop - offset
            Excerpt(recording, offset, duration)
        except ValueError as error:
            cause = str(error) if len(fields) >= 4 else "needs an utterance, a recording, start and end in seconds"
            errors.append(ManifestError(f"{place}: {cause}"))
            continue
        row = by_name.get(recording)
        if row is not None:
            times: dict[str, Any] = {"offset": offset} | ({} if duration is None else {"duration": duration})
            yield ManifestRow(row.audio_filepath, None, None, times, place, name, offset, duration)
        elif not refused:
            errors.append(ManifestError(f"{place}: the recording {recording} is not in {SCP_FILE}"))


def _described(
    row: ManifestRow, texts: Mapping[str, str], speakers: Mapping[str, str], languages: Mapping[str, str]
) -> ManifestRow:
    name = row.name or ""
    speaker, language = speakers.get(name), languages.get(name)
    known = {"speaker": speaker, "language": language, "text": texts.get(name)}
    fields = {"id": name, **row.fields, **{key: value for key, value in known.items() if value is not None}}
    return ManifestRow(row.audio_filepath, language, speaker, fields, row.place, row.name, row.offset, row.duration)


def _table(path: Path, errors: _Errors) -> dict[str, str]:
    """What follows the id, by id; empty where there is no such file."""
    if not path.exists():
        return {}
    try:
        content = decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "is not UTF-8; convert it, for example with iconv"
        errors.append(ManifestError(f"{path}: {cause}"))
        return {}
    pairs = (line.split(maxsplit=1) for line in content.splitlines())
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs if pair}


def _lines(path: Path, errors: _Errors) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, their first field followed by one space; paths are bytes that need not be UTF-8."""
    try:
        lines = without_mark(path.read_bytes()).splitlines()
    except OSError as error:
        errors.append(ManifestError(f"{path}: {error.strerror}"))
        return
    for number, line in enumerate(lines, start=1):
        fields = os.fsdecode(line).split(maxsplit=1)
        if fields:
            yield number, " ".join(fields).rstrip()
