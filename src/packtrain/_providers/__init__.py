"""Providers: one protocol, and the services that implement it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._io.clock import Clock
    from .._options import Policy
    from .base import Provider
    from .service import Service


@asynccontextmanager
async def open_provider(
    service: Service, clock: Clock, policy: Policy, *, connections: int, sent: Callable[[int], None]
) -> AsyncIterator[Provider]:
    """The provider of a service, with so many connections to it; the one place that reads ``service.wire``.

    ``sent`` is called with the bytes of file data that leave.
    """
    from .._io.threads import load

    await load("packtrain._io.transport", f"packtrain._providers.{service.wire}")
    from .._io.transport import open_transport

    match service.wire:
        case "gemini":
            from .gemini import GeminiProvider, credentials

            keys = credentials(service)
            async with open_transport(
                service.origin, credentials=keys, connections=connections, policy=policy, proxy=service.tunnel
            ) as transport:
                yield GeminiProvider(transport, clock, policy, sent=sent)
