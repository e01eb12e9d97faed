"""The memory that bodies of calls stand in while these are served: one budget for all of them together."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from .answers import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Memory:
    """``left`` of the bytes that all bodies together may have."""

    def __init__(self, most: int) -> None:
        self.left = most


#: What an application's calls share, and how much of it one of them has.
MEMORY: web.AppKey[Memory] = web.AppKey("memory", Memory)
_HELD: web.RequestKey[int] = web.RequestKey("held")


def hold(request: web.Request, count: int) -> None:
    """So many bytes more are kept until the call ends. Raises Refusal 503 when there is no room for them."""
    memory = request.app[MEMORY]
    if count > memory.left:
        message = "The service has as many bodies in its memory as it can; try again later."
        raise Refusal(503, message, headers={"Retry-After": "1"})
    memory.left -= count
    request[_HELD] = request.get(_HELD, 0) + count


@contextmanager
def letting_go(request: web.Request) -> Iterator[None]:
    """Behind it, the call holds nothing."""
    try:
        yield
    finally:
        request.app[MEMORY].left += request.pop(_HELD, 0)
