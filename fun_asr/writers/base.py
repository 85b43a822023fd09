"""Transcripts as files: one small class a format, written under another name and then moved into place."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from fun_asr.files import write_atomically
from fun_asr.inputs.info import RecordingInfo
from fun_asr.transcript import Transcript

__all__ = [
    "JSONLWriter",
    "JSONWriter",
    "TSVWriter",
    "TextWriter",
    "Writer",
    "encoded",
    "milliseconds",
]

# A file name that is not UTF-8 holds lone surrogates; escaped in this way they are valid JSON, and read back the same.
_ESCAPED = "backslashreplace"


class Writer(ABC):
    """Turns a transcript into the content of a file."""

    extension: ClassVar[str]
    """Of the files, with its dot."""
    concatenates: ClassVar[bool] = False
    """Whether the contents of several files, one after the other, are such a file too."""
    names_recordings: ClassVar[bool] = False
    """Whether lines begin with `RecordingInfo.name`."""

    @property
    def options(self) -> dict[str, Any]:
        """What the content depends on beside the transcript, for JSON; without what is not set."""
        return {}

    def line(self, transcript: Transcript) -> str | None:
        """The content as one line, where several recordings' follow each other; None where it has no such form."""
        return None

    @abstractmethod
    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        """The whole file, its last line ended."""

    def encode(self, transcript: Transcript, info: RecordingInfo | None = None) -> bytes:
        """The whole file in UTF-8."""
        return encoded(self.render(transcript, info or RecordingInfo()))

    def write(self, transcript: Transcript, path: Path, info: RecordingInfo | None = None) -> None:
        """Write the file; a reader finds either nothing (or what was there before) or all of it.

        Raises:
            OSError: when the folder cannot be made or written to.
        """
        write_atomically(path, self.encode(transcript, info))


class TextWriter(Writer):
    """The text alone, on one line."""

    extension = ".txt"
    concatenates = True

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        return transcript.text + "\n"


class JSONWriter(Writer):
    """`Transcript.to_dict`, indented."""

    extension = ".json"

    def content(self, transcript: Transcript) -> dict[str, Any]:
        """What is written, for JSON."""
        return transcript.to_dict()

    def line(self, transcript: Transcript) -> str:
        """As `Writer.line`."""
        return json.dumps(self.content(transcript), ensure_ascii=False) + "\n"

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        return json.dumps(self.content(transcript), ensure_ascii=False, indent=2) + "\n"


class JSONLWriter(Writer):
    """One line of a NeMo manifest: `audio_filepath`, `duration` and `pred_text`, then the language and the segments.

    What the recording's own manifest line held beside its path, such as the reference `text`, comes first and stays.
    """

    extension = ".jsonl"
    concatenates = True

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        entry = transcript.to_dict()
        line = {
            **info.fields,
            "audio_filepath": entry["path"],
            "duration": entry["duration"],
            "pred_text": entry["text"],
            "language": entry["language"],
            "language_probability": entry["language_probability"],
            "incomplete": entry["incomplete"],
            "lost": entry["lost"],
            "segments": entry["segments"],
        }
        return json.dumps(line, ensure_ascii=False) + "\n"


class TSVWriter(Writer):
    """Segments as Whisper's tsv has them: start and end in whole milliseconds, text; a header line."""

    extension = ".tsv"

    def render(self, transcript: Transcript, info: RecordingInfo) -> str:
        rows = [
            f"{milliseconds(segment.start)}\t{milliseconds(segment.end)}\t{' '.join(segment.text.split())}\n"
            for segment in transcript.segments
            if segment.text
        ]
        return "start\tend\ttext\n" + "".join(rows)


def milliseconds(seconds: float) -> int:
    """Seconds as the nearest whole number of milliseconds."""
    return round(1000 * seconds)


def encoded(text: str) -> bytes:
    """A text of a file in UTF-8."""
    return text.encode("utf-8", _ESCAPED)
