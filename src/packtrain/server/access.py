"""Who may come in."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from .._errors import InputError
from .._service import is_loopback
from .answers import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from .._model import Secret

MIN_KEY_BYTES = 32


def check_binding(host: str, key: Secret | None) -> None:
    """Raises InputError when others could come in without a good key."""
    if not is_loopback(host) and (key is None or len(key.reveal().encode()) < MIN_KEY_BYTES):
        raise InputError(
            f"listening on {host} lets other machines in: give a key of at least {MIN_KEY_BYTES} bytes, "
            "or listen on 127.0.0.1"
        )


class KeyRefusal(Refusal):
    """No key, or a wrong one."""


class Doorkeeper:
    """Compares keys by their SHA-256 in constant time, so that not even the length shows."""

    def __init__(self, key: Secret | None) -> None:
        self._digest = _digest(key.reveal()) if key else None

    def admit(self, request: web.Request) -> None:
        """Raises Refusal as the real service does: 403 without a key, 400 with a wrong one."""
        if self._digest is None:
            return
        offered = list(_offered(request))
        if not offered:
            raise KeyRefusal(403, "A key is needed: x-goog-api-key, ?key=, or Authorization: Bearer.")
        if not any(hmac.compare_digest(_digest(text), self._digest) for text in offered):
            raise KeyRefusal(400, "API key not valid. Please pass a valid API key.")


def _offered(request: web.Request) -> Iterator[str]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    return filter(None, (request.headers.get("x-goog-api-key"), request.query.get("key"), bearer))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
