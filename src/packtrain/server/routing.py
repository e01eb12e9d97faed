"""Route table, matched against the unquoted raw path, so that ``batches%2Fx`` and ``batches/x`` are the same."""

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

#: Called with the request and the groups of the route's pattern.
Handler = Callable[..., Awaitable[web.StreamResponse]]


class Route(Struct, frozen=True, kw_only=True):
    #: Used in logs, fault plans and the OpenAPI document.
    name: str
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    #: A query parameter that must be present.
    query: str | None = None
    #: Needs no API key.
    keyless: bool = False
    #: Its body is file content: no total time limit, only a minimum rate.
    bulk: bool = False
    #: Has no effect but its response, so it is cancelled when the client disconnects.
    interactive: bool = False
    #: Decides between two wires that share a path.
    accepts: Callable[[web.Request], bool] | None = None
    #: Encodes its errors.
    error_response: Callable[[HttpError], web.Response] = error_response


class Match(Struct, frozen=True):
    route: Route
    groups: tuple[str, ...]


def find_route(routes: Sequence[Route], request: web.Request) -> Match:
    """Raises HttpError 404."""
    path = unquote(request.raw_path.partition("?")[0])
    for route in routes:
        matched = route.method == request.method and route.pattern.fullmatch(path)
        if matched and _accepts(route, request):
            return Match(route, matched.groups())
    raise HttpError(404, f"There is no route {request.method} {path[:200]}.")


def _accepts(route: Route, request: web.Request) -> bool:
    has_query = route.query is None or route.query in request.query
    return has_query and (route.accepts is None or route.accepts(request))
