"""What the protocols of live sound share: how it is coded, and sockets whose clients may be slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.websockets import WebSocket, WebSocketDisconnect

from fun_asr.server.limits import ServerLimits

__all__ = ["ProtocolError", "SlowSocket", "alaw", "mulaw", "pcm16"]

Int16 = npt.NDArray[np.int16]


class ProtocolError(Exception):
    """A message that cannot be followed; its text is for the client."""


def pcm16(data: bytes) -> Int16:
    """16-bit little-endian samples."""
    return np.frombuffer(data, "<i2").astype(np.int16)


def mulaw(data: bytes) -> Int16:
    """G.711 mu-law."""
    return _MULAW[np.frombuffer(data, np.uint8)]


def alaw(data: bytes) -> Int16:
    """G.711 A-law."""
    return _ALAW[np.frombuffer(data, np.uint8)]


def _mulaw_table() -> Int16:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> Int16:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_MULAW, _ALAW = _mulaw_table(), _alaw_table()


def _content(message: MutableMapping[str, Any]) -> str | bytes | None:
    """What a client said; None where it has gone."""
    if message["type"] != "websocket.receive":
        return None
    text: str | None = message.get("text")
    data: bytes | None = message.get("bytes")
    return text if text is not None else data or b""


class SlowSocket:
    """A WebSocket whose client may send nothing for long, or read nothing.

    Arguments:
        socket: accepted.
        limits: how long is too long.
        stopping: done when the server ends, and no more is to be received.
    """

    def __init__(self, socket: WebSocket, limits: ServerLimits, stopping: asyncio.Future[None]) -> None:
        self._socket, self._idle = socket, limits.idle
        self.stopping = stopping
        self._kept: MutableMapping[str, Any] | None = None  # a message that came while none was awaited

    async def receive(self) -> str | bytes | None:
        """The next message; None when the client has gone, or sends nothing any more, or the server ends."""
        kept, self._kept = self._kept, None
        if kept is not None:
            return _content(kept)
        receiving = asyncio.ensure_future(self._socket.receive())
        try:
            either: set[asyncio.Future[Any]] = {receiving, self.stopping}
            await asyncio.wait(either, timeout=self._idle, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                if not self.stopping.done():
                    await self.close(1001, "nothing came")
                return None
            return _content(receiving.result())
        finally:
            receiving.cancel()

    async def gone(self) -> None:
        """Wait until the client goes, however long it says nothing. What it says first, `receive` gives."""
        message = await self._socket.receive()
        if message["type"] == "websocket.receive":
            self._kept = message
            # No more is read, so that none is lost or fills the memory.
            await asyncio.get_running_loop().create_future()

    async def send(self, message: dict[str, Any]) -> None:
        """Send JSON.

        Raises:
            WebSocketDisconnect: when the client has gone, or reads nothing.
        """
        try:
            await asyncio.wait_for(self._socket.send_json(message), self._idle)
        except (TimeoutError, RuntimeError):
            raise WebSocketDisconnect(1001) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End it, if it has not ended; a server that ends says so."""
        if code == 1000 and self.stopping.done():
            code, reason = 1001, "the server is stopping"
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            await asyncio.wait_for(self._socket.close(code, reason), min(5.0, self._idle))
