"""Transcripts in the formats of scoring and annotation tools: NIST's ctm and stm, Praat's TextGrid."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from fun_asr.audio.names import as_field, stem
from fun_asr.inputs.info import RecordingInfo
from fun_asr.transcript import Segment, Transcript
from fun_asr.transcript.words import cue_words
from fun_asr.writers.base import Writer

__all__ = ["CTMWriter", "STMWriter", "TextGridWriter"]

CHANNEL = "1"
SPEAKER = "unknown"

_Interval = tuple[float, float, str]


class CTMWriter(Writer):
    """One line a word: file, channel, start, duration (seconds), word and, where there is one, confidence.

    Without word times, those of the words are guessed from the characters of their segment.
    """

    extension = ".ctm"
    concatenates = True
    names_recordings = True

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        name = _name(transcript, info)
        lines = []
        for segment in transcript.segments:
            for word in cue_words(segment):
                fields = [
                    name,
                    _channel(segment),
                    f"{word.start:.3f}",
                    f"{word.end - word.start:.3f}",
                    word.text.replace(" ", ""),
                ]
                if word.confidence is not None:
                    fields.append(f"{word.confidence:.4f}")
                lines.append(" ".join(fields) + "\n")
        return "".join(lines)


class STMWriter(Writer):
    """One line a segment: file, channel, speaker, start and end (seconds), text."""

    extension = ".stm"
    concatenates = True
    names_recordings = True

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        name = _name(transcript, info)
        return "".join(
            f"{name} {_channel(segment)} {SPEAKER} {segment.start:.3f} {segment.end:.3f} "
            f"{' '.join(segment.text.split())}\n"
            for segment in transcript.segments
            if segment.text
        )


class TextGridWriter(Writer):
    """Praat's long text format: a tier of segments and, where there are word times, one of words, for each channel."""

    extension = ".TextGrid"

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        tiers = {}
        for voice, segments in transcript.voices.items():
            suffix = "" if voice is None else f", {voice.lower()}"
            tiers[f"segments{suffix}"] = [(segment.start, segment.end, segment.text) for segment in segments]
            if any(segment.words for segment in segments):
                timed = (word for segment in segments for word in cue_words(segment))
                tiers[f"words{suffix}"] = [(word.start, word.end, word.text) for word in timed]
        lines = [
            'File type = "ooTextFile"',
            'Object class = "TextGrid"',
            "",
            "xmin = 0",
            f"xmax = {transcript.duration:.6f}",
            "tiers? <exists>",
            f"size = {len(tiers)}",
            "item []:",
        ]
        for number, (name, intervals) in enumerate(tiers.items(), start=1):
            covering = list(_covering(intervals, transcript.duration))
            lines += [
                f"    item [{number}]:",
                '        class = "IntervalTier"',
                f'        name = "{name}"',
                "        xmin = 0",
                f"        xmax = {transcript.duration:.6f}",
                f"        intervals: size = {len(covering)}",
            ]
            for place, (start, end, text) in enumerate(covering, start=1):
                lines += [
                    f"        intervals [{place}]:",
                    f"            xmin = {start:.6f}",
                    f"            xmax = {end:.6f}",
                    f'            text = "{" ".join(text.split()).replace(chr(34), chr(34) * 2)}"',
                ]
        return "\n".join(lines) + "\n"


def _channel(segment: Segment) -> str:
    return CHANNEL if segment.channel is None else str(segment.channel)


def _name(transcript: Transcript, info: RecordingInfo) -> str:
    """The recording as one field, which a space would end."""
    name = info.name
    if name is None:
        name = "stdin" if transcript.path in (None, "-") else stem(os.path.basename(transcript.path))
    return as_field(name)


def _covering(intervals: Iterable[_Interval], duration: float) -> Iterator[_Interval]:
    """Intervals that follow each other without a gap from 0 to `duration`, as a tier must; none is of no length."""
    covered = 0.0
    held = ""  # text of which no time is left; it goes with what follows
    pending: _Interval | None = None
    for start, end, text in intervals:
        start, end = max(start, covered), min(end, duration)
        text = f"{held} {text}".strip()
        if _microseconds(end) <= _microseconds(start):
            held = text
            continue
        held = ""
        if pending:
            yield pending
        if _microseconds(start) > _microseconds(covered):
            yield covered, start, ""
        pending, covered = (start, end, text), end
    if pending:
        yield pending[0], pending[1], f"{pending[2]} {held}".strip()
        held = ""
    if _microseconds(duration) > _microseconds(covered):
        yield covered, duration, held


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
