"""Refusals in OpenAI's form, and which clients are told so."""

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

#: The real service's own words.
_EXCEEDED = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
_GOOGLE = ("key", "pageSize", "page_size", "pageToken", "page_token")


class OpenAIError(HttpError):
    """A refusal that names the member at fault, or has a word for programs."""

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
    """The answer for a refusal, whichever room of the service it comes from."""
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
    """For a call that must not be made twice: the SDK repeats it after a 500, and with it what was done already."""
    response = openai_error_response(error)
    if response.status >= 500:
        response.headers["x-should-retry"] = "false"
    return response


def uses_bearer_key(request: web.Request) -> bool:
    """Whether the client shows its key as OpenAI's do, and has nothing of Google's."""
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    google = "x-goog-api-key" in request.headers or any(name in request.query for name in _GOOGLE)
    return scheme.lower() == "bearer" and not google


def is_openai_path(request: web.Request) -> bool:
    """For a path that nothing stands at: whether it looks like one of this wire."""
    return request.path.startswith("/v1beta/openai/") or (request.path.startswith("/v1/") and uses_bearer_key(request))


def decode(body: bytes | Raw, kind: type[T]) -> T:
    """Raises Denial 400 for a body that is not of that kind."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OpenAIError(400, f"The body cannot be used: {error}.") from error
