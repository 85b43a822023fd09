"""Subtitles as transcripts: the words of all cues of a SubRip (srt) or WebVTT (vtt) file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from fun_asr.scoring.lines import read_lines
from fun_asr.scoring.utterance import Utterance

__all__ = ["read_subtitles"]

_TIMES = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s+-->\s+((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\b.*")
# Formatting, WebVTT's speakers and times of words, and what SubStation Alpha left in srt.
_MARKUP = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_UNDERLINED = "<u>"


def read_subtitles(path: Path, problems: list[str]) -> list[Utterance]:
    """The text of all cues as one utterance, called after the file.

    A line that is shown once for each of its words, of which another one is underlined each time, counts once.
    """
    lines = read_lines(path, problems)
    texts: list[str] = []
    underlined = -1  # where, in the last cue
    cues = list(_cues([line for _, line in lines]))
    for text, _ in cues:
        before, mark, _ = text.partition(_UNDERLINED)
        place = len(_plain(before)) if mark else underlined
        text = _plain(text)
        again = texts and text == texts[-1] and (place > underlined if mark else underlined >= 0)
        if not again:
            texts.append(text)
        underlined = place if mark or again else -1
    if not cues and any(line.strip() and not line.startswith("WEBVTT") for _, line in lines):
        problems.append(f"{path}: has no cues of subtitles, each with a line of times: 00:00:01,000 --> 00:00:02,500")
        return []
    return [Utterance(id=path.stem, text=" ".join(filter(None, texts)), duration=cues[-1][1] if cues else None)]


def _cues(lines: list[str]) -> Iterator[tuple[str, float]]:
    """The text of each cue with its markup, and the second at which it ends."""
    place = 0
    while place < len(lines):
        times = _TIMES.fullmatch(lines[place])
        place += 1
        if not times:
            continue
        begun = place
        while place < len(lines) and lines[place].strip() and not _begins(lines, place):
            place += 1
        yield " ".join(lines[begun:place]), _seconds(times[1])


def _begins(lines: list[str], place: int) -> bool:
    """Whether a cue begins here, also without an empty line before it: with its number, or its times."""
    numbered = lines[place].strip().isdecimal() and place + 1 < len(lines)
    return bool(_TIMES.fullmatch(lines[place + numbered]))


def _plain(text: str) -> str:
    return " ".join(html.unescape(_MARKUP.sub("", text)).split())


def _seconds(clock: str) -> float:
    seconds = 0.0
    for part in clock.replace(",", ".").split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
