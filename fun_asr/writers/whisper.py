"""JSON with the keys that openai-whisper writes."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from typing import Any

from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, Segment, Transcript
from fun_asr.writers.base import JSONWriter

__all__ = ["WhisperJSONWriter"]

FRAMES_PER_SECOND = 100


class WhisperJSONWriter(JSONWriter):
    """`text`, `segments` and `language` as openai-whisper writes them, for what reads its files.

    Times, texts, words, `avg_logprob` and `compression_ratio` are the transcript's; `seek` is where the block of a
    segment begins, in hundredths of a second. There are no `tokens`, the temperature is always 0, and so is
    `no_speech_prob`, as a block without speech gives no segment. In languages with spaces texts begin with one.
    """

    @property
    def options(self) -> dict[str, Any]:
        """As `Writer.options`."""
        return {"json_style": "whisper"}

    def content(self, transcript: Transcript) -> dict[str, Any]:
        """As `JSONWriter.content`."""
        starts = [chunk.start for chunk in transcript.chunks]
        segments = []
        for number, segment in enumerate(transcript.segments):
            block = bisect_right(starts, segment.start) - 1
            segments.append(_entry(segment, number, starts[block] if block >= 0 else 0.0))
        return {
            "text": "".join(entry["text"] for entry in segments),
            "segments": segments,
            "language": transcript.language,
        }


def _entry(segment: Segment, number: int, seek: float) -> dict[str, Any]:
    space = "" if segment.language in WRITTEN_WITHOUT_SPACES else " "
    text = space + segment.text
    encoded = text.encode()
    entry: dict[str, Any] = {
        "id": number,
        "seek": round(seek * FRAMES_PER_SECOND),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment.score,
        "compression_ratio": len(encoded) / len(zlib.compress(encoded)),
        "no_speech_prob": 0.0,
    }
    if segment.words:
        entry["words"] = [
            {
                "word": space + word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "probability": word.confidence,
            }
            for word in segment.words
        ]
    return entry
