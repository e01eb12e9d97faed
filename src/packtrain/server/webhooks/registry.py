"""Registered webhooks: their rows in the store, and the operations on them."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from ..._wire.gemini.webhooks import SECRET, WebhookState
from ..files import make_id
from .events import queue_ping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..paging import Window
    from ..store import Store
    from ..transactions import Transaction

#: Seconds for which an old secret stays valid after a rotation.
GRACE = 24 * 3600.0
SECRET_BYTES = 32


class StoredSecret(Struct, frozen=True):
    """``expires`` is None for the newest."""

    secret: str
    expires: float | None = None


class StoredWebhook(Struct, frozen=True, kw_only=True):
    """``events`` and ``secrets`` are JSON."""

    seq: int
    id: str
    name: str
    uri: str
    events: str
    state: WebhookState
    secrets: str
    created: float
    updated: float

    @property
    def subscribed(self) -> list[str]:
        return msgspec.json.decode(self.events, type=list[str])

    def secrets_at(self, now: float) -> list[StoredSecret]:
        """The secrets valid at ``now``, newest first."""
        secrets = msgspec.json.decode(self.secrets, type=list[StoredSecret])
        return [secret for secret in secrets if secret.expires is None or secret.expires > now]


class WebhookChanges(Struct, frozen=True, kw_only=True, rename="camel"):
    """None means unchanged."""

    name: str | None = None
    uri: str | None = None
    subscribed_events: list[str] | None = None
    state: Literal["enabled", "disabled"] | None = None


class WebhookRegistry:
    """Operations on webhooks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, *, name: str, uri: str, events: Sequence[str]) -> StoredWebhook:
        return await self._store.transact(lambda tx: _create(tx, name, uri, events))

    async def get(self, id: str) -> StoredWebhook | None:
        return await self._store.transact(lambda tx: find_webhook(tx, id))

    async def page(self, window: Window) -> list[StoredWebhook]:
        """Up to one more than the window's size."""
        newest = "SELECT * FROM webhook WHERE seq < ? ORDER BY seq DESC LIMIT ?"
        return await self._store.transact(lambda tx: tx.rows(StoredWebhook, newest, window.before, window.size + 1))

    async def update(self, id: str, changes: WebhookChanges) -> StoredWebhook | None:
        """None when there is no such webhook. Pending events go to the new address; disabling drops them."""
        return await self._store.transact(lambda tx: _update(tx, id, changes))

    async def delete(self, id: str) -> bool:
        """Deletes the webhook and its pending events; False when there is no such webhook."""
        return await self._store.transact(lambda tx: bool(tx.change("DELETE FROM webhook WHERE id = ?", id)))

    async def ping(self, id: str) -> bool:
        """Queues a ping event; False when there is no such webhook."""
        return await self._store.transact(lambda tx: _ping(tx, id))

    async def rotate(self, id: str, *, at_once: bool) -> str | None:
        """A new secret; old ones expire after a day, or ``at_once``. None when there is no such webhook."""
        return await self._store.transact(lambda tx: _rotate(tx, id, at_once=at_once))


def find_webhook(tx: Transaction, id: str) -> StoredWebhook | None:
    return tx.row(StoredWebhook, "SELECT * FROM webhook WHERE id = ?", id)


def _create(tx: Transaction, name: str, uri: str, events: Sequence[str]) -> StoredWebhook:
    id = make_id(24)
    tx.change(
        "INSERT INTO webhook (id, name, uri, events, state, secrets, created, updated)"
        " VALUES (?, ?, ?, ?, 'enabled', ?, ?, ?)",
        id,
        name,
        uri,
        _text(list(events)),
        _text([StoredSecret(_make_secret())]),
        tx.now,
        tx.now,
    )
    tx.record("webhook_created", id=id, name=name)
    webhook = find_webhook(tx, id)
    assert webhook is not None, id
    return webhook


def _update(tx: Transaction, id: str, changes: WebhookChanges) -> StoredWebhook | None:
    tx.change(
        "UPDATE webhook SET name = coalesce(?, name), uri = coalesce(?, uri), events = coalesce(?, events),"
        " state = coalesce(?, state), updated = ? WHERE id = ?",
        changes.name,
        changes.uri,
        None if changes.subscribed_events is None else _text(changes.subscribed_events),
        changes.state,
        tx.now,
        id,
    )
    tx.change("UPDATE delivery SET uri = coalesce(?, uri) WHERE webhook = ?", changes.uri, id)
    if changes.state == "disabled":
        drop_waiting(tx, id)
    return find_webhook(tx, id)


class _Waiting(Struct, frozen=True):
    id: str
    failures: int


def drop_waiting(tx: Transaction, webhook: str) -> None:
    """Drops the pending events of the webhook."""
    waiting = tx.rows(_Waiting, "SELECT id, failures FROM delivery WHERE webhook = ?", webhook)
    tx.change("DELETE FROM delivery WHERE webhook = ?", webhook)
    for delivery in waiting:
        tx.record("webhook_given_up", id=delivery.id, tries=delivery.failures)


def _ping(tx: Transaction, id: str) -> bool:
    webhook = find_webhook(tx, id)
    if webhook:
        queue_ping(tx, webhook.id, webhook.uri)
    return webhook is not None


def _rotate(tx: Transaction, id: str, *, at_once: bool) -> str | None:
    webhook = find_webhook(tx, id)
    if webhook is None:
        return None
    new = _make_secret()
    old = [] if at_once else [_expiring(secret, tx.now + GRACE) for secret in webhook.secrets_at(tx.now)]
    stored = _text([StoredSecret(new), *old])
    tx.change("UPDATE webhook SET secrets = ?, updated = ? WHERE id = ?", stored, tx.now, id)
    return new


def _expiring(secret: StoredSecret, end: float) -> StoredSecret:
    return secret if secret.expires is not None else StoredSecret(secret.secret, end)


def _make_secret() -> str:
    return SECRET + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
