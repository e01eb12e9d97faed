"""What is still to be told: the store's side of it."""

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

#: Seconds: before the second try and at most between two, and for how long it is tried at all.
FLOOR, CEILING = 1.0, 3600.0
GIVE_UP_AFTER = 24 * 3600.0


class Delivery(Struct, frozen=True, kw_only=True):
    """One event for one address."""

    id: str
    webhook: str | None
    uri: str
    body: bytes
    created: float
    failures: int


class Deliveries:
    """The verbs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def next(self, busy: Collection[str]) -> Delivery | None:
        """The one that is due longest, to an address that is not among ``busy``."""
        return await self._store.transact_when_possible(lambda tx: _next(tx, busy))

    async def pause(self, busy: Collection[str]) -> float | None:
        """Seconds until another one is due; None when there is none."""
        return await self._store.transact_when_possible(lambda tx: _pause(tx, busy))

    async def secrets(self, delivery: Delivery) -> list[str]:
        """Those of its webhook, the newest first; none for a delivery that a job asked for."""
        return await self._store.transact_when_possible(lambda tx: _secrets(tx, delivery))

    async def arrived(self, delivery: Delivery) -> None:
        await self._store.transact_when_possible(lambda tx: _end(tx, delivery, "webhook_delivered"))

    async def failed(self, delivery: Delivery, jitter: float) -> None:
        """It is tried again later; a webhook whose events cannot be delivered for a day gets no more."""
        await self._store.transact_when_possible(lambda tx: _failed(tx, delivery, jitter))


_NEXT = """
    SELECT * FROM delivery WHERE due <= ? AND uri NOT IN (SELECT value FROM json_each(?)) ORDER BY due LIMIT 1
"""
_PAUSE = """
    SELECT due - ? AS seconds FROM delivery
    WHERE uri NOT IN (SELECT value FROM json_each(?)) ORDER BY due LIMIT 1
"""


def _next(tx: Transaction, busy: Collection[str]) -> Delivery | None:
    return tx.row(Delivery, _NEXT, tx.now, _text(busy))


def _pause(tx: Transaction, busy: Collection[str]) -> float | None:
    found = tx.row(_Pause, _PAUSE, tx.now, _text(busy))
    return max(0.0, found.seconds) if found else None


class _Pause(Struct, frozen=True):
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
