"""OpenAI's transcription over HTTP: a recording in a form, its text in an answer or in server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from fun_asr.errors import AudioDecodeError, ConfigError
from fun_asr.options import Task, TranscriptionOptions
from fun_asr.server.asked import with_hotwords, with_language, with_prompt
from fun_asr.server.engine import Engine
from fun_asr.server.errors import Refused, error_body
from fun_asr.server.replies import RESPONSE_FORMATS, reply, server_sent, usage
from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, Segment, Transcript

__all__ = ["MODEL_ID", "model", "models", "transcriptions", "translations"]

MODEL_ID = "fun-asr"
MODEL = {"id": MODEL_ID, "object": "model", "created": 0, "owned_by": "fun-asr"}
MOST_FIELDS = 50
GRANULARITIES = ("word", "segment")


@dataclass(frozen=True)
class _Asked:
    """A form that can be followed."""

    file: BinaryIO
    options: TranscriptionOptions
    form: str
    granularities: tuple[str, ...]
    stream: bool


async def transcriptions(request: Request) -> Response:
    """POST /v1/audio/transcriptions."""
    return await _answer(request, "transcribe")


async def translations(request: Request) -> Response:
    """POST /v1/audio/translations."""
    return await _answer(request, "translate")


async def models(request: Request) -> Response:
    """GET /v1/models: the one that is loaded, whatever name a request gives it."""
    return JSONResponse({"object": "list", "data": [MODEL]})


async def model(request: Request) -> Response:
    """GET /v1/models/NAME.

    Raises:
        Refused: for another name than that of the list.
    """
    if request.path_params["name"] != MODEL_ID:
        raise Refused(404, f"the model that is loaded is called {MODEL_ID}, and answers to any name", "model")
    return JSONResponse(MODEL)


async def _answer(request: Request, task: Task) -> Response:
    engine: Engine = request.app.state.engine
    with contextlib.ExitStack() as stack:
        stack.enter_context(engine.admitted())
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refused(400, "send a form, multipart/form-data, with the recording in its field file")
        try:
            form = await request.form(max_files=1, max_fields=MOST_FIELDS)
        except ClientDisconnect:
            raise Refused(499, "the client has gone") from None
        try:
            asked = _read(form, engine, task)
            if asked.stream:
                # The place is kept until the last event.
                events = _events(engine, asked, form, stack.pop_all())
                return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
            transcript = await _unless_disconnected(request, engine, asked)
        except BaseException:
            await form.close()
            raise
        await form.close()
        return reply(transcript, asked.form, asked.granularities, task)


def _read(form: FormData, engine: Engine, task: Task) -> _Asked:
    """A form's fields; those that are unknown do not count, as clients send what other servers know.

    Raises:
        Refused: for one that cannot be followed.
    """
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise Refused(400, "the form has no recording in its field file", "file")
    if not upload.size:
        raise Refused(400, "the recording is empty", "file")

    def text(name: str) -> str:
        value = form.get(name, "")
        if not isinstance(value, str):
            raise Refused(400, f"the field {name} is not a text", name)
        return value

    options = replace(engine.options, task=task)
    if task == "transcribe":
        options = with_language(options, text("language"))
    phrases = [part.strip() for part in text("hotwords").split(",") if part.strip()]
    options = with_hotwords(options, list(phrases))
    response_format = text("response_format") or "json"
    if response_format not in RESPONSE_FORMATS:
        raise Refused(400, f"response_format is to be one of {', '.join(RESPONSE_FORMATS)}", "response_format")
    given = [*form.getlist("timestamp_granularities[]"), *form.getlist("timestamp_granularities")]
    granularities = tuple(dict.fromkeys(str(one) for one in given)) or ("segment",)
    if unknown := next((one for one in granularities if one not in GRANULARITIES), None):
        raise Refused(400, f"{unknown[:40]!r} is not word or segment", "timestamp_granularities")
    _check_temperature(text("temperature"))
    try:
        options = engine.checked(options)
    except ConfigError as error:
        raise Refused(400, str(error)) from None
    options = with_prompt(options, text("prompt"), engine.checked)
    stream = text("stream").lower() in ("true", "1")
    return _Asked(upload.file, options, response_format, granularities, stream)


def _check_temperature(value: str) -> None:
    """It changes nothing: the search does not draw at random."""
    try:
        if not 0 <= float(value or 0) <= 2:
            raise ValueError
    except ValueError:
        raise Refused(400, "temperature is to lie between 0 and 2", "temperature") from None


async def _unless_disconnected(request: Request, engine: Engine, asked: _Asked) -> Transcript:
    """The transcript, given up when the client goes.

    Raises:
        Refused: when the recording cannot be read, or takes too long.
    """
    work = asyncio.ensure_future(engine.transcribe(asked.file, asked.options))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refused(499, "the client has gone")
        return await _refused(work)
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(work: asyncio.Future[Transcript]) -> Transcript:
    """What comes of work, its errors as a client is to see them."""
    try:
        return await work
    except AudioDecodeError as error:
        # The cause alone: the path is the server's.
        raise Refused(400, f"the recording {error.cause}", "file") from None
    except ConfigError as error:
        raise Refused(400, str(error)) from None
    except TimeoutError:
        raise Refused(503, "the recording took too long", headers={"retry-after": "60"}) from None


async def _events(engine: Engine, asked: _Asked, form: FormData, place: contextlib.ExitStack) -> AsyncIterator[str]:
    """Sentences as they are understood, then all of it."""
    said: asyncio.Queue[Sequence[Segment] | None] = asyncio.Queue()
    work = asyncio.ensure_future(engine.transcribe(asked.file, asked.options, said.put_nowait))
    work.add_done_callback(lambda _: said.put_nowait(None))
    try:
        with place:
            begun = False
            while (segments := await said.get()) is not None:
                for segment in segments:
                    if segment.text:
                        space = " " if begun and segment.language not in WRITTEN_WITHOUT_SPACES else ""
                        begun = True
                        yield server_sent({"type": "transcript.text.delta", "delta": space + segment.text})
            try:
                transcript = await _refused(work)
            except Refused as refusal:
                yield server_sent(error_body(refusal.status_code, refusal.detail, refusal.param))
                return
            done = {"type": "transcript.text.done", "text": transcript.text, "usage": usage(transcript.duration)}
            yield server_sent(done)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await form.close()
