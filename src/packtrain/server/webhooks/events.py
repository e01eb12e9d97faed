"""What is told: an event for each end of a job, put up for delivery in the transaction that ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, Struct

from ..._model import JobState
from ..._wire.gemini.errors import GRPC_INTERNAL
from ..._wire.gemini.files import encode_time
from ..._wire.gemini.webhooks import Event, EventData
from ..files import make_id

if TYPE_CHECKING:
    from ..jobs import StoredJob
    from ..transactions import Transaction

#: What a ping sends. The real service's word for it is not known.
PING = "ping"


class JobWebhooks(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a job's maker asks for. With ``uris``, the registered webhooks do not hear of it."""

    uris: list[str] = []
    user_metadata: Raw = Raw()


class Target(Struct, frozen=True):
    """A registered webhook, or without ``webhook`` an address that a job named."""

    uri: str
    webhook: str | None = None


def queue_job_events(tx: Transaction, job: StoredJob) -> None:
    """Tells all who want to hear it that the job has ended."""
    wish = msgspec.json.decode(job.webhooks, type=JobWebhooks) if job.webhooks else JobWebhooks()
    event = _event(tx, job, wish.user_metadata)
    targets = [Target(uri) for uri in wish.uris] or _subscribers(tx, event.type)
    for target in targets:
        post(tx, target, event)


def ping(tx: Transaction, webhook: str, uri: str) -> None:
    event = Event(type=PING, version="v1", timestamp=encode_time(tx.now), data=EventData(id=webhook))
    post(tx, Target(uri, webhook), event)


def post(tx: Transaction, target: Target, event: Event) -> None:
    """Puts the event up. However often it is sent, its id stays the same."""
    delivery = f"msg_{make_id(27)}"
    tx.change(
        "INSERT INTO delivery (id, webhook, uri, body, created, due) VALUES (?, ?, ?, ?, ?, ?)",
        delivery,
        target.webhook,
        target.uri,
        msgspec.json.encode(event),
        tx.now,
        tx.now,
    )
    tx.record("webhook_posted", id=delivery, webhook=target.webhook, event=event.type, name=event.data.id)
    tx.notifies = True


def _event(tx: Transaction, job: StoredJob, metadata: Raw) -> Event:
    succeeded, failed = job.state is JobState.SUCCEEDED, job.state is JobState.FAILED
    return Event(
        type=f"batch.{job.state.value}",
        version="v1",
        timestamp=encode_time(tx.now),
        data=EventData(
            id=job.name,
            output_file_uri=job.result if succeeded and job.result and not job.inline else "",
            error_code=GRPC_INTERNAL if failed else 0,
            error_message=job.reason if failed else "",
        ),
        user_metadata=metadata or UNSET,
    )


def _subscribers(tx: Transaction, event: str) -> list[Target]:
    subscribed = (
        "SELECT uri, id AS webhook FROM webhook WHERE state = 'enabled' AND ? IN (SELECT value FROM json_each(events))"
    )
    return tx.rows(Target, subscribed, event)
