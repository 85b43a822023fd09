"""A segment's text as words with times, whether or not the recogniser gave word times."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, Segment

__all__ = ["CueWord", "cue_words"]

_UNSPACED_PIECE = re.compile(r"(\s*)([A-Za-z0-9]+(?:['’.,-][A-Za-z0-9]+)*|\S)")
_SPACED_PIECE = re.compile(r"(\s*)(\S+)")
# Brackets and quotes that open belong to what follows.
_OPENING = {"Ps", "Pi"}
_MARKS = {"Mn", "Mc", "Me"}


@dataclass(frozen=True)
class CueWord:
    """A word as it is written, its punctuation included."""

    text: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    confidence: float | None
    spaced: bool
    """Whether a space stands between it and the word before."""


def cue_words(segment: Segment) -> list[CueWord]:
    """The words of a segment's text, in order; joined with their spaces they are the text.

    A segment without word times has its duration shared out among its words by their characters, a rough guess; in a
    language written without spaces, every character is then a word.

    Arguments:
        segment: its times are in seconds.
    """
    words = _with_times(segment) if segment.words else _interpolated(segment)
    if words:
        spaced = segment.language not in WRITTEN_WITHOUT_SPACES
        words[0] = replace(words[0], spaced=spaced)
    return words


def _with_times(segment: Segment) -> list[CueWord]:
    """The words found in the text, each with the punctuation around it."""
    words: list[CueWord] = []
    cursor = 0
    for word in segment.words:
        text = word.text.strip()
        spaced = segment.language not in WRITTEN_WITHOUT_SPACES
        place = segment.text.find(text, cursor)
        if place >= 0:
            before, space, prefix = _split_at_last_space(segment.text[cursor:place])
            if words and not space:
                before, prefix = prefix, ""
            if words:
                words[-1] = replace(words[-1], text=words[-1].text + before)
            else:
                prefix = (before + space + prefix).lstrip()
            text, spaced, cursor = prefix + text, bool(space), place + len(text)
        words.append(CueWord(text, word.start, word.end, word.confidence, spaced))
    words[-1] = replace(words[-1], text=words[-1].text + segment.text[cursor:].rstrip())
    return words


def _split_at_last_space(gap: str) -> tuple[str, str, str]:
    """What precedes the last space (spaces before it dropped), that space, what follows."""
    before, space, after = gap.rpartition(" ")
    return before.rstrip(), space, after


def _interpolated(segment: Segment) -> list[CueWord]:
    pieces = _pieces(segment.text, segment.language in WRITTEN_WITHOUT_SPACES)
    characters = sum(len(text) for _, text in pieces)
    seconds = segment.end - segment.start
    words: list[CueWord] = []
    done = 0
    for spaced, text in pieces:
        start = segment.start + seconds * done / characters
        done += len(text)
        words.append(CueWord(text, start, segment.start + seconds * done / characters, None, spaced))
    return words


def _pieces(text: str, unspaced: bool) -> list[tuple[bool, str]]:
    """The words, each with whether a space precedes it."""
    pattern = _UNSPACED_PIECE if unspaced else _SPACED_PIECE
    pieces: list[tuple[bool, str]] = []
    opened = False  # the piece before waits for what follows it
    for space, piece in pattern.findall(text):
        category = unicodedata.category(piece[0])
        closes = unspaced and (category in _MARKS or (category.startswith("P") and category not in _OPENING))
        if pieces and not space and (opened or closes):
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + piece)
        else:
            pieces.append((bool(space), piece))
        opened = unspaced and category in _OPENING
    return pieces
