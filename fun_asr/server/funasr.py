"""FunASR's own WebSocket protocol in its modes online, offline and 2pass: JSON orders, bytes of sound."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from fun_asr.audio.options import AudioOptions, RawFormat
from fun_asr.errors import AudioDecodeError, ConfigError
from fun_asr.options import TranscriptionOptions
from fun_asr.server.asked import with_hotwords, with_language
from fun_asr.server.engine import Engine, LiveSlot
from fun_asr.server.errors import Refused
from fun_asr.server.scheduler import ClientGoneError
from fun_asr.server.spoken import ProtocolError, SlowSocket, pcm16
from fun_asr.streaming.events import Committed, Final, StreamEvent
from fun_asr.streaming.live import DEFAULT_STREAM
from fun_asr.streaming.stream import Stream
from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, Segment, Word

__all__ = ["funasr"]

MODES = ("online", "offline", "2pass")
RATES = (8_000, 192_000)
IN_MEMORY = 1 << 20  # bytes of a recording before it becomes a file
MOST_WEIGHT = 10.0
MIDDLE_WEIGHT = 20.0  # FunASR's usual weight of a hotword, which is 1 here
_ENDS = ",.?!;:，。？！；：、"


async def funasr(socket: WebSocket) -> None:
    """WebSocket /, where FunASR's clients connect."""
    engine: Engine = socket.app.state.engine
    # Its clients name this protocol.
    await socket.accept("binary" if "binary" in socket.scope.get("subprotocols", []) else None)
    guarded = SlowSocket(socket, engine.limits, engine.stopping)
    try:
        with engine.socket(), ExitStack() as stack:
            await _Conversation(engine, guarded, stack).run()
    except Refused as refusal:
        await guarded.close(1013, refusal.detail)
    except ProtocolError as error:
        await guarded.close(1003, str(error)[:100])
    except (WebSocketDisconnect, ClientGoneError):
        pass
    else:
        await guarded.close()


@dataclass(frozen=True)
class _Order:
    """What a client has asked for so far."""

    options: TranscriptionOptions
    mode: str = "2pass"
    name: str = "demo"
    form: str = "pcm"
    rate: int = 16_000


class _Conversation:
    """One client, one recording or stream after the other."""

    def __init__(self, engine: Engine, socket: SlowSocket, stack: ExitStack) -> None:
        self._engine, self._socket, self._stack = engine, socket, stack
        self._order = _Order(engine.options)
        self._slot: LiveSlot | None = None
        self._stream: Stream | None = None
        self._file: BinaryIO | None = None
        self._admission: ExitStack | None = None
        self._last_end = 0.0  # of the words that were sent online
        self._begun = False

    async def run(self) -> None:
        """Until the client goes."""
        while (message := await self._socket.receive()) is not None:
            if isinstance(message, bytes):
                await self._hear(message)
                continue
            order = _read(message)
            self._order = _updated(self._order, order, self._engine)
            if order.get("is_speaking") is False:
                await self._end()
        if self._socket.stopping.done() and self._stream is not None:
            await self._end()

    async def _hear(self, data: bytes) -> None:
        if self._order.mode == "offline":
            self._keep(data)
            return
        if self._order.form != "pcm":
            data = _without_header(data)
        if len(data) % 2:
            raise ProtocolError("an odd number of bytes: 16-bit samples have two each")
        if self._slot is None:
            self._slot = self._stack.enter_context(self._engine.live())
        if self._stream is None:
            options = replace(DEFAULT_STREAM)
            self._stream = self._slot.open(self._order.options, self._order.rate, options)
            self._last_end, self._begun = 0.0, False
        # The client's next message is read when this one is heard, so that none waits here.
        await self._say(await self._slot.feed(self._stream, pcm16(data)))

    def _keep(self, data: bytes) -> None:
        if self._file is None:
            self._admission = self._stack.enter_context(ExitStack())
            self._admission.enter_context(self._engine.admitted())
            spooled = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  (closed by the stack)
            self._file = cast(BinaryIO, self._admission.enter_context(spooled))
        self._file.write(data)
        if self._file.tell() > self._engine.limits.upload:
            raise Refused(413, "the recording is too long")

    async def _end(self) -> None:
        if self._order.mode == "offline":
            await self._transcribe()
        elif self._stream is not None:
            assert self._slot is not None
            stream, self._stream = self._stream, None
            await self._say(await self._slot.finish(stream), last=True)

    async def _transcribe(self) -> None:
        order, file, admission = self._order, self._file, self._admission
        self._file = self._admission = None
        if file is None or admission is None:
            await self._send("offline", "", final=True)
            return
        with admission:
            file.seek(0)
            options = order.options
            if order.form == "pcm":
                raw = RawFormat.parse(f"s16le,{order.rate},1")
                options = replace(options, audio=replace(AudioOptions(), raw=raw))
            work = asyncio.ensure_future(self._engine.transcribe(file, options))
            gone = asyncio.ensure_future(self._socket.gone())
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise WebSocketDisconnect(1001)
                transcript = await work
            except AudioDecodeError as error:
                raise ProtocolError(f"the recording {error.cause}") from None
            finally:
                for task in (work, gone):
                    task.cancel()
                await asyncio.gather(work, gone, return_exceptions=True)
        await self._send("offline", transcript.text, transcript.segments, final=True)

    async def _say(self, events: Sequence[StreamEvent], *, last: bool = False) -> None:
        two_pass = self._order.mode == "2pass"
        online = "2pass-online" if two_pass else "online"
        finals = [event for event in events if isinstance(event, Final)]
        for event in events:
            if isinstance(event, Committed):
                await self._send(online, self._joined(event.words, event.language))
            elif isinstance(event, Final) and two_pass:
                self._begun = False
                await self._send("2pass-offline", event.text, event.segments, final=last and event is finals[-1])
            elif isinstance(event, Final):
                language = event.segments[0].language if event.segments else None
                words = [word for segment in event.segments for word in segment.words]
                rest = [word for word in words if (word.start + word.end) / 2 > self._last_end]
                await self._send(online, self._joined(rest, language), final=last and event is finals[-1])
        if last and not finals:
            # Somebody waits for the end, also of silence.
            await self._send("2pass-offline" if two_pass else online, "", final=True)

    def _joined(self, words: Sequence[Word], language: str | None) -> str:
        """Words that follow those sent before."""
        if not words:
            return ""
        self._last_end = words[-1].end
        space = "" if language in WRITTEN_WITHOUT_SPACES else " "
        text = (space if self._begun else "") + space.join(word.text for word in words)
        self._begun = True
        return text

    async def _send(self, mode: str, text: str, segments: Sequence[Segment] = (), *, final: bool = False) -> None:
        message: dict[str, Any] = {"mode": mode, "wav_name": self._order.name, "text": text, "is_final": final}
        words = [word for segment in segments for word in segment.words]
        if words:
            message["timestamp"] = json.dumps([_milliseconds(word) for word in words])
            message["stamp_sents"] = list(_sentences(segments))
        await self._socket.send(message)


def _milliseconds(word: Word) -> list[int]:
    return [round(1000 * word.start), round(1000 * word.end)]


def _sentences(segments: Sequence[Segment]) -> Iterator[dict[str, Any]]:
    for segment in segments:
        bare = segment.text.rstrip(_ENDS)
        yield {
            "text_seg": bare,
            "punc": segment.text[len(bare) :],
            "start": round(1000 * segment.start),
            "end": round(1000 * segment.end),
            "ts_list": [_milliseconds(word) for word in segment.words],
        }


def _read(message: str) -> dict[str, Any]:
    try:
        order = json.loads(message)
    except (ValueError, RecursionError):
        raise ProtocolError("the message is not JSON") from None
    if not isinstance(order, dict):
        raise ProtocolError("the message is no object")
    return order


def _updated(order: _Order, message: dict[str, Any], engine: Engine) -> _Order:
    """The order after a message, of whose fields those count that are known.

    Raises:
        ProtocolError: for one that cannot be followed.
    """
    mode, rate = message.get("mode", order.mode), message.get("audio_fs", order.rate)
    if mode not in MODES:
        raise ProtocolError(f"mode is to be {', '.join(MODES)}")
    low, high = RATES
    if isinstance(rate, bool) or not isinstance(rate, int) or not low <= rate <= high:
        raise ProtocolError(f"audio_fs is to lie between {low} and {high}")
    options = order.options
    try:
        if isinstance(language := message.get("svs_lang", message.get("language")), str):
            options = with_language(options, language)
        if isinstance(itn := message.get("itn"), bool):
            options = replace(options, itn=itn)
        if hotwords := message.get("hotwords"):
            options = with_hotwords(replace(options, hotwords=engine.options.hotwords), _phrases(hotwords))
        options = engine.checked(options)
    except (Refused, ConfigError) as error:
        raise ProtocolError(error.detail if isinstance(error, Refused) else str(error)) from None
    name, form = message.get("wav_name", order.name), message.get("wav_format", order.form)
    return _Order(options, mode, str(name)[:200], str(form)[:20].lower(), rate)


def _phrases(hotwords: object) -> list[str | tuple[str, float]]:
    """Phrases with weights around FunASR's 20, or alone with spaces between them."""
    if isinstance(hotwords, str):
        try:
            hotwords = json.loads(hotwords)
        except (ValueError, RecursionError):
            return list(str(hotwords).split())
    if not isinstance(hotwords, dict):
        raise ProtocolError("hotwords is to be an object of phrases and their weights")
    return [
        (phrase, min(MOST_WEIGHT, weight / MIDDLE_WEIGHT)) if isinstance(weight, int | float) else phrase
        for phrase, weight in hotwords.items()
    ]


def _without_header(data: bytes) -> bytes:
    """Sound of which the first piece has the header of a WAV file, as FunASR's clients send files live."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE" and (start := data.find(b"data", 12)) >= 0:
        return data[start + 8 :]
    return data
