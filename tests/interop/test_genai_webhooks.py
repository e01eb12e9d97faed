"""Webhooks through the published google-genai package, unmodified."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest
from google.genai import types

from .genai_calls import MODEL, client, inline_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*experimental"),
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]


class Listener(HTTPServer):
    """Keeps the bodies posted to it."""

    def __init__(self) -> None:
        self.events: Queue[Any] = Queue()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}/hook"

    def next(self) -> Any:
        return self.events.get(timeout=100)


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.events.put((self.headers["webhook-signature"], json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_job_with_a_webhook_of_its_own(origin: str, listener: Listener) -> None:
    """The event names the job."""
    with client(origin) as sdk:
        webhook = types.WebhookConfig(uris=[listener.uri], user_metadata={"group": "night"})
        config = types.CreateBatchJobConfig(webhook_config=webhook)
        job = sdk.batches.create(model=MODEL, src=inline_requests(), config=config)
        signature, event = listener.next()
        assert signature.count(".") == 2
        assert (event["type"], event["user_metadata"]) == ("batch.succeeded", {"group": "night"})
        assert event["data"]["id"] == job.name
        assert sdk.batches.get(name=event["data"]["id"]).done


def test_registered_webhooks(origin: str, listener: Listener) -> None:
    """Create, get, list, update, ping, rotate, delete."""
    with client(origin) as sdk:
        made = sdk.webhooks.create(name="mine", subscribed_events=["batch.succeeded"], uri=listener.uri)
        assert made.id
        assert made.new_signing_secret
        got = sdk.webhooks.get(id=made.id)
        assert (got.name, got.uri, got.state, got.new_signing_secret) == ("mine", listener.uri, "enabled", None)
        assert [webhook.id for webhook in sdk.webhooks.list(page_size=5).webhooks or []] == [made.id]
        changed = sdk.webhooks.update(id=made.id, subscribed_events=["batch.succeeded", "batch.failed"])
        assert changed.subscribed_events == ["batch.succeeded", "batch.failed"]
        sdk.webhooks.ping(id=made.id)
        signature, event = listener.next()
        assert signature.startswith("v1,")
        assert event["type"] == "ping"
        rotated = sdk.webhooks.rotate_signing_secret(
            id=made.id, revocation_behavior="revoke_previous_secrets_immediately"
        )
        assert rotated.secret
        assert rotated.secret != made.new_signing_secret
        sdk.webhooks.delete(id=made.id)
        assert not sdk.webhooks.list().webhooks


async def test_registered_webhooks_async(origin: str, listener: Listener) -> None:
    """The calls of the asynchronous client."""
    sdk = client(origin)
    async with sdk.aio as aio:
        made = await aio.webhooks.create(subscribed_events=["batch.succeeded"], uri=listener.uri)
        assert made.id
        job = await aio.batches.create(model=MODEL, src=inline_requests())
        assert listener.next()[1]["data"]["id"] == job.name
        await aio.webhooks.delete(id=made.id)
