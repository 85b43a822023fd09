"""Subtitles: a transcript cut into cues of few and short lines, as SubRip (srt) and WebVTT (vtt)."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fun_asr.errors import ConfigError
from fun_asr.inputs.info import RecordingInfo
from fun_asr.transcript import Segment, Transcript
from fun_asr.writers.base import Writer, milliseconds
from fun_asr.writers.word_times import CueWord, cue_words

__all__ = ["SRTWriter", "SubtitleOptions", "VTTWriter"]

LINE_WIDTH = 42  # columns: what subtitlers keep to in Latin scripts
LINE_COUNT = 2
PAUSE_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class SubtitleOptions:
    """How cues are cut, in the terms of Whisper's command line.

    Without any limit, cues have at most two lines of 42 columns. With `max_line_width` alone, or with
    `max_words_per_line`, no cue goes on over the end of a segment; with a width and a line count, a cue ends when it is
    full or at a pause of more than three seconds.

    Raises:
        ConfigError: for limits that contradict each other or are less than 1.
    """

    max_line_width: int | None = None
    """Columns of a line; a single longer word gets a line of its own. East Asian wide characters take two."""
    max_line_count: int | None = None
    """Lines of a cue; needs `max_line_width`."""
    max_words_per_line: int | None = None
    """Words of a cue, which is then one line; not together with `max_line_width`."""
    highlight_words: bool = False
    """Repeat each cue for each of its words, with that word underlined while it is spoken."""

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("max_line_width", "max_line_count", "max_words_per_line")}
        for name, limit in limits.items():
            if limit is not None and limit < 1:
                raise ConfigError(f"{name} must be at least 1, got {limit}")
        if self.max_line_count is not None and self.max_line_width is None:
            raise ConfigError("max_line_count needs max_line_width")
        if self.max_words_per_line is not None and self.max_line_width is not None:
            raise ConfigError("max_words_per_line and max_line_width exclude each other")


@dataclass(frozen=True)
class _Cue:
    lines: list[list[CueWord]]
    voice: str | None = None

    @property
    def words(self) -> list[CueWord]:
        return [word for line in self.lines for word in line]


class _SubtitleWriter(Writer):
    def __init__(self, options: SubtitleOptions) -> None:
        self._options = options

    @property
    def options(self) -> dict[str, Any]:
        """As `Writer.options`."""
        return {name: value for name, value in dataclasses.asdict(self._options).items() if value}

    @abstractmethod
    def _time(self, total_milliseconds: int) -> str:
        """A time as the format writes it."""

    @abstractmethod
    def _label(self, voice: str) -> str:
        """What stands before the words of one of several channels."""

    @abstractmethod
    def _escape(self, text: str) -> str:
        """Text without what the format would read as something else."""

    def _timed_texts(self, transcript: Transcript) -> Iterator[tuple[str, str]]:
        """What is shown, with its line of times."""
        for cue in _cues(transcript, self._options):
            words = cue.words
            label = "" if cue.voice is None else self._label(self._escape(cue.voice))
            shown = [(words[0].start, words[-1].end, -1)]
            if self._options.highlight_words:
                shown = list(_highlights(words))
            for start, end, highlighted in shown:
                first = milliseconds(start)
                # A cue that ends as it starts is never shown.
                last = max(milliseconds(end), first + 1)
                yield f"{self._time(first)} --> {self._time(last)}", label + self._text(cue, highlighted)

    def _text(self, cue: _Cue, highlighted: int) -> str:
        lines = []
        place = 0
        for line in cue.lines:
            written = ""
            for word in line:
                text = self._escape(word.text)
                if place == highlighted:
                    text = f"<u>{text}</u>"
                written += (" " if written and word.spaced else "") + text
                place += 1
            lines.append(written)
        return "\n".join(lines)


class SRTWriter(_SubtitleWriter):
    """SubRip: numbered cues, times with hours and a decimal comma.

    Without word times, those of the words are guessed from the characters of their segment.
    """

    extension = ".srt"

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        cues = enumerate(self._timed_texts(transcript), start=1)
        return "".join(f"{number}\n{times}\n{text}\n\n" for number, (times, text) in cues)

    def _time(self, total_milliseconds: int) -> str:
        hours, minutes, seconds, rest = _clock(total_milliseconds)
        return f"{hours:02}:{minutes:02}:{seconds:02},{rest:03}"

    def _label(self, voice: str) -> str:
        return f"{voice}: "

    def _escape(self, text: str) -> str:
        return text.replace("-->", "->")


class VTTWriter(_SubtitleWriter):
    """WebVTT (W3C): times with a decimal point, and hours where there are any.

    Without word times, those of the words are guessed from the characters of their segment.
    """

    extension = ".vtt"

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        return "WEBVTT\n\n" + "".join(f"{times}\n{text}\n\n" for times, text in self._timed_texts(transcript))

    def _time(self, total_milliseconds: int) -> str:
        hours, minutes, seconds, rest = _clock(total_milliseconds)
        return (f"{hours:02}:" if hours else "") + f"{minutes:02}:{seconds:02}.{rest:03}"

    def _label(self, voice: str) -> str:
        return f"<v {voice}>"

    def _escape(self, text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(total_milliseconds: int) -> tuple[int, int, int, int]:
    minutes, rest = divmod(total_milliseconds, 60_000)
    return minutes // 60, minutes % 60, rest // 1000, rest % 1000


def _cues(transcript: Transcript, options: SubtitleOptions) -> list[_Cue]:
    """The cues of every channel, in the order of their times."""
    cues = [
        dataclasses.replace(cue, voice=voice)
        for voice, segments in transcript.voices.items()
        for cue in _cues_of(segments, options)
    ]
    return sorted(cues, key=lambda cue: cue.words[0].start) if len(transcript.voices) > 1 else cues


def _cues_of(segments: Sequence[Segment], options: SubtitleOptions) -> Iterator[_Cue]:
    width, count, most_words = options.max_line_width, options.max_line_count, options.max_words_per_line
    if width is None and most_words is None:
        width, count = LINE_WIDTH, LINE_COUNT
    lines: list[list[CueWord]] = []
    columns: float = 0
    for segment in segments:
        for place, word in enumerate(cue_words(segment)):
            # Lines of a fixed number are filled over the ends of segments.
            ended = (place == 0 and count is None) or (most_words is not None and place % most_words == 0)
            if lines and count is not None:
                ended = word.start - lines[-1][-1].end > PAUSE_SECONDS
            needed = _columns(word.text) + word.spaced
            if lines and not ended and columns + needed <= (width or math.inf):
                lines[-1].append(word)
                columns += needed
                continue
            if lines and (ended or len(lines) == count):
                yield _Cue(lines)
                lines = []
            lines.append([word])
            columns = _columns(word.text)
    if lines:
        yield _Cue(lines)


def _columns(text: str) -> int:
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _highlights(words: list[CueWord]) -> Iterator[tuple[float, float, int]]:
    """Start, end and the word that is underlined meanwhile; -1 in the gaps between words."""
    shown_until = words[0].start
    for place, word in enumerate(words):
        start = max(word.start, shown_until)
        if milliseconds(start) > milliseconds(shown_until):
            yield shown_until, start, -1
        yield start, word.end, place
        shown_until = max(word.end, start)
