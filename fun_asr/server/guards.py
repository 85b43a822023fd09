"""What stands before the routes: the key, the size of a body, clients that stop sending, and the count of answers."""

from __future__ import annotations

import asyncio
import hmac
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fun_asr.server.errors import Refused, error_body
from fun_asr.server.metrics import Metrics

__all__ = ["BodyGuard", "Counted", "KeyGuard", "websocket_key"]

OPEN = frozenset({"/", "/docs", "/openapi.json", "/health", "/ready", "/page.js", "/page.css", "/worklet.js"})
"""What a browser opens without a key: pages that hold nothing of anybody's, and the questions of a load balancer."""
KEY_PROTOCOL = "openai-insecure-api-key."


class Counted:
    """Counts answers by route.

    Arguments:
        app: the rest.
        metrics: that count them.
        routes: paths that are counted by name.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app, self._metrics, self._routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 499  # as nginx counts clients that go before they are answered

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.answered(route, status, time.perf_counter() - began)


class KeyGuard:
    """Lets those with the key in, and pages of the server's own address.

    Arguments:
        app: the rest.
        key: what clients send as `Authorization: Bearer KEY`; None asks for none.
    """

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] in OPEN or self._knows(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # A browser sends a page's WebSockets wherever it says, and its user's network with them.
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
            if foreign or not self._knows(scope):
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
            else:
                await self._app(scope, receive, send)
        elif scope["type"] == "http":
            body = error_body(401, "a wrong API key, or none: send Authorization: Bearer KEY", code="invalid_api_key")
            await JSONResponse(body, 401, {"www-authenticate": "Bearer"})(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        if self._key is None:
            return True
        authorization = Headers(scope=scope).get("authorization", "")
        # Starlette reads the bytes of headers as Latin-1, whatever they are.
        sent = authorization[7:].encode("latin-1") if authorization[:7].lower() == "bearer " else b""
        if scope["type"] == "websocket" and not sent:
            sent = websocket_key(scope).encode(errors="replace")
        return hmac.compare_digest(sent, self._key)


def websocket_key(scope: Scope) -> str:
    """The key of a WebSocket of a browser, which cannot send headers: among its protocols, or in its address."""
    protocols: list[str] = scope.get("subprotocols", [])
    named = next((name for name in protocols if name.startswith(KEY_PROTOCOL)), "")
    return named.removeprefix(KEY_PROTOCOL) or QueryParams(scope["query_string"]).get("api_key", "")


class BodyGuard:
    """Ends what is too long or too slow, before it is read whole.

    Arguments:
        app: the rest.
        most: bytes of a body.
        idle: seconds that its next piece may take.
    """

    def __init__(self, app: ASGIApp, most: int, idle: float) -> None:
        self._app, self._most, self._idle = app, most, idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_long = f"the body is longer than {self._most} bytes"
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._most:
            await JSONResponse(error_body(413, too_long), 413, {"connection": "close"})(scope, receive, send)
            return
        count, whole = 0, False

        async def guarded() -> Message:
            nonlocal count, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._idle)
            except TimeoutError:
                raise Refused(408, "the body did not come", headers={"connection": "close"}) from None
            if message["type"] == "http.request":
                count += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if count > self._most:
                    raise Refused(413, too_long, headers={"connection": "close"})
            return message

        await self._app(scope, guarded, send)
