"""Subtitles as files: SubRip (srt) and WebVTT (vtt)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from fun_asr.inputs.info import RecordingInfo
from fun_asr.transcript import Transcript
from fun_asr.transcript.cues import SubtitleOptions
from fun_asr.transcript.subtitles import SubRip, SubtitleFormat, WebVTT
from fun_asr.writers.base import Writer

__all__ = ["SRTWriter", "SubtitleOptions", "VTTWriter"]


class _SubtitleWriter(Writer):
    subtitle_format: ClassVar[SubtitleFormat]

    def __init__(self, options: SubtitleOptions) -> None:
        self._options = options

    @property
    def options(self) -> dict[str, Any]:
        """As `Writer.options`."""
        return {
            field.name: value
            for field in dataclasses.fields(self._options)
            if (value := getattr(self._options, field.name)) != field.default
        }

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        return self.subtitle_format.render(transcript, self._options)


class SRTWriter(_SubtitleWriter):
    """SubRip; without word times, those of the words are guessed from the characters of their segment."""

    extension = ".srt"
    subtitle_format = SubRip()


class VTTWriter(_SubtitleWriter):
    """WebVTT (W3C); without word times, those of the words are guessed from the characters of their segment."""

    extension = ".vtt"
    subtitle_format = WebVTT()
