"""The proxy: from ``--proxy``, or from the environment, which the library never reads."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from msgspec.structs import replace

from packtrain import InputError, Local, Secret, Service

from .console import say
from .exits import UsageError

#: In place of an address: none, whatever the environment says.
DIRECT = "none"


def through(service: Service | Local, proxy: str | None, *, quiet: bool) -> Service | Local:
    """The service, reached through the proxy that is given or that the environment names for it; says so, if it is.

    Raises UsageError for an address that can be none.
    """
    if isinstance(service, Local) or proxy == DIRECT:
        return service
    address, where = (proxy, "--proxy") if proxy else _of_environment(service.origin)
    if not address:
        return service
    try:
        found = replace(service, proxy=Secret(address if "://" in address else f"http://{address}"))
    except InputError as error:
        raise UsageError(f"{where}: {error}") from error
    if found.tunnel is not None and not quiet:
        place = urlsplit(found.tunnel.reveal()).netloc.rpartition("@")[2]
        say(f"packtrain: {urlsplit(service.origin).netloc} is reached through the proxy {place} ({where})")
    return found


def _of_environment(origin: str) -> tuple[str, str]:
    """The proxy for https and the name of its variable; lower case comes first, and NO_PROXY may exempt the host."""
    name = "https_proxy" if os.environ.get("https_proxy") else "HTTPS_PROXY"
    address = os.environ.get(name, "")
    if address:
        from urllib.request import proxy_bypass  # which reads no_proxy and NO_PROXY

        if proxy_bypass(urlsplit(origin).netloc):
            return "", name
    return address, name
