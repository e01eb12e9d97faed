"""Background sender of webhook events.

One call at a time per address, so that a slow or dead receiver delays only its own events.
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

#: Addresses called concurrently.
WORKERS = 8
#: Seconds until a receiver must have responded.
TIMEOUT = 10.0
#: Seconds for which a signature is valid, and its issuer.
SIGNATURE_LIFE = 300
ISSUER = "packtrain"


class WebhookSender:
    """``run`` is a background task of the service."""

    def __init__(self, store: Store, deliveries: Deliveries, keys: SigningKeys, destinations: Destinations) -> None:
        self._store = store
        self._deliveries = deliveries
        self._keys = keys
        self._destinations = destinations
        self._claiming = anyio.Lock()
        self._busy: set[str] = set()

    async def run(self) -> None:
        """Delivers until cancelled. Deliveries left by an earlier process come first."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session, anyio.create_task_group() as tasks:
            for _ in range(WORKERS):
                tasks.start_soon(self._worker, session)

    async def _worker(self, session: aiohttp.ClientSession) -> None:
        while True:
            changed = self._store.changed  # taken before the look, so that nothing is missed in between
            delivery = await self._claim()
            if delivery is None:
                delay = await self._deliveries.next_delay(self._busy)
                with anyio.move_on_after(math.inf if delay is None else delay):
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
            await self._deliveries.delivered(delivery)
            return
        extra = {"action": "webhook_failed", "id": delivery.id}
        _log.warning(
            "event %s was not delivered, attempt %d: %s", delivery.id, delivery.failures + 1, problem, extra=extra
        )
        await self._deliveries.failed(delivery, random.random())  # noqa: S311 - spreads waits, guards nothing

    async def _send(self, session: aiohttp.ClientSession, delivery: Delivery) -> str | None:
        """The problem, or None on success. Redirects are not followed: their targets may not be allowed."""
        if not self._destinations.allow(delivery.uri):
            return "the address is not allowed any more"
        headers = await self._headers(delivery)
        try:
            async with session.post(
                delivery.uri, data=delivery.body, headers=headers, allow_redirects=False
            ) as response:
                return None if 200 <= response.status < 300 else f"the response is {response.status}"
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
            claims = {
                "iss": ISSUER,
                "aud": delivery.uri,
                "iat": now,
                "exp": now + SIGNATURE_LIFE,
                "jti": delivery.id,
                **event,
            }
            return await self._keys.sign(claims)
        secrets = await self._deliveries.secrets(delivery)
        return " ".join(sign(secret, id=delivery.id, timestamp=now, body=delivery.body) for secret in secrets)
