"""A transcript cut into cues: at the ends of sentences, then at pauses and clauses, in few and balanced lines."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fun_asr.errors import ConfigError
from fun_asr.transcript.data import Segment, Transcript
from fun_asr.transcript.marks import Ending, ending
from fun_asr.transcript.words import CueWord, cue_words

__all__ = ["Cue", "SubtitleOptions", "columns", "cues"]

# What a choice costs. A cue costs 1, so that there are few; the end of a sentence costs nothing.
CUE = 1.0
SENTENCE_INSIDE = 2.0
CLAUSE_WITH_PAUSE = 0.6
PAUSE = 1.0  # of half a second; a shorter one costs up to twice as much
CLAUSE = 2.5
NO_REASON = 8.0
TOO_SHORT = 8.0  # a second
TOO_FAST = 0.4  # a character a second
FRAGMENT = 3.0  # of no width
UNEVEN = 0.5  # a full cue beside an empty one

AUDIBLE_PAUSE = 0.2  # seconds between words; a shorter gap may be the closure of a stop consonant
FRAGMENT_COLUMNS = 14
SHORT_WORD = 3  # characters
SOFT = 0.2  # seconds at either end of a pause that may be a word's


@dataclass(frozen=True, kw_only=True)
class SubtitleOptions:
    """How cues are cut.

    Cues end with sentences, else at pauses and the ends of clauses; one that does not fit, or would stay too long, is
    cut further. `max_words_per_line` makes cues of one line with so many words, as wide as they are.

    Raises:
        ConfigError: for limits that contradict each other or are out of range.
    """

    max_line_width: int | None = None
    """Columns of a line; None is 42, which subtitlers keep to in Latin scripts, or 21 East Asian wide characters, which
    take two. A single longer word gets a line of its own."""
    max_line_count: int = 2
    """Lines of a cue."""
    max_words_per_line: int | None = None
    """Words of a cue, which is then one line; not together with `max_line_width`."""
    highlight_words: bool = False
    """Repeat each cue for each of its words, with that word underlined while it is spoken."""
    max_cue_seconds: float = 7.0
    """Longest time that a cue is shown."""
    min_cue_seconds: float = 1.0
    """Shortest time that a cue is shown, where the next one leaves room."""
    max_reading_speed: float = 21.0
    """Characters a second that a reader follows: cues stay longer, and are cut otherwise, where times allow it."""
    max_pause_seconds: float = 1.0
    """Longest pause within a cue."""

    def __post_init__(self) -> None:
        for name in ("max_line_width", "max_line_count", "max_words_per_line"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ConfigError(f"{name} must be at least 1, got {limit}")
        for name in ("max_cue_seconds", "max_reading_speed"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, got {getattr(self, name)}")
        for name in ("min_cue_seconds", "max_pause_seconds"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.min_cue_seconds > self.max_cue_seconds:
            raise ConfigError(f"min_cue_seconds {self.min_cue_seconds} is more than max_cue_seconds")
        if self.max_words_per_line is not None and self.max_line_width is not None:
            raise ConfigError("max_words_per_line and max_line_width exclude each other")

    @property
    def line_width(self) -> float:
        """Columns of a line, infinite where words are counted instead."""
        return math.inf if self.max_words_per_line is not None else self.max_line_width or 42

    @property
    def line_count(self) -> int:
        """Lines of a cue."""
        return 1 if self.max_words_per_line is not None else self.max_line_count


@dataclass(frozen=True, kw_only=True)
class Cue:
    """What is shown at a time."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    lines: list[list[CueWord]]
    voice: str | None = None
    """The channel or track, where each was transcribed by itself."""

    @property
    def words(self) -> list[CueWord]:
        """Of all lines."""
        return [word for line in self.lines for word in line]


@dataclass(frozen=True)
class _Word:
    """A word with what decides on a cut after it."""

    word: CueWord
    columns: int
    characters: int
    ending: Ending
    pause: float
    """Seconds until the next word; infinite at the end."""
    script: str
    """Of its last character and the next word's first, where no space is between them: two letters."""

    @property
    def unspaced(self) -> bool:
        """Whether the next word follows without a space."""
        return bool(self.script)


def columns(text: str) -> int:
    """Columns of a terminal or a subtitle: East Asian wide characters take two (UAX #11), combining marks none."""
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def cues(transcript: Transcript, options: SubtitleOptions) -> list[Cue]:
    """The cues of every channel, in the order of their times."""
    found = [
        replace(cue, voice=voice)
        for voice, segments in transcript.voices.items()
        for cue in _cues(segments, transcript.duration, options)
    ]
    return sorted(found, key=lambda cue: cue.start) if len(transcript.voices) > 1 else found


def _cues(segments: Sequence[Segment], duration: float, options: SubtitleOptions) -> Iterator[Cue]:
    found: list[Cue] = []
    for run in _runs(segments, options.max_pause_seconds):
        found += (
            Cue(start=words[0].word.start, end=_end(words), lines=_lines(words, options))
            for words in _cut(run, options)
        )
    followers: list[Cue | None] = [*found[1:], None]
    for cue, following in zip(found, followers, strict=False):
        room = max(duration, cue.end) if following is None else max(following.start, cue.start)
        yield replace(cue, end=_shown_until(cue, room, options))


def _end(words: Sequence[_Word]) -> float:
    return max(word.word.end for word in words)


def _shown_until(cue: Cue, room: float, options: SubtitleOptions) -> float:
    """The end of a cue that stays for as long as it is read, but no longer than to `room`."""
    words = cue.words
    read = (sum(len(word.text) + word.spaced for word in words) - words[0].spaced) / options.max_reading_speed
    end = max(cue.end, cue.start + max(options.min_cue_seconds, read))
    return min(end, room, cue.start + options.max_cue_seconds)


def _runs(segments: Sequence[Segment], longest: float) -> Iterator[list[_Word]]:
    """The words between pauses longer than `longest` seconds."""
    words = [(word, segment.language) for segment in segments for word in cue_words(segment)]
    heard = sorted(span for segment in segments for span in segment.pauses if span[1] - span[0] > longest)
    run: list[_Word] = []
    followers: list[CueWord | None] = [*(word for word, _ in words[1:]), None]
    for (word, language), following in zip(words, followers, strict=False):
        pause = math.inf if following is None else following.start - word.end
        first = bisect_left(heard, (word.end - SOFT, 0.0))
        if following is not None and first < len(heard) and heard[first][1] <= following.start + SOFT:
            pause = max(pause, math.nextafter(longest, math.inf))
        script = ""
        if following is not None and not following.spaced:
            script = _script(word.text[-1]) + _script(following.text[0])
        if following is None:
            ends = Ending.SENTENCE
        else:
            ends = ending(word.text, following.text, language, spaced=following.spaced)
        run.append(_Word(word, columns(word.text), len(word.text), ends, pause, script))
        if pause > longest:
            yield run
            run = []


def _script(character: str) -> str:
    name = unicodedata.name(character, "")
    for letter, script in (("h", "HIRAGANA"), ("k", "KATAKANA"), ("c", "CJK")):
        if name.startswith(script):
            return letter
    return "k" if character in "ー・" else "d" if character.isalnum() else "p"


def _cost_of_cut(word: _Word) -> float:
    """What it costs to end a cue with a word."""
    if word.ending is Ending.SENTENCE:
        return 0.0
    if word.ending is Ending.CLAUSE:
        return CLAUSE_WITH_PAUSE if word.pause >= AUDIBLE_PAUSE else CLAUSE
    if word.pause >= AUDIBLE_PAUSE:
        return PAUSE * max(1.0, 2.0 - (word.pause - AUDIBLE_PAUSE) / 0.3)
    return NO_REASON + _tie(word)


def _tie(word: _Word) -> float:
    """How much a word holds on to the next one."""
    if not word.unspaced:
        # Short words are mostly articles, prepositions and conjunctions, and belong to what follows.
        return 1.0 if word.characters <= SHORT_WORD else 0.0
    if word.script in ("hc", "hk"):
        return 0.0  # Japanese words rarely go on in kanji or katakana after hiragana
    return 0.5 if "p" in word.script else 2.0 if word.script in ("kk", "dd", "ch") else 1.0


def _cut(run: Sequence[_Word], options: SubtitleOptions) -> list[Sequence[_Word]]:
    """The cheapest way to cut a run into cues, by dynamic programming over where they end."""
    full = options.line_width * options.line_count
    best = [math.inf] * len(run) + [0.0]  # of run[i:]
    ends = [0] * len(run)
    for i in range(len(run) - 1, -1, -1):
        lines = 0
        free: float = -1.0  # columns of the last line
        characters = width = 0
        inside = 0.0
        start = run[i].word.start
        complete = i == 0 or run[i - 1].ending is Ending.SENTENCE
        end = start
        for j in range(i, len(run)):
            word = run[j]
            space = int(word.word.spaced and j > i)
            end = max(end, word.word.end)
            if word.columns + space <= free:
                free -= word.columns + space
            else:
                lines += 1
                free = options.line_width - word.columns
            width += word.columns + space
            characters += word.characters + space
            fits = lines <= options.line_count and end - start <= options.max_cue_seconds
            if j > i and not (fits and j - i < (options.max_words_per_line or math.inf)):
                break
            following = run[j + 1].word.start if j + 1 < len(run) else end + min(word.pause, options.min_cue_seconds)
            shown = min(max(end, following) - start, options.max_cue_seconds)
            cost = CUE + inside + _cost_of_cut(word) * (j + 1 < len(run))
            cost += TOO_SHORT * max(0.0, options.min_cue_seconds - shown)
            cost += TOO_FAST * max(0.0, characters / max(shown, 0.1) - options.max_reading_speed)
            if not (complete and (word.ending is Ending.SENTENCE or j + 1 == len(run))):
                cost += FRAGMENT * max(0.0, 1 - width / FRAGMENT_COLUMNS)
            if math.isfinite(full):
                cost += UNEVEN * (width / full) ** 2
            if cost + best[j + 1] < best[i]:
                best[i], ends[i] = cost + best[j + 1], j + 1
            if word.ending is Ending.SENTENCE:
                inside += SENTENCE_INSIDE
            inside += max(0.0, word.pause - AUDIBLE_PAUSE) if math.isfinite(word.pause) else 0.0
    parts = []
    i = 0
    while i < len(run):
        parts.append(run[i : ends[i]])
        i = ends[i]
    return parts


def _lines(words: Sequence[_Word], options: SubtitleOptions) -> list[list[CueWord]]:
    """A cue's words in as few lines as hold them, of like width, cut after marks where that is as even."""
    starts = [0]
    for word in words:
        starts.append(starts[-1] + word.columns + word.word.spaced)

    def width(i: int, j: int) -> int:
        return starts[j] - starts[i] - words[i].word.spaced

    count = 1
    i = 0
    for j in range(1, len(words) + 1):
        if j - 1 > i and width(i, j) > options.line_width:
            count, i = count + 1, j - 1
    count = min(count, len(words))
    if count == 1:
        return [[word.word for word in words]]
    mean = starts[-1] / count
    # best[k][j]: cost and cuts of the first j words in k lines.
    best: list[dict[int, tuple[float, tuple[int, ...]]]] = [{0: (0.0, ())}]
    for _ in range(count):
        row: dict[int, tuple[float, tuple[int, ...]]] = {}
        for i, (cost, cuts) in best[-1].items():
            for j in range(i + 1, len(words) + 1):
                if width(i, j) > options.line_width and j > i + 1:
                    break
                total = (
                    cost + ((width(i, j) - mean) / mean) ** 2 + (_cost_of_break(words[j - 1]) if j < len(words) else 0)
                )
                if j not in row or total < row[j][0]:
                    row[j] = total, (*cuts, j)
        best.append(row)
    _, cuts = best[count][len(words)]
    return [[word.word for word in words[i:j]] for i, j in pairwise((0, *cuts))]


def _cost_of_break(word: _Word) -> float:
    """What it costs to end a line with a word; an eighth is a line that is a third wider than the mean."""
    if word.ending is not Ending.NOTHING:
        return 0.0
    return 0.12 + 0.1 * _tie(word)
