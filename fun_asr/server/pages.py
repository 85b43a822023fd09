"""The page to try the server with, and the description of its interface; nothing of them comes from elsewhere."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fun_asr import __version__
from fun_asr.server.replies import RESPONSE_FORMATS

__all__ = ["page_routes"]

# A page that is shown what others say: no script but the server's own.
SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def page_routes() -> list[Route]:
    """Routes of the page and of the description."""
    served = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css", "/worklet.js": "worklet.js"}
    pages = [Route(path, _serving(name)) for path, name in served.items()]
    return [*pages, Route("/openapi.json", _openapi), Route("/docs", _docs)]


def _serving(name: str) -> Any:
    content = files("fun_asr.server").joinpath("page", name).read_bytes()

    async def serve(request: Request) -> Response:
        return Response(content, media_type=KINDS[name.rsplit(".")[-1]], headers=SAFE)

    return serve


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi())


async def _docs(request: Request) -> Response:
    """The description as a table, for people."""
    rows = [
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td><td>{html.escape(entry['summary'])}</td></tr>"
        for path, methods in openapi()["paths"].items()
        for method, entry in methods.items()
    ]
    fields = [
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(schema['description'])}</td></tr>"
        for name, schema in _FIELDS.items()
    ]
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Fun-ASR: interface</title>'
        '<link rel="stylesheet" href="page.css"><main><h1>Interface</h1>'
        f"<table>{''.join(rows)}</table><h2>Fields of a recording's form</h2><table>{''.join(fields)}</table>"
        '<p><a href="openapi.json">OpenAPI 3.1</a></p></main></html>'
    )
    return HTMLResponse(text, headers=SAFE)


_FIELDS: dict[str, dict[str, Any]] = {
    "file": {"type": "string", "format": "binary", "description": "The recording, audio or video."},
    "model": {"type": "string", "description": "Any name: the model that is loaded answers."},
    "language": {"type": "string", "description": "Code, tag or name; left out, it is detected."},
    "prompt": {
        "type": "string",
        "description": "Terms with commas between them, which become hotwords, or a text that was said before.",
    },
    "hotwords": {"type": "string", "description": "Phrases to prefer, with commas between them."},
    "response_format": {"type": "string", "enum": list(RESPONSE_FORMATS), "description": "Of the answer."},
    "timestamp_granularities[]": {
        "type": "array",
        "items": {"type": "string", "enum": ["word", "segment"]},
        "description": "What verbose_json has times of.",
    },
    "temperature": {"type": "number", "description": "Between 0 and 2; changes nothing."},
    "stream": {"type": "boolean", "description": "Answer with server-sent events, sentence by sentence."},
}


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def openapi() -> dict[str, Any]:
    """The interface as OpenAPI 3.1."""
    form = {"multipart/form-data": {"schema": {"type": "object", "properties": _FIELDS, "required": ["file"]}}}
    failures = {
        "400": "what is asked for cannot be followed, or the recording cannot be read",
        "401": "a wrong API key, or none",
        "413": "the recording is too long",
        "429": "the queue is full; Retry-After says when to come back",
        "503": "the server is stopping",
    }
    answers = {
        "200": {"description": "the transcript"},
        **{status: {"description": text} for status, text in failures.items()},
    }

    def entry(summary: str, **more: Any) -> dict[str, Any]:
        return {"summary": summary, "responses": {"200": {"description": "OK"}}, **more}

    def of_recording(summary: str) -> dict[str, Any]:
        return entry(summary, requestBody={"required": True, "content": form}, responses=answers)

    upgrade = {"101": {"description": "a WebSocket"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fun-ASR", "version": __version__},
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}, {}],
        "paths": {
            "/v1/audio/transcriptions": {"post": of_recording("Transcribe a recording")},
            "/v1/audio/translations": {"post": of_recording("Translate a recording to English, with a model that can")},
            "/v1/models": {"get": entry("The model that is loaded")},
            "/v1/models/{name}": {"get": entry("The same by its name", parameters=[_NAME])},
            "/v1/realtime": {"get": entry("WebSocket: OpenAI's realtime transcription", responses=upgrade)},
            "/": {"get": entry("The page to try it; as a WebSocket, FunASR's protocol")},
            "/health": {"get": entry("Whether the process answers")},
            "/ready": {"get": entry("Whether new requests are welcome: 200 or 503")},
            "/metrics": {"get": entry("Counters for Prometheus")},
        },
    }
