"""Pending webhook deliveries: their rows in the store, and the operations on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from ..._rules.retry import backoff
from .registry import drop_waiting, find_webhook

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..store import Store
    from ..transactions import Transaction

#: Seconds before the second attempt, at most between two attempts, and until a delivery is given up.
FLOOR, CEILING = 1.0, 3600.0
GIVE_UP_AFTER = 24 * 3600.0


class Delivery(Struct, frozen=True, kw_only=True):
    """One event for one address; without ``webhook``, a job named the address."""

    id: str
    webhook: str | None
    uri: str
    body: bytes
    created: float
    failures: int


class Deliveries:
    """Operations on deliveries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def next(self, busy: Collection[str]) -> Delivery | None:
        """The longest overdue delivery to an address that is not in ``busy``."""
        return await self._store.transact_when_possible(lambda tx: _next(tx, busy))

    async def next_delay(self, busy: Collection[str]) -> float | None:
        """Seconds until the next delivery is due; None without one."""
        return await self._store.transact_when_possible(lambda tx: _next_delay(tx, busy))

    async def secrets(self, delivery: Delivery) -> list[str]:
        """The secrets of its webhook, newest first; none without a webhook."""
        return await self._store.transact_when_possible(lambda tx: _secrets(tx, delivery))

    async def delivered(self, delivery: Delivery) -> None:
        await self._store.transact_when_possible(lambda tx: _end(tx, delivery, "webhook_delivered"))

    async def failed(self, delivery: Delivery, jitter: float) -> None:
        """Schedules the next attempt; gives up after a day, which disables the webhook."""
        await self._store.transact_when_possible(lambda tx: _failed(tx, delivery, jitter))


_NEXT = """
    SELECT * FROM delivery WHERE due <= ? AND uri NOT IN (SELECT value FROM json_each(?)) ORDER BY due LIMIT 1
"""
_NEXT_DELAY = """
    SELECT due - ? AS seconds FROM delivery
    WHERE uri NOT IN (SELECT value FROM json_each(?)) ORDER BY due LIMIT 1
"""


def _next(tx: Transaction, busy: Collection[str]) -> Delivery | None:
    return tx.row(Delivery, _NEXT, tx.now, _text(busy))


def _next_delay(tx: Transaction, busy: Collection[str]) -> float | None:
    delay = tx.row(_Delay, _NEXT_DELAY, tx.now, _text(busy))
    return max(0.0, delay.seconds) if delay else None


class _Delay(Struct, frozen=True):
    seconds: float


def _secrets(tx: Transaction, delivery: Delivery) -> list[str]:
    webhook = find_webhook(tx, delivery.webhook or "")
    return [known.secret for known in webhook.secrets_at(tx.now)] if webhook else []


def _failed(tx: Transaction, delivery: Delivery, jitter: float) -> None:
    due = tx.now + backoff(delivery.failures, jitter, floor=FLOOR, ceiling=CEILING)
    if due < delivery.created + GIVE_UP_AFTER:
        if tx.change("UPDATE delivery SET failures = failures + 1, due = ? WHERE id = ?", due, delivery.id):
            tx.record("webhook_failed", id=delivery.id, tries=delivery.failures + 1)
        return
    _end(tx, delivery, "webhook_given_up")
    disable = "UPDATE webhook SET state = 'disabled_due_to_failed_deliveries', updated = ? WHERE id = ?"
    if delivery.webhook:
        tx.change(disable, tx.now, delivery.webhook)
        drop_waiting(tx, delivery.webhook)


def _end(tx: Transaction, delivery: Delivery, what: str) -> None:
    if tx.change("DELETE FROM delivery WHERE id = ?", delivery.id):
        tx.record(what, id=delivery.id, tries=delivery.failures + 1)


def _text(busy: Collection[str]) -> str:
    return msgspec.json.encode(sorted(busy)).decode()
