"""The table of routes. It is matched against the raw path, so that ``batches%2Fx`` and ``batches/x`` are one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web
from msgspec import Struct

from .replies import HttpError, error_response

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The groups of the pattern follow the request.
Handler = Callable[..., Awaitable[web.StreamResponse]]


class Route(Struct, frozen=True, kw_only=True):
    #: For people, logs and plans of faults.
    name: str
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    #: A member of the query that must be there.
    query: str | None = None
    #: Authorised by something else than the key.
    keyless: bool = False
    #: Its body is a file's bytes, and may take as long as it keeps coming.
    bulk: bool = False
    #: Nothing comes of it but the answer: it ends when its client has left.
    interactive: bool = False
    #: Which requests are its own, where two wires have the same path.
    accepts: Callable[[web.Request], bool] | None = None
    #: The form of its refusals.
    error_response: Callable[[HttpError], web.Response] = error_response


class Match(Struct, frozen=True):
    route: Route
    groups: tuple[str, ...]


def find(routes: Sequence[Route], request: web.Request) -> Match:
    """Raises Refusal 404."""
    path = unquote(request.raw_path.partition("?")[0])
    for route in routes:
        found = route.method == request.method and route.pattern.fullmatch(path)
        if found and _is_meant(route, request):
            return Match(route, found.groups())
    raise HttpError(404, f"There is nothing at {request.method} {path[:200]}.")


def _is_meant(route: Route, request: web.Request) -> bool:
    asked = route.query is None or route.query in request.query
    return asked and (route.accepts is None or route.accepts(request))
