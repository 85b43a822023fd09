"""Cues as SubRip (srt) and WebVTT (vtt)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from fun_asr.transcript.cues import Cue, SubtitleOptions, cues
from fun_asr.transcript.data import Transcript
from fun_asr.transcript.words import CueWord

__all__ = ["SubRip", "SubtitleFormat", "WebVTT"]


class SubtitleFormat(ABC):
    """Writes cues."""

    @abstractmethod
    def render(self, transcript: Transcript, options: SubtitleOptions) -> str:
        """The content of a file."""

    @abstractmethod
    def _time(self, total_milliseconds: int) -> str:
        """A time as the format writes it."""

    @abstractmethod
    def _label(self, voice: str) -> str:
        """What stands before the words of one of several channels."""

    @abstractmethod
    def _escape(self, text: str) -> str:
        """Text without what the format would read as something else."""

    def _timed_texts(self, transcript: Transcript, options: SubtitleOptions) -> Iterator[tuple[str, str]]:
        """What is shown, with its line of times."""
        for cue in cues(transcript, options):
            label = "" if cue.voice is None else self._label(self._escape(cue.voice))
            shown = [(cue.start, cue.end, -1)]
            if options.highlight_words:
                shown = list(_highlights(cue))
            for start, end, highlighted in shown:
                first = round(1000 * start)
                # A cue that ends as it starts is never shown.
                last = max(round(1000 * end), first + 1)
                yield f"{self._time(first)} --> {self._time(last)}", label + self._text(cue.lines, highlighted)

    def _text(self, lines: Sequence[Sequence[CueWord]], highlighted: int) -> str:
        written = []
        place = 0
        for line in lines:
            text = ""
            for word in line:
                shown = self._escape(word.text)
                if place == highlighted:
                    shown = f"<u>{shown}</u>"
                text += (" " if text and word.spaced else "") + shown
                place += 1
            written.append(text)
        return "\n".join(written)


class SubRip(SubtitleFormat):
    """Numbered cues, times with hours and a decimal comma."""

    def render(self, transcript: Transcript, options: SubtitleOptions) -> str:
        """As `SubtitleFormat.render`."""
        numbered = enumerate(self._timed_texts(transcript, options), start=1)
        return "".join(f"{number}\n{times}\n{text}\n\n" for number, (times, text) in numbered)

    def _time(self, total_milliseconds: int) -> str:
        hours, minutes, seconds, rest = _clock(total_milliseconds)
        return f"{hours:02}:{minutes:02}:{seconds:02},{rest:03}"

    def _label(self, voice: str) -> str:
        return f"{voice}: "

    def _escape(self, text: str) -> str:
        return text.replace("-->", "->")


class WebVTT(SubtitleFormat):
    """W3C's: times with a decimal point, and hours where there are any."""

    def render(self, transcript: Transcript, options: SubtitleOptions) -> str:
        """As `SubtitleFormat.render`."""
        texts = self._timed_texts(transcript, options)
        return "WEBVTT\n\n" + "".join(f"{times}\n{text}\n\n" for times, text in texts)

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


def _highlights(cue: Cue) -> Iterator[tuple[float, float, int]]:
    """Start, end and the word that is underlined meanwhile; -1 where none is spoken."""
    shown_until = cue.start
    for place, word in enumerate(cue.words):
        start, end = max(word.start, shown_until), min(word.end, cue.end)
        if round(1000 * start) > round(1000 * shown_until):
            yield shown_until, start, -1
        yield start, max(end, start), place
        shown_until = max(end, start)
    if round(1000 * cue.end) > round(1000 * shown_until):
        yield shown_until, cue.end, -1
