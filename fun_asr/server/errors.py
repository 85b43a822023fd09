"""Refusals, in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["Refused", "error_body", "on_crash", "on_refusal"]

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refused(HTTPException):
    """An answer that is no transcript.

    Arguments:
        status: of HTTP.
        message: what is wrong, for whoever wrote the client.
        param: the field at fault.
        headers: of the answer.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.param = param


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON of a refusal."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer with what was raised."""
    assert isinstance(error, HTTPException)
    body = error_body(error.status_code, error.detail, getattr(error, "param", None))
    return JSONResponse(body, error.status_code, error.headers)


async def on_crash(request: Request, error: Exception) -> Response:
    """Say nothing of what happened inside."""
    return JSONResponse(error_body(500, "the server failed; its log says why"), 500)
