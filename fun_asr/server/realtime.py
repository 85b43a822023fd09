"""OpenAI's realtime transcription: JSON over a WebSocket, sound in base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from fun_asr.errors import ConfigError
from fun_asr.options import TranscriptionOptions
from fun_asr.server.asked import with_language, with_prompt
from fun_asr.server.engine import Engine, LiveSlot
from fun_asr.server.errors import Refused
from fun_asr.server.rest import MODEL_ID
from fun_asr.server.scheduler import ClientGoneError
from fun_asr.server.spoken import Int16, ProtocolError, SlowSocket, alaw, mulaw, pcm16
from fun_asr.streaming.events import Committed, Final, Partial, StreamEvent
from fun_asr.streaming.live import DEFAULT_STREAM, StreamOptions
from fun_asr.streaming.stream import Stream
from fun_asr.transcript import WRITTEN_WITHOUT_SPACES

__all__ = ["realtime"]

PROTOCOL = "realtime"
FORMATS: dict[str, tuple[Callable[[bytes], Int16], int]] = {
    "audio/pcm": (pcm16, 24_000),
    "audio/pcmu": (mulaw, 8_000),
    "audio/pcma": (alaw, 8_000),
    "pcm16": (pcm16, 24_000),
    "g711_ulaw": (mulaw, 8_000),
    "g711_alaw": (alaw, 8_000),
}
"""How sound is coded, and its rate in Hz, by the names of both versions of the protocol."""
SILENCE = (0.1, 10.0)  # seconds that a client may ask for
END = "end"  # the order after which no other one is followed


async def realtime(socket: WebSocket) -> None:
    """WebSocket /v1/realtime?intent=transcription."""
    engine: Engine = socket.app.state.engine
    try:
        with engine.socket(), engine.live() as slot:
            chosen = PROTOCOL if PROTOCOL in socket.scope.get("subprotocols", []) else None
            await socket.accept(chosen)
            await _Session(engine, slot, SlowSocket(socket, engine.limits, engine.stopping)).run()
    except Refused as refusal:
        await socket.close(1013, refusal.detail)
    except (WebSocketDisconnect, ClientGoneError):
        pass


@dataclass(frozen=True)
class _Settings:
    """What `session.update` sets."""

    options: TranscriptionOptions
    coding: str = "audio/pcm"
    rate: int = 24_000
    transcription: Mapping[str, Any] | None = None
    detection: Mapping[str, Any] | None = None
    """None where the client commits."""

    @property
    def stream(self) -> StreamOptions:
        """How its streams are cut."""
        if self.detection is None:
            return DEFAULT_STREAM
        silence = self.detection.get("silence_duration_ms", 1000 * DEFAULT_STREAM.silence)
        return StreamOptions(silence=min(max(silence / 1000, SILENCE[0]), SILENCE[1]))


class _Session:
    """One client.

    Sound waits in a list of bounded length; one task reads messages into it, another feeds it to the stream.
    """

    def __init__(self, engine: Engine, slot: LiveSlot, socket: SlowSocket) -> None:
        self._engine, self._slot, self._socket = engine, slot, socket
        self._id = f"sess_{uuid.uuid4().hex}"
        self._settings = _Settings(engine.options, detection={"type": "server_vad"})
        self._stream: Stream | None = None
        self._offset = 0.0  # seconds of the session before the stream
        self._waiting = 0.0  # seconds of sound in the queue
        self._inbox: deque[Int16 | str] = deque()  # sound and orders
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._buffered = 0.0  # seconds since the last commit
        self._items: dict[int, str] = {}
        self._said: dict[int, bool] = {}
        self._previous: str | None = None

    async def run(self) -> None:
        """Until the client goes."""
        await self._send("session.created", session=self._described())
        feeding = asyncio.create_task(self._feed())
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait({feeding, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and self._socket.stopping.done():
                # What was said until now is still understood.
                self._put(END)
                await feeding
            for task in (feeding, reading):
                if task.done():
                    task.result()
        finally:
            for task in (feeding, reading):
                task.cancel()
            await asyncio.gather(feeding, reading, return_exceptions=True)
            await self._socket.close()

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._socket.send({"type": kind, "event_id": f"event_{uuid.uuid4().hex}", **fields})

    async def _read(self) -> None:
        while (message := await self._socket.receive()) is not None:
            event_id = None
            try:
                event = _event(message)
                event_id = event.get("event_id")
                await self._take(event)
            except ProtocolError as error:
                await self._fail(str(error), event_id)

    async def _fail(self, message: str, event_id: object = None) -> None:
        error = {"type": "invalid_request_error", "code": None, "message": message, "param": None}
        await self._send("error", error={**error, "event_id": event_id if isinstance(event_id, str) else None})

    async def _take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "input_audio_buffer.append":
            await self._append(event)
        elif kind == "input_audio_buffer.commit":
            if not self._buffered:
                raise ProtocolError("nothing to commit: the buffer is empty")
            self._buffered = 0.0
            self._put("commit")
        elif kind == "input_audio_buffer.clear":
            self._buffered = 0.0
            self._put("clear")
        elif kind in ("session.update", "transcription_session.update"):
            self._settings = _updated(self._settings, event.get("session"), self._engine)
            # What was said before is said under the settings before.
            self._put("commit silently")
            await self._send(f"{kind}d", session=self._described())
        else:
            raise ProtocolError(f"unknown event type {kind[:60]!r}")

    async def _append(self, event: dict[str, Any]) -> None:
        sound = event.get("audio")
        if not isinstance(sound, str):
            raise ProtocolError("audio is to be a text, the sound in base64")
        try:
            data = base64.b64decode(sound, validate=True)
        except (binascii.Error, ValueError):
            raise ProtocolError("audio is not base64") from None
        coding, rate = FORMATS[self._settings.coding][0], self._settings.rate
        if coding is pcm16 and len(data) % 2:
            raise ProtocolError("audio has an odd number of bytes: 16-bit samples have two each")
        samples = coding(data)
        while self._waiting > self._engine.limits.backlog:
            self._room.clear()
            await self._room.wait()
        self._waiting += len(samples) / rate
        self._buffered += len(samples) / rate
        self._put(samples)

    def _put(self, item: Int16 | str) -> None:
        self._inbox.append(item)
        self._came.set()

    async def _feed(self) -> None:
        settings = self._settings
        while True:
            while not self._inbox:
                self._came.clear()
                await self._came.wait()
            item = self._inbox.popleft()
            if isinstance(item, str):
                await self._order(item, settings)
                if item == END:
                    return
                settings = self._settings
                continue
            parts = [item]
            # What has come in the meantime is fed at once: a partial result of the past helps nobody.
            while self._inbox and not isinstance(following := self._inbox[0], str):
                parts.append(following)
                self._inbox.popleft()
            samples = np.concatenate(parts)
            if self._stream is None:
                settings = self._settings
                stream = settings.stream
                # Without detection an utterance ends where the client says, or where it becomes too long.
                if settings.detection is None:
                    stream = replace(stream, silence=1000.0, ahead=False)
                self._stream = self._slot.open(settings.options, settings.rate, stream)
            await self._say(await self._slot.feed(self._stream, samples), settings)
            self._waiting -= len(samples) / settings.rate
            self._room.set()

    async def _order(self, order: str, settings: _Settings) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            if order == "commit":
                await self._committed(self._item(0))
                await self._completed(self._item(0), "", 0.0)
                self._items.clear()
            return
        if order == "clear":
            await self._send("input_audio_buffer.cleared")
        else:
            events = await self._slot.finish(stream)
            heard = any(isinstance(event, Final) for event in events)
            await self._say(events, settings)
            if order == "commit" and not heard:
                # An item for each commit, also of silence.
                await self._committed(self._item(-1))
                await self._completed(self._item(-1), "", stream.seconds)
        self._offset += stream.seconds
        self._items.clear()
        self._said.clear()

    async def _say(self, events: list[StreamEvent], settings: _Settings) -> None:
        for event in events:
            fresh = event.utterance not in self._items
            item = self._item(event.utterance)
            if fresh and settings.detection is not None and isinstance(event, Partial | Final):
                start = round(1000 * (self._offset + event.start))
                await self._send("input_audio_buffer.speech_started", audio_start_ms=start, item_id=item)
            if isinstance(event, Committed):
                await self._delta(event, item)
            elif isinstance(event, Final):
                if settings.detection is not None:
                    end = round(1000 * (self._offset + event.end))
                    await self._send("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=item)
                    self._buffered = 0.0
                await self._committed(item)
                await self._completed(item, event.text, event.end - event.start)

    async def _delta(self, event: Committed, item: str) -> None:
        spaced = event.language not in WRITTEN_WITHOUT_SPACES
        text = (" " if spaced else "").join(word.text for word in event.words)
        if spaced and self._said.get(event.utterance):
            text = " " + text
        self._said[event.utterance] = True
        kind = "conversation.item.input_audio_transcription.delta"
        await self._send(kind, item_id=item, content_index=0, delta=text)

    async def _committed(self, item: str) -> None:
        await self._send("input_audio_buffer.committed", item_id=item, previous_item_id=self._previous)
        self._previous = item

    async def _completed(self, item: str, text: str, seconds: float) -> None:
        await self._send(
            "conversation.item.input_audio_transcription.completed",
            item_id=item,
            content_index=0,
            transcript=text,
            usage={"type": "duration", "seconds": round(seconds, 3)},
        )

    def _item(self, utterance: int) -> str:
        return self._items.setdefault(utterance, f"item_{uuid.uuid4().hex}")

    def _described(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "id": self._id,
            "object": "realtime.session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": settings.coding, "rate": settings.rate},
                    "transcription": settings.transcription or {"model": MODEL_ID},
                    "turn_detection": settings.detection,
                }
            },
        }


def _event(message: str | bytes) -> dict[str, Any]:
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        raise ProtocolError("the message is not JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ProtocolError("the message is no object with a type")
    return event


def _updated(settings: _Settings, session: object, engine: Engine) -> _Settings:
    """The settings after a `session.update`, of either version of the protocol.

    Raises:
        ProtocolError: for one that cannot be followed.
    """
    if not isinstance(session, dict):
        raise ProtocolError("session is no object")
    found = {**session, **_object(_object(session, "audio"), "input")}
    coding = found.get("format", found.get("input_audio_format", settings.coding))
    rate = coding.get("rate") if isinstance(coding, dict) else None
    name = coding.get("type") if isinstance(coding, dict) else coding
    if not isinstance(name, str) or name not in FORMATS:
        raise ProtocolError(f"the format is to be one of {', '.join(FORMATS)}")
    own = FORMATS[name][1]
    if rate is not None and (not isinstance(rate, int) or not 8_000 <= rate <= 192_000):
        raise ProtocolError("the format's rate is to lie between 8000 and 192000")
    settings = replace(settings, coding=name, rate=rate or (settings.rate if name == settings.coding else own))
    detection = found.get("turn_detection", settings.detection)
    if detection is not None and (not isinstance(detection, dict) or detection.get("type") != "server_vad"):
        raise ProtocolError("turn_detection is to be null or of type server_vad")
    silence = 0 if detection is None else detection.get("silence_duration_ms", 0)
    if isinstance(silence, bool) or not isinstance(silence, int | float):
        raise ProtocolError("silence_duration_ms is to be a number")
    settings = replace(settings, detection=detection)
    asked = found.get("transcription", found.get("input_audio_transcription"))
    if asked is None:
        return settings
    if not isinstance(asked, dict):
        raise ProtocolError("transcription is no object")
    language, prompt = asked.get("language") or "", asked.get("prompt") or ""
    if not isinstance(language, str) or not isinstance(prompt, str):
        raise ProtocolError("language and prompt are to be texts")
    try:
        options = engine.checked(with_language(engine.options, language))
        options = with_prompt(options, prompt, engine.checked)
    except (Refused, ConfigError) as error:
        raise ProtocolError(error.detail if isinstance(error, Refused) else str(error)) from None
    return replace(settings, options=options, transcription=asked)


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name, {})
    if not isinstance(found, dict):
        raise ProtocolError(f"{name} is no object")
    return found
