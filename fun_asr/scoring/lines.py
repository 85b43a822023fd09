"""Texts as lines: bare lines, Kaldi's `text`, NIST's trn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fun_asr.scoring.utterance import Utterance
from fun_asr.text.encodings import decoded

__all__ = ["TRN_LINE", "check_unique", "read_kaldi", "read_lines", "read_text_lines", "read_trn"]

_COMMENT = ";;"
TRN_LINE = re.compile(r"(.*)\(([^()\s]+)\)\s*")
"""Words and an utterance's id."""


def read_lines(path: Path, problems: list[str]) -> list[tuple[int, str]]:
    """The lines of a file, numbered from 1, without what ends them; none, with a problem, where it cannot be read.

    It is UTF-8, or what its byte order mark says.

    Arguments:
        path: the file.
        problems: learns what is wrong, one line each.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.append(f"{path}: {error.strerror or error}")
        return []
    try:
        lines = decoded(content).split("\n")
    except UnicodeDecodeError as error:
        if error.encoding != "utf-8":
            problems.append(f"{path}: is damaged {error.encoding.upper()}; write it again, in UTF-8")
            return []
        # With the byte order mark, positions count from after it.
        position = error.start + len(content) - len(error.object)
        line = content.count(b"\n", 0, position) + 1
        byte = content[position]
        problems.append(f"{path}:{line}: is not UTF-8 (byte 0x{byte:02x}); convert it, for example with iconv")
        return []
    if not lines[-1]:
        lines.pop()
    return [(number, line.rstrip("\r")) for number, line in enumerate(lines, start=1)]


def read_text_lines(path: Path, problems: list[str]) -> list[Utterance]:
    """An utterance a line, its id the line's number."""
    return [Utterance(id=str(number), text=line.strip()) for number, line in read_lines(path, problems)]


def read_kaldi(path: Path, problems: list[str]) -> list[Utterance]:
    """`id words...` a line; utt2spk, utt2lang, utt2dur and wav.scp beside it tell more about the utterances."""
    found = []
    speakers, languages = _beside(path, "utt2spk"), _beside(path, "utt2lang")
    durations, recordings = _beside(path, "utt2dur"), _beside(path, "wav.scp")
    for number, line in read_lines(path, problems):
        name, *text = line.split(None, 1)[:2] or [""]
        if name:
            recording = recordings.get(name)
            utterance = Utterance(
                id=name,
                text=text[0].strip() if text else "",
                speaker=speakers.get(name),
                language=languages.get(name),
                duration=_number(durations.get(name)),
                # A wav.scp may hold a command, which ends with a pipe.
                audio=None if recording is None or recording.endswith("|") else recording,
            )
            found.append((number, utterance))
    return check_unique(path, found, problems)


def read_content(path: Path, problems: list[str]) -> list[tuple[int, str]]:
    """`read_lines` of NIST's formats: without the empty ones and those of comments."""
    return [
        (number, line) for number, line in read_lines(path, problems) if line.strip() and not line.startswith(_COMMENT)
    ]


def _beside(path: Path, name: str) -> dict[str, str]:
    problems: list[str] = []
    pairs = (line.split(None, 1) for _, line in read_lines(path.parent / name, problems))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def read_trn(path: Path, problems: list[str]) -> list[Utterance]:
    """`words... (id)` a line; the speaker is what stands before the id's last dash or underscore, as in sclite."""
    found = []
    for number, line in read_content(path, problems):
        match = TRN_LINE.fullmatch(line)
        if match:
            speaker = re.match(r"(.+)[-_]", match[2])
            utterance = Utterance(id=match[2], text=match[1].strip(), speaker=speaker[1] if speaker else None)
            found.append((number, utterance))
        else:
            problems.append(f"{path}:{number}: has no utterance id; a line of trn ends with one: words (speaker-001)")
    return check_unique(path, found, problems)


def check_unique(path: Path, found: Iterable[tuple[int, Utterance]], problems: list[str]) -> list[Utterance]:
    """The utterances, with a problem for each id that comes a second time.

    Arguments:
        path: the file they are from.
        found: line numbers and utterances.
        problems: learns what is wrong, one line each.
    """
    lines: dict[str, int] = {}
    utterances = []
    for number, utterance in found:
        first = lines.setdefault(utterance.id, number)
        if first != number:
            problems.append(f"{path}:{number}: the id {utterance.id} is also that of line {first}")
        else:
            utterances.append(utterance)
    return utterances
