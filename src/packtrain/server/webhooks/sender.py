"""Brings events to their receivers, beside everything else that the service does.

To one address there is one call at a time, so that a receiver that is slow or gone holds up its own events alone.
"""

from __future__ import annotations

import logging
import math
import random
import time
from typing import TYPE_CHECKING

import aiohttp
import anyio
import msgspec

from ..._wire.gemini.webhooks import sign

if TYPE_CHECKING:
    from ..store import Store
    from .deliveries import Deliveries, Delivery
    from .destinations import Destinations
    from .signing_keys import SigningKeys

_log = logging.getLogger(__name__)

#: Addresses that are called side by side.
WORKERS = 8
#: Seconds that a receiver may take for its answer.
TIMEOUT = 10.0
#: Seconds for which a signature is good, and by whom it is.
LIFE = 300
ISSUER = "packtrain"


class WebhookSender:
    """``run`` works beside the service."""

    def __init__(self, store: Store, deliveries: Deliveries, keys: SigningKeys, destinations: Destinations) -> None:
        self._store = store
        self._deliveries = deliveries
        self._keys = keys
        self._destinations = destinations
        self._claiming = anyio.Lock()
        self._busy: set[str] = set()

    async def run(self) -> None:
        """Until cancelled. What a former service left undelivered comes first."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session, anyio.create_task_group() as tasks:
            for _ in range(WORKERS):
                tasks.start_soon(self._worker, session)

    async def _worker(self, session: aiohttp.ClientSession) -> None:
        while True:
            changed = self._store.changed  # taken before the look, so that nothing is missed in between
            delivery = await self._claim()
            if delivery is None:
                pause = await self._deliveries.pause(self._busy)
                with anyio.move_on_after(math.inf if pause is None else pause):
                    await changed.wait()
                continue
            try:
                await self._deliver(session, delivery)
            finally:
                self._busy.discard(delivery.uri)

    async def _claim(self) -> Delivery | None:
        async with self._claiming:
            delivery = await self._deliveries.next(self._busy)
            if delivery:
                self._busy.add(delivery.uri)
            return delivery

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        problem = await self._send(session, delivery)
        if problem is None:
            await self._deliveries.arrived(delivery)
            return
        extra = {"action": "webhook_failed", "id": delivery.id}
        _log.warning("event %s did not arrive, try %d: %s", delivery.id, delivery.failures + 1, problem, extra=extra)
        await self._deliveries.failed(delivery, random.random())  # noqa: S311 - spreads waits, guards nothing

    async def _send(self, session: aiohttp.ClientSession, delivery: Delivery) -> str | None:
        """What went wrong, if anything did. Redirects are not followed: nobody allowed where they lead."""
        if not self._destinations.allow(delivery.uri):
            return "the operator does not allow the address any more"
        headers = await self._headers(delivery)
        try:
            async with session.post(
                delivery.uri, data=delivery.body, headers=headers, allow_redirects=False
            ) as response:
                return None if 200 <= response.status < 300 else f"the answer is {response.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    async def _headers(self, delivery: Delivery) -> dict[str, str]:
        now = int(time.time())
        return {
            "Content-Type": "application/json",
            "User-Agent": "packtrain",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(now),
            "webhook-signature": await self._signature(delivery, now),
        }

    async def _signature(self, delivery: Delivery, now: int) -> str:
        if delivery.webhook is None:
            event = msgspec.json.decode(delivery.body, type=dict[str, msgspec.Raw])
            claims = {"iss": ISSUER, "aud": delivery.uri, "iat": now, "exp": now + LIFE, "jti": delivery.id, **event}
            return await self._keys.sign(claims)
        known = await self._deliveries.secrets(delivery)
        return " ".join(sign(secret, id=delivery.id, timestamp=now, body=delivery.body) for secret in known)
