"""The server's routes, and what stands before them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from fun_asr.server import rest
from fun_asr.server.engine import Engine
from fun_asr.server.errors import on_crash, on_refusal
from fun_asr.server.funasr import funasr
from fun_asr.server.guards import BodyGuard, Counted, KeyGuard
from fun_asr.server.pages import page_routes
from fun_asr.server.realtime import realtime

__all__ = ["make_app"]


async def health(request: Request) -> Response:
    """GET /health: the process answers."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """GET /ready: whether new requests are welcome."""
    engine: Engine = request.app.state.engine
    full = engine.requests >= engine.limits.requests
    status = "draining" if engine.draining else "full" if full else "ready"
    return JSONResponse({"status": status}, 200 if status == "ready" else 503)


async def metrics(request: Request) -> Response:
    """GET /metrics, for Prometheus."""
    engine: Engine = request.app.state.engine
    text = engine.metrics.render(engine.gauges())
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def make_app(engine: Engine, key: str | None = None) -> Starlette:
    """The server as an ASGI application, which closes the engine when it is shut down.

    Arguments:
        engine: that does the work.
        key: what clients have to send; None lets everybody in.
    """
    routes = [
        Route("/v1/audio/transcriptions", rest.transcriptions, methods=["POST"]),
        Route("/v1/audio/translations", rest.translations, methods=["POST"]),
        Route("/v1/models", rest.models),
        Route("/v1/models/{name}", rest.model),
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics),
        *page_routes(),
    ]

    sockets = [WebSocketRoute("/v1/realtime", realtime), WebSocketRoute("/", funasr)]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        engine.close()

    app = Starlette(
        routes=[*routes, *sockets],
        middleware=[
            Middleware(Counted, metrics=engine.metrics, routes=frozenset(route.path for route in routes)),
            Middleware(KeyGuard, key=key),
            Middleware(BodyGuard, most=engine.limits.upload, idle=engine.limits.idle),
        ],
        exception_handlers={HTTPException: on_refusal, Exception: on_crash},
        lifespan=lifespan,
    )
    app.state.engine = engine
    return app
