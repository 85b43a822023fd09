"""A segment's text as words with times, whether or not the recogniser gave word times."""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fun_asr.transcript.data import WRITTEN_WITHOUT_SPACES, Segment
from fun_asr.transcript.marks import Ending, ending

__all__ = ["CueWord", "cue_words", "holds_on"]

_UNSPACED_PIECE = re.compile(r"(\s*)([A-Za-z0-9]+(?:['’.,-][A-Za-z0-9]+)*|\S)")
_SPACED_PIECE = re.compile(r"(\s*)(\S+)")
# Brackets and quotes that open belong to what follows.
_OPENING = {"Ps", "Pi"}
_MARKS = {"Mn", "Mc", "Me"}
# What Japanese puts at the beginning of no line (JIS X 4051): small kana, marks of length and repetition.
_CLINGING = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶーゝゞヽヾ々")

# A guess that is off by so many seconds of speech costs as much as a pause without a mark before it.
_MARK_SECONDS = {Ending.NOTHING: 1.5, Ending.CLAUSE: 0.5, Ending.SENTENCE: 0.0}
_SEARCHED_SECONDS = 4.0

# The detector is late by less where speech is soft; aligned words are nearer to the truth then.
LONG_PAUSE = 0.5  # seconds
MISTAKEN = 0.3  # seconds of a pause in a word


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
    count: int = 1
    """How many words of the segment it is."""


def cue_words(segment: Segment) -> list[CueWord]:
    """The words of a segment's text, in order; joined with their spaces they are the text.

    A segment without word times has the time in which somebody speaks (`Segment.pauses`) shared out among its words by
    their characters, and its marks put where the pauses are, a rough guess; in a language written without spaces, every
    character is then a word.

    Arguments:
        segment: its times are in seconds.
    """
    words = _without_pauses(_with_times(segment), segment.pauses) if segment.words else _guessed(segment)
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
    return _undivided(words) if segment.language in WRITTEN_WITHOUT_SPACES else words


def _without_pauses(words: list[CueWord], pauses: Sequence[tuple[float, float]]) -> list[CueWord]:
    """The words, less the pauses that begin or end within them: cross-attention's last one to the next one's start."""
    long = [(start, end) for start, end in pauses if end - start >= LONG_PAUSE]
    found = []
    for word in words:
        start, end = word.start, word.end
        for pause_start, pause_end in long:
            if min(end, pause_end) - max(start, pause_start) < MISTAKEN:
                continue
            before, after = pause_start - start, end - pause_end
            if before >= after and before > 0:
                end = pause_start
            elif after > 0:
                start = pause_end
        found.append(replace(word, start=start, end=end))
    return found


def _undivided(characters: list[CueWord]) -> list[CueWord]:
    """Characters with what stands at the beginning of no line joined to what is before it, and letters to words."""
    words: list[CueWord] = []
    for word in characters:
        last = words[-1] if words else None
        if last is None or word.spaced or not holds_on(last.text, word.text):
            words.append(word)
            continue
        known = [confidence for confidence in (last.confidence, word.confidence) if confidence is not None]
        words[-1] = replace(
            last,
            text=last.text + word.text,
            end=max(last.end, word.end),
            confidence=min(known, default=None),
            count=last.count + word.count,
        )
    return words


def holds_on(before: str, after: str) -> bool:
    """Whether nothing may part two texts of a language written without spaces; with nothing before, they may part."""
    if not before or not after:
        return bool(before)
    if unicodedata.category(before[-1]) in _OPENING or _closes(after[0]):
        return True
    return bool(_UNSPACED_PIECE.fullmatch(before[-1] + after[0]))


def _closes(character: str) -> bool:
    category = unicodedata.category(character)
    return category in _MARKS or character in _CLINGING or (category.startswith("P") and category not in _OPENING)


def _split_at_last_space(gap: str) -> tuple[str, str, str]:
    """What precedes the last space (spaces before it dropped), that space, what follows."""
    before, space, after = gap.rpartition(" ")
    return before.rstrip(), space, after


def _guessed(segment: Segment) -> list[CueWord]:
    pieces = _pieces(segment.text, segment.language in WRITTEN_WITHOUT_SPACES)
    if not pieces:
        return []
    stretches = _stretches(segment)
    starts = [0.0]  # of each stretch, in seconds of speech
    for start, end in stretches:
        starts.append(starts[-1] + end - start)
    characters = [0]
    for _, text in pieces:
        characters.append(characters[-1] + len(text))
    places = [starts[-1] * count / characters[-1] for count in characters]
    endings = [
        ending(text, following, segment.language, spaced=spaced)
        for (_, text), (spaced, following) in zip(pieces, [*pieces[1:], (False, None)], strict=True)
    ]
    pinned = _pinned(places, starts[1:-1], endings)
    # Between two pins, by characters.
    known = {0: 0, len(pieces): len(stretches), **pinned}
    edges = sorted(known)
    for low, high in pairwise(edges):
        first, last = starts[known[low]], starts[known[high]]
        for k in range(low, high + 1):
            share = (characters[k] - characters[low]) / (characters[high] - characters[low])
            places[k] = first + (last - first) * share

    def seconds(place: float, *, begins: bool) -> float:
        # Where a stretch begins, speech is both there and at the end of the one before.
        index = bisect_right(starts, place) - 1
        if not begins and index > 0 and math.isclose(place, starts[index], abs_tol=1e-9):
            index -= 1
        index = min(index, len(stretches) - 1)
        return min(stretches[index][0] + place - starts[index], stretches[index][1])

    for k, stretch in pinned.items():
        places[k] = starts[stretch]  # exactly, so that what follows begins after the pause
    return [
        CueWord(text, seconds(places[k], begins=True), seconds(places[k + 1], begins=False), None, spaced)
        for k, (spaced, text) in enumerate(pieces)
    ]


def _stretches(segment: Segment) -> list[tuple[float, float]]:
    """The parts of a segment in which somebody speaks, at least one."""
    found = []
    start = segment.start
    for pause_start, pause_end in segment.pauses:
        if pause_start > start:
            found.append((start, min(pause_start, segment.end)))
        start = max(start, pause_end)
    if start < segment.end:
        found.append((start, segment.end))
    return found or [(segment.start, segment.end)]


def _pinned(places: Sequence[float], pauses: Sequence[float], endings: Sequence[Ending]) -> dict[int, int]:
    """The first words after pauses, each with the number of the stretch that it begins.

    Arguments:
        places: where words begin by their characters alone, then where the last one ends, in seconds of speech `[W+1]`.
        pauses: where the pauses are, in seconds of speech; the Nth comes before stretch N + 1.
        endings: what each word ends `[W]`.
    """
    # Dynamic programming over the pauses: cost and pins by the word that was pinned last.
    paths: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {0: (0.0, ())}
    for number, pause in enumerate(pauses, start=1):
        extended: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {
            # A pause inside a word is passed over.
            last: (cost + _MARK_SECONDS[Ending.NOTHING] + 0.5, pins)
            for last, (cost, pins) in paths.items()
        }
        best: tuple[float, tuple[tuple[int, int], ...]] | None = None
        ordered = sorted(paths)
        taken = 0
        for k in range(1, len(places) - 1):
            while taken < len(ordered) and ordered[taken] < k:
                path = paths[ordered[taken]]
                best = path if best is None or path[0] < best[0] else best
                taken += 1
            if abs(places[k] - pause) > _SEARCHED_SECONDS or best is None:
                continue
            cost = best[0] + abs(places[k] - pause) + _MARK_SECONDS[endings[k - 1]]
            if k not in extended or cost < extended[k][0]:
                extended[k] = cost, (*best[1], (k, number))
        paths = extended
    return dict(min(paths.values(), key=lambda path: path[0])[1])


def _pieces(text: str, unspaced: bool) -> list[tuple[bool, str]]:
    """The words, each with whether a space precedes it."""
    pattern = _UNSPACED_PIECE if unspaced else _SPACED_PIECE
    pieces: list[tuple[bool, str]] = []
    opened = False  # the piece before waits for what follows it
    for space, piece in pattern.findall(text):
        if pieces and not space and unspaced and (opened or _closes(piece[0])):
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + piece)
        else:
            pieces.append((bool(space), piece))
        opened = unicodedata.category(piece[0]) in _OPENING
    return pieces
