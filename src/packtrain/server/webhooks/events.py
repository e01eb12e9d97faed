"""Events: one for each finished job, queued for delivery in the transaction that ends the job."""

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

#: Event type of a ping. The real service's is unknown.
PING = "ping"


class JobWebhooks(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Webhook configuration of a job. With ``uris``, registered webhooks get no event."""

    uris: list[str] = []
    user_metadata: Raw = Raw()


class Target(Struct, frozen=True):
    """The address of a registered webhook, or, without ``webhook``, one that a job named."""

    uri: str
    webhook: str | None = None


def queue_job_events(tx: Transaction, job: StoredJob) -> None:
    """Queues the event of a finished job for the addresses it named, or for all subscribers."""
    config = msgspec.json.decode(job.webhooks, type=JobWebhooks) if job.webhooks else JobWebhooks()
    event = _event(tx, job, config.user_metadata)
    targets = [Target(uri) for uri in config.uris] or _subscribers(tx, event.type)
    for target in targets:
        queue_event(tx, target, event)


def queue_ping(tx: Transaction, webhook: str, uri: str) -> None:
    event = Event(type=PING, version="v1", timestamp=encode_time(tx.now), data=EventData(id=webhook))
    queue_event(tx, Target(uri, webhook), event)


def queue_event(tx: Transaction, target: Target, event: Event) -> None:
    """Queues one event. Its id stays the same over all attempts."""
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
