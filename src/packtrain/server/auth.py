"""Authentication: API key, Host and Origin checks, and the rule for listen addresses."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from .._errors import InputError
from .._providers.service import is_loopback
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from .._model import Secret

MIN_KEY_BYTES = 32
#: Host and Origin values accepted on loopback. Other names may be DNS rebinding by a web page.
_LOOPBACK = re.compile(r"(?:https?://)?(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


def check_listen_address(host: str, key: Secret | None) -> None:
    """Raises InputError for an address that other machines can reach, unless there is a long enough key."""
    if not is_loopback(host) and (key is None or len(key.reveal().encode()) < MIN_KEY_BYTES):
        raise InputError(
            f"listening on {host} lets other machines connect: give a key of at least {MIN_KEY_BYTES} bytes, "
            "or listen on 127.0.0.1"
        )


class AuthError(HttpError):
    """The API key is missing or wrong."""


class Authenticator:
    """Checks API keys by SHA-256 in constant time, so that timing does not reveal the length either.

    A ``local`` service (one that listens on loopback) also refuses web pages of other sites: DNS rebinding by the
    Host header, cross-site calls by the Origin header. Elsewhere the names of the service are unknown, and the key,
    which no web page has, is the only check.
    """

    def __init__(self, key: Secret | None, *, local: bool) -> None:
        self._digest = _digest(key.reveal()) if key else None
        self._local = local

    def check_origin(self, request: web.Request) -> None:
        """Raises HttpError 403 for a Host or Origin other than loopback."""
        if not self._local:
            return
        hosts, origins = request.headers.getall("Host", []), request.headers.getall("Origin", [])
        if len(hosts) != 1 or not all(_LOOPBACK.fullmatch(text) for text in (*hosts, *origins)):
            raise HttpError(403, "This service serves localhost only; the request names another host or origin.")

    def check_key(self, request: web.Request) -> None:
        """Raises HttpError as the real service does: 403 without a key, 400 with a wrong one."""
        if self._digest is None:
            return
        presented = list(_presented_keys(request))
        if not presented:
            raise AuthError(403, "A key is needed: x-goog-api-key, ?key=, or Authorization: Bearer.")
        if not any(hmac.compare_digest(_digest(text), self._digest) for text in presented):
            raise AuthError(400, "API key not valid. Please pass a valid API key.")


def _presented_keys(request: web.Request) -> Iterator[str]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    return filter(None, (request.headers.get("x-goog-api-key"), request.query.get("key"), bearer))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
