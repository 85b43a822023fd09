"""Transcripts in the forms of OpenAI's transcription answers."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from fun_asr.text.languages import LANGUAGE_NAMES
from fun_asr.transcript import Transcript
from fun_asr.writers.whisper import WhisperJSONWriter

__all__ = ["RESPONSE_FORMATS", "reply", "server_sent", "usage"]

RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")


def reply(transcript: Transcript, form: str, granularities: Collection[str], task: str) -> Response:
    """The answer to a request that is not streamed.

    Arguments:
        form: of `RESPONSE_FORMATS`.
        granularities: "word", "segment" or both, in verbose_json.
        task: as verbose_json names it.
    """
    if form == "text":
        return PlainTextResponse(transcript.text + "\n")
    if form == "srt":
        return PlainTextResponse(transcript.to_srt())
    if form == "vtt":
        return PlainTextResponse(transcript.to_vtt(), media_type="text/vtt")
    if form == "json":
        return JSONResponse({"text": transcript.text, "usage": usage(transcript.duration)})
    return JSONResponse(_verbose(transcript, granularities, task))


def _verbose(transcript: Transcript, granularities: Collection[str], task: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "task": task,
        "language": LANGUAGE_NAMES.get(transcript.language or "", transcript.language or ""),
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if "word" in granularities:
        content["words"] = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for segment in transcript.segments
            for word in segment.words
        ]
    if "segment" in granularities:
        # Words are a list of their own here.
        content["segments"] = [
            {key: value for key, value in segment.items() if key != "words"}
            for segment in WhisperJSONWriter().content(transcript)["segments"]
        ]
    content["usage"] = usage(transcript.duration)
    return content


def usage(seconds: float) -> dict[str, Any]:
    """What OpenAI would charge for."""
    return {"type": "duration", "seconds": round(seconds, 3)}


def server_sent(event: dict[str, Any]) -> str:
    """An event of a stream of server-sent events."""
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
