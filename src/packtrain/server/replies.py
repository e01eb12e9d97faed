"""Responses: a value as JSON, or an error in Google's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from .._wire.gemini.errors import encode_error

if TYPE_CHECKING:
    from collections.abc import Mapping


class HttpError(Exception):
    """An error response. ``status`` is the HTTP status, ``name`` Google's status name if not the usual one for it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: object = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = replace_surrogates(message)
        self.name = name
        self.headers = headers
        self.details = details


def replace_surrogates(text: str) -> str:
    """Header text whose bytes that are not UTF-8 (lone surrogates) are replaced, so that it can be stored and sent."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json_response(value: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", headers=headers)


def error_response(error: HttpError) -> web.Response:
    return web.Response(
        status=error.status,
        body=encode_error(error.status, error.message, name=error.name, details=error.details),
        content_type="application/json",
        headers=error.headers,
    )
