"""Texts in records: JSON Lines in NeMo's keys, JSON of transcripts, csv and tsv with a header."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fun_asr.audio.containers import AUDIO_SUFFIXES
from fun_asr.scoring.lines import check_unique, read_lines
from fun_asr.scoring.utterance import Utterance

__all__ = ["HYPOTHESIS_KEYS", "REFERENCE_KEYS", "SPOKEN_KEYS", "read_json", "read_jsonl", "read_table", "stem"]

REFERENCE_KEYS = ("text", "reference", "ref", "sentence", "transcript", "transcription")
HYPOTHESIS_KEYS = ("pred_text", "hypothesis", "hyp", "prediction", *REFERENCE_KEYS)
SPOKEN_KEYS = ("spoken_text", "spoken")
"""The words as they were said, before inverse text normalization."""
_ID_KEYS = ("id", "utt_id", "utterance_id", "utt", "key")
_AUDIO_KEYS = ("audio_filepath", "path", "audio_path", "audio", "file", "filename", "file_name")
_SPEAKER_KEYS = ("speaker", "speaker_id", "client_id")
_LANGUAGE_KEYS = ("language", "lang", "locale")

Record = Mapping[str, Any]


def read_jsonl(path: Path, text_keys: Sequence[str], problems: list[str]) -> list[Utterance]:
    """A JSON object a line; the text is that of the first of the keys which it has."""
    records: list[tuple[int, Record]] = []
    for number, line in read_lines(path, problems):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                problems.append(f"{path}:{number}: is not JSON")
                continue
            if isinstance(record, dict):
                records.append((number, record))
            else:
                problems.append(f"{path}:{number}: is not a JSON object")
    return _utterances(path, records, text_keys, problems)


def read_json(path: Path, text_keys: Sequence[str], problems: list[str], *, name: str | None = None) -> list[Utterance]:
    """One object, such as `transcribe --output_format json` writes, or an array of them; `name` is the object's id."""
    before = len(problems)
    lines = read_lines(path, problems)
    if len(problems) > before:
        return []
    try:
        content = json.loads("\n".join(line for _, line in lines))
    except (ValueError, RecursionError):
        problems.append(f"{path}: is not JSON")
        return []
    rows = content if isinstance(content, list) else [content]
    if not all(isinstance(row, dict) for row in rows):
        problems.append(f"{path}: holds neither a JSON object nor an array of objects")
        return []
    if name is not None:
        rows = [{**row, _ID_KEYS[0]: name} for row in rows]
    return _utterances(path, list(enumerate(rows, start=1)), text_keys, problems)


def read_table(path: Path, delimiter: str, text_keys: Sequence[str], problems: list[str]) -> list[Utterance]:
    """Rows under a header that names the columns."""
    lines = "\n".join(line for _, line in read_lines(path, problems))
    # In tsv files a quotation mark is a letter like any other.
    dialect = csv.excel_tab if delimiter == "\t" else csv.excel
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.DictReader(io.StringIO(lines), dialect=dialect, quoting=quoting)
    try:
        columns = reader.fieldnames or []
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        # Such as a carriage return inside a line, or a field of more than 128 KiB behind a lost quotation mark.
        problems.append(f"{path}:{max(reader.line_num, 1)}: is no line of a table ({str(error).partition(' - ')[0]})")
        return []
    if lines and not ({*columns} & {*text_keys} and {*columns} & {*_ID_KEYS, *_AUDIO_KEYS}):
        problems.append(
            f"{path}: its first line must name the columns, among them an id ({_listed(_ID_KEYS + _AUDIO_KEYS)}) and "
            f"a text ({_listed(text_keys)})"
        )
        return []
    return _utterances(path, rows, text_keys, problems)


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:-1]) + " or " + keys[-1] if len(keys) > 1 else keys[0]


def _utterances(
    path: Path, records: Sequence[tuple[int, Record]], text_keys: Sequence[str], problems: list[str]
) -> list[Utterance]:
    stems = Counter(stem(audio) for _, record in records if (audio := _first(record, _AUDIO_KEYS)) is not None)
    folder = str(path.parent)
    found = []
    for number, record in records:
        text = next((record[key] for key in text_keys if key in record), None)
        audio = _first(record, _AUDIO_KEYS)
        name = _first(record, _ID_KEYS) or _id_of(record, audio, stems)
        if name is not None:
            name = " ".join(name.splitlines())  # a csv's field may have several
        if not name:
            problems.append(f"{path}:{number}: has no id ({_listed(_ID_KEYS + _AUDIO_KEYS)})")
        elif not isinstance(text, str):
            problems.append(f"{path}:{number}: {name} has no text ({_listed(text_keys)})")
        else:
            utterance = Utterance(
                id=name,
                text=" ".join(text.split()),
                audio=None if audio is None else os.path.normpath(os.path.join(folder, audio)),
                duration=_number(record.get("duration")),
                confidence=_confidence(record),
                speaker=_first(record, _SPEAKER_KEYS),
                corpus=_first(record, ("corpus",)),
                language=_first(record, _LANGUAGE_KEYS),
            )
            found.append((number, utterance))
    return check_unique(path, found, problems)


def _id_of(record: Record, audio: str | None, stems: Mapping[str, int]) -> str | None:
    if audio is None:
        return None
    # talk.wav and talk.mp3 keep their suffixes.
    name = stem(audio) if stems[stem(audio)] == 1 or record.get("offset") else audio
    return f"{name}@{record['offset']}" if record.get("offset") else name


def stem(path: str) -> str:
    """A recording's path without its suffix, with slashes."""
    path = path.replace(os.sep, "/")
    root, suffix = os.path.splitext(path)
    return root if suffix.lower() in AUDIO_SUFFIXES else path


def _first(record: Record, keys: Iterable[str]) -> str | None:
    for key in keys:
        value = record.get(key)
        if isinstance(value, str):
            value = value.strip()
        elif type(value) is int:
            value = str(value)
        else:
            continue
        if value:
            return value
    return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _confidence(record: Record) -> float | None:
    """Its own, the mean of its words', or what its segments' mean log-probabilities come to."""
    own = _number(record.get("confidence"))
    if own is not None:
        return own
    segments = [part for part in _list(record, "segments") if isinstance(part, dict)]
    words = [word for part in (record, *segments) for word in _list(part, "words") if isinstance(word, dict)]
    scores = [score for word in words if (score := _number(word.get("confidence"))) is not None]
    if not scores:
        scores = [math.exp(min(score, 0.0)) for part in segments if (score := _number(part.get("score"))) is not None]
    return sum(scores) / len(scores) if scores else None


def _list(record: Record, key: str) -> list[Any]:
    value = record.get(key)
    return value if isinstance(value, list) else []
