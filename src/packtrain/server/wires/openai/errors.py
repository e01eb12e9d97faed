"""Errors in OpenAI's format, and detection of OpenAI clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import web

from ...._wire.openai.errors import QUOTA, encode_error
from ...auth import AuthError
from ...quotas import QuotaError
from ...replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgspec import Raw

T = TypeVar("T")

#: The real service's text.
_EXCEEDED = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
_GOOGLE = ("key", "pageSize", "page_size", "pageToken", "page_token")


class OpenAIError(HttpError):
    """An error with the name of the wrong parameter, or with an error code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers=headers)
        self.param = param
        self.code = code


def openai_error_response(error: HttpError) -> web.Response:
    """Encodes any HttpError in OpenAI's format."""
    status, message, param, code = error.status, error.message, None, None
    if isinstance(error, AuthError):
        status, code = 401, "invalid_api_key"
    if isinstance(error, QuotaError):
        message, code = _EXCEEDED, QUOTA
    if isinstance(error, OpenAIError):
        param, code = error.param, error.code
    return web.Response(
        status=status,
        body=encode_error(status, message, param=param, code=code),
        content_type="application/json",
        headers=error.headers,
    )


def openai_error_response_no_retry(error: HttpError) -> web.Response:
    """Errors of a call that must not be repeated: the SDK would retry it after a 5xx."""
    response = openai_error_response(error)
    if response.status >= 500:
        response.headers["x-should-retry"] = "false"
    return response


def uses_bearer_key(request: web.Request) -> bool:
    """Whether the request has a Bearer key and no Google header or parameter."""
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    google = "x-goog-api-key" in request.headers or any(name in request.query for name in _GOOGLE)
    return scheme.lower() == "bearer" and not google


def is_openai_path(request: web.Request) -> bool:
    """Whether a request without a route looks like one of this wire."""
    return request.path.startswith("/v1beta/openai/") or (request.path.startswith("/v1/") and uses_bearer_key(request))


def decode(body: bytes | Raw, kind: type[T]) -> T:
    """Decodes a JSON body. Raises OpenAIError 400."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OpenAIError(400, f"Invalid body: {error}.") from error
