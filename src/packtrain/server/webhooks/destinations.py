"""Allowed destinations of events. Clients name addresses, and must not use the service to reach other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._errors import InputError
from ..._providers.service import is_loopback
from ..replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_URI = 2048
_PORTS = {"http": 80, "https": 443}


class Destinations:
    """The origins that the operator allows; without any, loopback addresses if ``loopback``."""

    def __init__(self, origins: Iterable[str] = (), *, loopback: bool = True) -> None:
        """Raises InputError for a malformed origin; one is ``https://host:8443``."""
        self._origins = frozenset(map(_origin, origins))
        self._loopback = loopback and not self._origins

    def allow(self, uri: str) -> bool:
        try:
            scheme, host, port = _split(uri)
        except ValueError:
            return False
        return (scheme, host, port) in self._origins or (self._loopback and is_loopback(host))

    def check(self, uri: str) -> None:
        """Raises HttpError 400 for an address that is not allowed."""
        if not self.allow(uri):
            raise HttpError(
                400, f"{uri[:200]} is not an allowed destination of events; allow origins with --webhooks-to."
            )


def _origin(text: str) -> tuple[str, str, int]:
    try:
        origin = _split(text)
    except ValueError as error:
        raise InputError(f"webhooks to {text!r}: {error}; give an origin, as in https://host:8443") from error
    if text.rstrip("/").count("/") != 2 or urlsplit(text).query:
        raise InputError(f"webhooks to {text!r}: give scheme, host and port alone, as in https://host:8443")
    return origin


def _split(uri: str) -> tuple[str, str, int]:
    """Scheme, host, port. Raises ValueError for a malformed URL, and for one with a user name or a fragment."""
    if len(uri) > MAX_URI or not uri.isascii() or not uri.isprintable() or " " in uri or "\\" in uri:
        raise ValueError("not a URL")
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError("not an http or https URL without user name and fragment")
    return parts.scheme, parts.hostname, parts.port if parts.port is not None else _PORTS[parts.scheme]


#: Loopback addresses only.
LOOPBACK = Destinations()
