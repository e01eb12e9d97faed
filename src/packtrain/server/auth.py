"""Who may come in."""

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
#: What a service on loopback is called by those who mean it. Any page can give its own name our address.
_LOOPBACK = re.compile(r"(?:https?://)?(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


def check_listen_address(host: str, key: Secret | None) -> None:
    """Raises InputError when others could come in without a good key."""
    if not is_loopback(host) and (key is None or len(key.reveal().encode()) < MIN_KEY_BYTES):
        raise InputError(
            f"listening on {host} lets other machines in: give a key of at least {MIN_KEY_BYTES} bytes, "
            "or listen on 127.0.0.1"
        )


class AuthError(HttpError):
    """No key, or a wrong one."""


class Authenticator:
    """Compares keys by their SHA-256 in constant time, so that not even the length shows.

    Where the service listens on loopback, ``local``, it serves no page of another site: neither one whose name was
    bound to our address, nor one that sends its visitors' browsers here. Elsewhere the key, which no page has, is
    all that counts, because the names by which others reach us are not known.
    """

    def __init__(self, key: Secret | None, *, local: bool) -> None:
        self._digest = _digest(key.reveal()) if key else None
        self._local = local

    def check_origin(self, request: web.Request) -> None:
        """Raises Refusal 403."""
        if not self._local:
            return
        hosts, origins = request.headers.getall("Host", []), request.headers.getall("Origin", [])
        if len(hosts) != 1 or not all(_LOOPBACK.fullmatch(text) for text in (*hosts, *origins)):
            raise HttpError(403, "This service is for localhost alone; the request was meant for, or sent by, another.")

    def check_key(self, request: web.Request) -> None:
        """Raises Refusal as the real service does: 403 without a key, 400 with a wrong one."""
        if self._digest is None:
            return
        offered = list(_presented_keys(request))
        if not offered:
            raise AuthError(403, "A key is needed: x-goog-api-key, ?key=, or Authorization: Bearer.")
        if not any(hmac.compare_digest(_digest(text), self._digest) for text in offered):
            raise AuthError(400, "API key not valid. Please pass a valid API key.")


def _presented_keys(request: web.Request) -> Iterator[str]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    return filter(None, (request.headers.get("x-goog-api-key"), request.query.get("key"), bearer))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
