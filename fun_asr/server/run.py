"""The server as a process: listens, and ends without breaking off what is under way."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from fun_asr.server.app import make_app
from fun_asr.server.engine import Engine

__all__ = ["serve"]

BACKLOG = 2048  # connections that wait to be accepted
MOST_MESSAGE = 16 << 20  # bytes of a WebSocket's message: 15 MiB of sound is OpenAI's most


class _Server(uvicorn.Server):
    """Refuses new work from the first signal on, and ends as a program that has done what it was asked to."""

    def __init__(self, config: uvicorn.Config, engine: Engine, on_start: Callable[[str, int], object]) -> None:
        super().__init__(config)
        self._engine = engine
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As `uvicorn.Server.startup`."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._on_start(host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As `uvicorn.Server.shutdown`, which breaks WebSockets off, once they have said what they heard."""
        began = time.monotonic()
        await self._engine.end_sockets()
        left = self._engine.limits.drain - (time.monotonic() - began)
        self.config.timeout_graceful_shutdown = max(1, round(left))
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets requests end, the second one does not."""
        self._engine.draining = True
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def serve(
    engine: Engine, host: str, port: int, *, key: str | None = None, on_start: Callable[[str, int], object]
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first.

    Arguments:
        engine: that does the work.
        host, port: to listen at; port 0 takes a free one.
        key: what clients have to send; None lets everybody in.
        on_start: called with the address once it listens.

    Raises:
        OSError: when it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    config = uvicorn.Config(
        make_app(engine, key),
        # What uvicorn warns of is what clients send.
        log_level="error",
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=MOST_MESSAGE,
        ws_ping_interval=20.0,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=round(engine.limits.drain),
        h11_max_incomplete_event_size=64 << 10,
    )
    with listening:
        _Server(config, engine, on_start).run([listening])
