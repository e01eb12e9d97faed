"""What one client may take of the service: every limit in one place. Times in seconds, sizes in bytes."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from .._options import KB, MIB


class Limits(Struct, frozen=True, kw_only=True):
    #: From the first byte of a request, or the opening of its connection, to the end of its headers. The
    #: rest of a body that was refused may take as long.
    header_time: float = 10.0
    #: Without one byte of a body that is to come, or without one byte of an answer being taken.
    idle_time: float = 15.0
    #: Bytes a second, over every stretch of ``idle_time`` in which it is the client that is waited for.
    rate: float = 1 * KB
    #: From the headers to the end of the body. The bytes of files may take longer, as long as they keep the rate.
    body_time: float = 600.0
    #: Between two requests of a connection.
    keep_alive: float = 30.0
    #: The request line, one header, and how many headers.
    line_bytes: int = 8190
    header_bytes: int = 8190
    headers: int = 100
    #: A JSON body. Calls with inline requests, and files, have their own limits.
    body_bytes: int = 1 * MIB
    #: Of all calls together whose bodies are kept in memory: interactive ones, and those with inline requests.
    all_bodies: int = 256 * MIB
    #: Connections at a time: each may hold two descriptors, of which a process often has 1024.
    connections: int = 400


LIMITS = Limits()
#: Those that an application holds its clients to.
APPLIED: web.AppKey[Limits] = web.AppKey("limits", Limits)
