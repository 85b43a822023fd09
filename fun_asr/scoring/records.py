"""Texts in records: JSON Lines in NeMo's keys, JSON of transcripts, csv and tsv with a header."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fun_asr.audio.excerpt import plain_seconds
from fun_asr.audio.names import stem
from fun_asr.scoring.lines import check_unique, read_lines
from fun_asr.scoring.utterance import Utterance

__all__ = [
    "HYPOTHESIS_KEYS",
    "REFERENCE_KEYS",
    "SPOKEN_KEYS",
    "holds_texts",
    "read_json",
    "read_jsonl",
    "read_table",
    "read_texts",
]

REFERENCE_KEYS = ("text", "reference", "ref", "sentence", "transcript", "transcription")
HYPOTHESIS_KEYS = ("pred_text", "hypothesis", "hyp", "prediction", *REFERENCE_KEYS)
SPOKEN_KEYS = ("spoken_text", "spoken")
"""The words as they were said, before inverse text normalization."""
_ID_KEYS = ("id", "utt_id", "utterance_id", "utt", "key")
_AUDIO_KEYS = ("audio_filepath", "path", "audio_path", "audio", "file", "filename", "file_name")
_SPEAKER_KEYS = ("speaker", "speaker_id", "client_id")
_LANGUAGE_KEYS = ("language", "lang", "locale")

_ARRAY_OF_OBJECTS = re.compile(r"\s*\[\s*\{")
_ARRAY_OF_OTHERS = re.compile(r"\s*\[\s*[^\s{]")
_LOOKED_AT = 100  # lines, of which the first that are not empty tell what an array holds

Record = Mapping[str, Any]


def read_jsonl(path: Path, text_keys: Sequence[str], problems: list[str]) -> list[Utterance]:
    """A JSON object a line, or one array of objects; the text is that of the first of the keys which it has."""
    lines = read_lines(path, problems)
    if _ARRAY_OF_OBJECTS.match("\n".join(line for _, line in lines[:_LOOKED_AT])):
        return _utterances(path, _array(path, lines, problems), text_keys, problems)
    return _utterances(path, _objects(path, lines, problems), text_keys, problems)


def _objects(path: Path, lines: Iterable[tuple[int, str]], problems: list[str]) -> list[tuple[int, Record]]:
    """An object a line."""
    records: list[tuple[int, Record]] = []
    for number, line in lines:
        if line.strip():
            try:
                record = _loads(line)
            except (ValueError, RecursionError):
                problems.append(f"{path}:{number}: is not JSON")
                continue
            if isinstance(record, dict):
                records.append((number, record))
            else:
                problems.append(f"{path}:{number}: is not a JSON object")
    return records


def _array(path: Path, lines: Iterable[tuple[int, str]], problems: list[str]) -> list[tuple[int, Record]]:
    """One object, or an array of them."""
    try:
        content = _loads("\n".join(line for _, line in lines))
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        problems.append(f"{path}{line}: is not JSON")
        return []
    rows = content if isinstance(content, list) else [content]
    if not all(isinstance(row, dict) for row in rows):
        problems.append(f"{path}: holds neither a JSON object nor an array of objects")
        return []
    return list(enumerate(rows, start=1))


def _loads(text: str) -> Any:
    # Numbers stay as they are written, since a text may be one: 2.50.
    try:
        return json.loads(text, parse_float=str)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def holds_texts(path: Path) -> bool:
    """Whether JSON is an array of texts alone, which have no ids."""
    problems: list[str] = []
    text = "\n".join(line for _, line in read_lines(path, problems))
    if not _ARRAY_OF_OTHERS.match(text):
        return False
    try:
        content = _loads(text)
    except ValueError:
        return False
    return bool(content) and isinstance(content, list) and all(_text(value) is not None for value in content)


def read_texts(path: Path, problems: list[str]) -> list[Utterance]:
    """A JSON array of texts; an utterance's id is its place."""
    content = _loads("\n".join(line for _, line in read_lines(path, problems)))
    return [Utterance(id=str(place), text=_text(value) or "") for place, value in enumerate(content, start=1)]


def read_json(path: Path, text_keys: Sequence[str], problems: list[str], *, name: str | None = None) -> list[Utterance]:
    """One object, such as `transcribe --output_format json` writes, an array of them, or one a line, as in NeMo.

    `name` is the one object's id.
    """
    before = len(problems)
    lines = read_lines(path, problems)
    if len(problems) > before:
        return []
    by_line: list[str] = []
    rows = _objects(path, lines, by_line)
    if by_line:
        rows = _array(path, lines, problems)
    if name is not None:
        rows = [(number, {**row, _ID_KEYS[0]: name}) for number, row in rows]
    return _utterances(path, rows, text_keys, problems)


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
    recordings = {audio for _, record in records if (audio := _recording(record)) is not None}
    stems = Counter(map(stem, recordings))
    folder = str(path.parent)
    found = []
    for number, record in records:
        text = _text(next((record[key] for key in text_keys if key in record), None))
        audio = _recording(record)
        name = _first(record, _ID_KEYS) or _id_of(record, audio, stems)
        if name is not None:
            name = " ".join(name.splitlines())  # a csv's field may have several
        if not name:
            problems.append(f"{path}:{number}: has no id ({_listed(_ID_KEYS + _AUDIO_KEYS)})")
        elif text is None:
            problems.append(f"{path}:{number}: {name} has no text ({_listed(text_keys)})")
        else:
            utterance = Utterance(
                id=name,
                text=text,
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
    offset = _number(record.get("offset"))
    # The name that batch gives to the outputs of a part.
    return f"{stem(audio)}@{plain_seconds(offset)}" if offset else stem(audio) if stems[stem(audio)] == 1 else audio


def _recording(record: Record) -> str | None:
    """Path of the recording, with slashes."""
    audio = _first(record, _AUDIO_KEYS)
    return None if audio is None else audio.replace(os.sep, "/")


def _text(value: Any) -> str | None:
    """A text, or a number that is one: where only "5" was said, some tools write 5."""
    if isinstance(value, str):
        return " ".join(value.split())
    return str(value) if type(value) is int else None


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
