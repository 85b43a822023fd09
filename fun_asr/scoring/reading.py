"""References and hypotheses as files: which format they have, and reading the two sides of a comparison."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from fun_asr.audio.media import AUDIO_SUFFIXES
from fun_asr.errors import ScoringError
from fun_asr.scoring.guess import Guess, guess_format, guess_formats
from fun_asr.scoring.lines import read_kaldi, read_lines, read_text_lines, read_trn
from fun_asr.scoring.records import (
    HYPOTHESIS_KEYS,
    REFERENCE_KEYS,
    SPOKEN_KEYS,
    holds_texts,
    read_json,
    read_jsonl,
    read_table,
    read_texts,
)
from fun_asr.scoring.subtitles import read_subtitles
from fun_asr.scoring.timed import ctm_utterances, read_ctm, read_stm, stm_utterances, words_of_segments
from fun_asr.scoring.utterance import Utterance, match_ids

__all__ = ["INPUT_FORMATS", "WITH_ALTERNATIONS", "Pair", "find_format", "read_pair"]

INPUT_FORMATS = ("csv", "ctm", "directory", "json", "jsonl", "kaldi", "srt", "stm", "text", "trn", "tsv", "vtt")
SUBTITLES = ("srt", "vtt")
"""Formats of one recording in one file."""
WITH_ALTERNATIONS = frozenset({"trn", "stm"})
"""Formats in whose references braces and parentheses mean choices between words."""
_SUFFIXES = {".ndjson": "jsonl", ".manifest": "jsonl"} | {f".{name}": name for name in INPUT_FORMATS if name != "text"}
_TEXTS = "array"
"""What JSON is that holds texts alone."""
_WITHOUT_IDS = {"text", _TEXTS}
_OF_SUBTITLES = tuple(f".{name}" for name in SUBTITLES)
_LIBRISPEECH = ".trans.txt"
KALDI_TEXT = "text"
"""A folder that holds a file of this name is a data directory of Kaldi's."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """References, and the hypotheses that belong to them."""

    references: dict[str, Utterance]
    hypotheses: dict[str, Utterance]
    """By the id of their reference."""
    extra: list[str]
    """Ids of the hypotheses that belong to no reference."""
    alternations: bool
    """Whether the references' format has braces and parentheses for choices between words."""
    doubts: tuple[str, ...] = ()
    """What was guessed of formats and might be otherwise, a line each."""


def find_format(path: Path) -> str:
    """The format of a file or folder, from its name or, where that says nothing, its content."""
    return _named_format(path) or guess_format(path)


def _named_format(path: Path) -> str | None:
    if path.is_dir():
        return "kaldi" if (path / KALDI_TEXT).is_file() else "directory"
    return _SUFFIXES.get(path.suffix.lower())


def read_pair(
    reference: Path,
    hypothesis: Path,
    *,
    reference_format: str | None = None,
    hypothesis_format: str | None = None,
    reference_key: str | None = None,
    hypothesis_key: str | None = None,
    spoken: bool = False,
    empty: bool = False,
) -> Pair:
    """Read references and hypotheses, and match them by id.

    Arguments:
        reference: a file or a folder.
        hypothesis: a file or a folder.
        reference_format: one of INPUT_FORMATS; None finds out.
        hypothesis_format: one of INPUT_FORMATS; None finds out.
        reference_key: of the text in JSON, csv and tsv; None takes the first of the usual ones.
        hypothesis_key: the same of the hypotheses.
        spoken: take the words before inverse text normalization, where records have both.
        empty: allow references without words.

    Raises:
        ScoringError: with a line for each thing that cannot be used.
    """
    formats, doubt = _formats(reference, hypothesis, reference_format, hypothesis_format)
    formats = (_with_texts(reference, formats[0]), _with_texts(hypothesis, formats[1]))
    spoken_keys = SPOKEN_KEYS if spoken else ()
    reference_keys = (reference_key,) if reference_key else (*spoken_keys, *REFERENCE_KEYS)
    hypothesis_keys = (hypothesis_key,) if hypothesis_key else spoken_keys or HYPOTHESIS_KEYS
    problems: list[str] = []
    if spoken and formats[1] not in ("csv", "directory", "json", "jsonl", "tsv"):
        problems.append(f"{hypothesis}: has no spoken form beside the written one ({formats[1]})")
    if formats == ("stm", "ctm"):
        segments = read_stm(reference, problems)
        references = stm_utterances(reference, segments, problems, whole_recordings=False)
        hypotheses = words_of_segments(segments, read_ctm(hypothesis, problems))
    else:
        # Only another stm, or a ctm, tells what was said in a segment.
        whole = formats != ("stm", "stm")
        references = _read(reference, formats[0], reference_keys, problems, whole_recordings=whole)
        hypotheses = _read(
            hypothesis, formats[1], hypothesis_keys, problems, whole_recordings=whole, bare_text=not spoken
        )
    references = _whole(references, formats, hypothesis)
    hypotheses = _whole(hypotheses, formats[::-1], reference)
    for path, utterances in ((reference, references), (hypothesis, hypotheses)):
        if not utterances and not any(problem.startswith(str(path)) for problem in problems):
            problems.append(f"{path}: holds no utterances")
    if not empty:
        problems += [
            f"{reference}: the reference of {utterance.id} is empty; --allow_empty scores it as silence"
            for utterance in references
            if not utterance.text.strip()
        ]
    if not problems and not set(formats) & set(SUBTITLES):
        problems += _lines_against_ids(reference, references, hypothesis, hypotheses, formats)
    if problems:
        raise ScoringError(*problems)
    pair = _match(reference, references, hypothesis, hypotheses, alternations=formats[0] in WITH_ALTERNATIONS)
    return dataclasses.replace(pair, doubts=(f"{hypothesis}: {doubt}",) if doubt else ())


def _formats(reference: Path, hypothesis: Path, reference_format: str | None, hypothesis_format: str | None) -> Guess:
    named = [reference_format or _named_format(reference), hypothesis_format or _named_format(hypothesis)]
    if named == [None, None]:
        return guess_formats(reference, hypothesis)
    if named[1] == "text" and named[0] is None and guess_format(reference) == "kaldi":
        named[0] = "text"
    if named[0] == "text" and named[1] is None and guess_format(hypothesis) == "kaldi":
        named[1] = "text"
    return Guess((named[0] or guess_format(reference), named[1] or guess_format(hypothesis)))


def _whole(utterances: list[Utterance], formats: Sequence[str], other: Path) -> list[Utterance]:
    """The lines of a text as one utterance where the other side is of one recording."""
    if formats[0] not in _WITHOUT_IDS or formats[1] not in SUBTITLES:
        return utterances
    return [Utterance(id=other.stem, text=" ".join(filter(None, (utterance.text for utterance in utterances))))]


def _with_texts(path: Path, form: str) -> str:
    return _TEXTS if form == "json" and holds_texts(path) else form


def _read(
    path: Path,
    form: str,
    keys: Sequence[str],
    problems: list[str],
    *,
    whole_recordings: bool,
    bare_text: bool = True,
) -> list[Utterance]:
    match form:
        case "directory":
            return _read_directory(path, keys, problems, bare_text=bare_text)
        case "json":
            return read_json(path, keys, problems)
        case "array":
            return read_texts(path, problems)
        case "jsonl":
            return read_jsonl(path, keys, problems)
        case "csv" | "tsv":
            return read_table(path, "," if form == "csv" else "\t", keys, problems)
        case "stm":
            return stm_utterances(path, read_stm(path, problems), problems, whole_recordings=whole_recordings)
        case "ctm":
            return ctm_utterances(read_ctm(path, problems))
        case "srt" | "vtt":
            return read_subtitles(path, problems)
        case "trn":
            return read_trn(path, problems)
        case "kaldi":
            return read_kaldi(path / KALDI_TEXT if path.is_dir() else path, problems)
        case _:
            return read_text_lines(path, problems)


def _read_directory(folder: Path, keys: Sequence[str], problems: list[str], *, bare_text: bool) -> list[Utterance]:
    """The folder's files, recursively; an utterance's id is the path below it, its corpus the first part of that."""
    if not folder.is_dir():
        problems.append(f"{folder}: is not a folder")
        return []
    utterances: dict[str, Utterance] = {}
    for parent, children, names in os.walk(folder):
        children[:] = sorted(name for name in children if not name.startswith("."))
        place = Path(parent).relative_to(folder)
        audio = {os.path.splitext(name)[0]: os.path.join(parent, name) for name in names if _is_audio(name)}
        for name in sorted(name for name in names if not name.startswith(".")):
            if name.endswith((".txt", *_OF_SUBTITLES)) and not bare_text:
                continue
            for utterance in _read_file(Path(parent, name), keys, problems):
                found = dataclasses.replace(
                    utterance,
                    id=(place / utterance.id).as_posix(),
                    corpus=utterance.corpus or next(iter(place.parts), None),
                    audio=utterance.audio or audio.get(utterance.id),
                )
                # Of talk.json, talk.srt and talk.txt, the first says most.
                utterances.setdefault(found.id, found)
    if not utterances and not problems:
        problems.append(
            f"{folder}: is a folder without {'.txt, .srt or .vtt files or ' * bare_text}transcripts in .json"
        )
    return list(utterances.values())


def _read_file(path: Path, keys: Sequence[str], problems: list[str]) -> list[Utterance]:
    """The utterances of a file in a folder: of text, LibriSpeech's, subtitles, or a transcript in JSON."""
    if path.name.endswith(_LIBRISPEECH):
        return read_kaldi(path, problems)
    if path.suffix == ".txt":
        text = " ".join(line for _, line in read_lines(path, problems))
        return [Utterance(id=path.stem, text=" ".join(text.split()))]
    if path.suffix in _OF_SUBTITLES:
        return read_subtitles(path, problems)
    if path.suffix == ".json" and _is_transcript(path):
        return read_json(path, keys, problems, name=path.stem)
    return []


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def _is_transcript(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("segments"), list)


def _lines_against_ids(
    reference: Path,
    references: Sequence[Utterance],
    hypothesis: Path,
    hypotheses: Sequence[Utterance],
    formats: tuple[str, str],
) -> list[str]:
    """What is wrong where a side has no ids."""
    without_ids = [form in _WITHOUT_IDS for form in formats]
    if all(without_ids) and len(references) != len(hypotheses):
        return [
            f"{hypothesis}: has {len(hypotheses)} lines, but {reference} has {len(references)}; without ids, line is "
            "compared with line"
        ]
    if any(without_ids) and not all(without_ids):
        without, other = (reference, hypothesis) if without_ids[0] else (hypothesis, reference)
        form = formats[without_ids[0]]
        return [f"{without}: its lines have no ids, but those of {other} ({form}) have; --format sets what they are"]
    return []


def _match(
    reference: Path,
    references: Sequence[Utterance],
    hypothesis: Path,
    hypotheses: Sequence[Utterance],
    *,
    alternations: bool,
) -> Pair:
    matched = match_ids((utterance.id for utterance in references), (utterance.id for utterance in hypotheses))
    if not matched:
        raise ScoringError(
            f"{hypothesis}: none of its {len(hypotheses)} ids is in {reference}: {hypotheses[0].id} here, "
            f"{references[0].id} there"
        )
    return Pair(
        references={utterance.id: utterance for utterance in references},
        hypotheses={matched[utterance.id]: utterance for utterance in hypotheses if utterance.id in matched},
        extra=[utterance.id for utterance in hypotheses if utterance.id not in matched],
        alternations=alternations,
    )
