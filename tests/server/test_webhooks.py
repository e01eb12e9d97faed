"""Webhook events: receivers, signatures, retries."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientSession

from packtrain import InputError
from packtrain.server import open_store, serving
from packtrain.server.webhooks.deliveries import GIVE_UP_AFTER, Deliveries
from packtrain.server.webhooks.destinations import Destinations
from packtrain.server.webhooks.registry import GRACE, WebhookChanges, WebhookRegistry
from packtrain.server.webhooks.signing_keys import SigningKeys

from .service_calls import Calls, child, generate_lines, truth
from .webhook_receiver import HANG, Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from msgspec import Raw

    from packtrain._model import Task
    from packtrain.server.backends.backend import Answer

SUCCEEDED = ["batch.succeeded"]
ALL = ["batch.succeeded", "batch.failed", "batch.expired", "batch.cancelled"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


async def register(calls: Calls, uri: str, events: Sequence[str] = ALL) -> Any:
    answer = await calls.call("POST", "/v1beta/webhooks", json={"uri": uri, "subscribed_events": [*events]})
    assert answer.status == 200, answer.body
    return answer.json


async def inline_job(calls: Calls, config: object = None, model: str = "m-1") -> str:
    request = {"contents": [{"parts": [{"text": "hello"}]}]}
    batch: dict[str, object] = {"inputConfig": {"requests": {"requests": [{"request": request}]}}}
    if config is not None:
        batch["webhookConfig"] = config
    answer = await calls.call("POST", f"/v1beta/models/{model}:batchGenerateContent", json={"batch": batch})
    assert answer.status == 200, answer.body
    return str(answer.json["name"])


async def file_job(calls: Calls) -> str:
    file = await calls.upload(generate_lines(2))
    return await calls.job(file["name"])


async def recorded(directory: Path, what: str, count: int) -> list[Any]:
    """The log entries of a kind, once there are ``count``."""
    with anyio.fail_after(100):
        while len(lines := truth(directory, what)) < count:
            await anyio.lowlevel.checkpoint()
    return lines


# Registered webhooks


async def test_registered_webhook_gets_the_event_of_a_job(calls: Calls, receiver: Receiver) -> None:
    """With the job's id, its result file and a signature by the secret."""
    webhook = await register(calls, f"{receiver.origin}/hook")
    job = await file_job(calls)
    operation = await calls.ended(job)
    (call,) = await receiver.until(1)
    assert call.signed_with(webhook["new_signing_secret"])
    assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 300
    assert call.headers["Content-Type"] == "application/json"
    event = call.event
    assert (event["type"], event["version"]) == ("batch.succeeded", "v1")
    assert event["timestamp"] == operation["metadata"]["endTime"]
    assert event["data"] == {"id": job, "output_file_uri": operation["response"]["responsesFile"]}


async def test_only_subscribed_events_are_sent(calls: Calls, receiver: Receiver) -> None:
    """No events without a subscription, nor to a disabled webhook."""
    failures = await register(calls, f"{receiver.origin}/failures", ["batch.failed"])
    disabled = await register(calls, f"{receiver.origin}/disabled")
    await calls.call("PATCH", f"/v1beta/webhooks/{disabled['id']}", json={"state": "disabled"})
    await register(calls, f"{receiver.origin}/hook")
    await calls.ended(await inline_job(calls))
    await receiver.until(1)
    for webhook in (failures, disabled):
        assert (await calls.call("POST", f"/v1beta/webhooks/{webhook['id']}:ping")).json == {}
    for path in ("/failures", "/disabled"):
        (call,) = await receiver.until(1, path)
        assert call.event["type"] == "ping"


class Hesitant:
    """Never answers one model, and fails jobs of another."""

    rows = None

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        if model == "models/slow":
            await anyio.sleep_forever()
        raise InputError("the backend is out of order")


async def test_failed_and_cancelled_jobs_have_their_own_events(directory: Path, receiver: Receiver) -> None:
    """A failed job has its reason; one cancelled before it ran has its own type."""
    async with serving(directory, backend=Hesitant(), workers=1) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        await register(calls, f"{receiver.origin}/hook")
        failed = await inline_job(calls)
        (first,) = await receiver.until(1)
        reason = "the backend is out of order"
        assert first.event["type"] == "batch.failed"
        assert first.event["data"] == {"id": failed, "error_code": 13, "error_message": reason}
        await inline_job(calls, model="slow")
        cancelled = await inline_job(calls)
        await calls.call("POST", f"/v1beta/{cancelled}:cancel")
        _, second = await receiver.until(2)
        assert (second.event["type"], second.event["data"]) == ("batch.cancelled", {"id": cancelled})


async def test_a_secret_is_shown_once(calls: Calls, receiver: Receiver) -> None:
    """By create; afterwards only its beginning."""
    made = await register(calls, f"{receiver.origin}/hook")
    secret = made.pop("new_signing_secret")
    assert len(secret) > 40
    got = await calls.call("GET", f"/v1beta/webhooks/{made['id']}")
    listed = await calls.call("GET", "/v1beta/webhooks")
    assert got.json == made
    assert listed.json == {"webhooks": [made]}
    (shown,) = made["signing_secrets"]
    assert secret.startswith(shown["truncated_secret"].removesuffix("..."))
    assert len(shown["truncated_secret"]) < 20


async def test_after_a_rotation_both_secrets_sign_for_a_day(directory: Path, receiver: Receiver) -> None:
    """Or only the new one, if requested."""
    async with serving(directory) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        webhook = await register(calls, f"{receiver.origin}/hook")
        path = f"/v1beta/webhooks/{webhook['id']}"
        secrets = [webhook["new_signing_secret"]]
        for behaviour in ({}, {"revocation_behavior": "REVOKE_PREVIOUS_SECRETS_IMMEDIATELY"}):
            answer = await calls.call("POST", f"{path}:rotateSigningSecret", json=behaviour)
            secrets.append(answer.json["secret"])
            await calls.call("POST", f"{path}:ping")
            await receiver.until(len(secrets) - 1)
        both, last = await receiver.until(2)
        assert [both.signed_with(secret) for secret in secrets] == [True, True, False]
        assert [last.signed_with(secret) for secret in secrets] == [False, False, True]


async def test_a_former_secret_ends_after_a_day(directory: Path) -> None:
    """Also after further rotations."""
    now = [1_000_000.0]
    async with open_store(directory, clock=lambda: now[0]) as store:
        webhooks = WebhookRegistry(store)
        webhook = await webhooks.create(name="", uri="http://localhost/", events=SUCCEEDED)
        await webhooks.rotate(webhook.id, at_once=False)
        now[0] += GRACE - 1
        await webhooks.rotate(webhook.id, at_once=False)
        found = await webhooks.get(webhook.id)
        assert found
        assert [len(found.secrets_at(now[0] + later)) for later in (0, 1, GRACE)] == [3, 2, 1]


async def test_webhooks_are_listed_in_pages(calls: Calls) -> None:
    """Newest first, each once."""
    made = [(await register(calls, f"http://localhost/{number}"))["id"] for number in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = (await calls.call("GET", f"/v1/webhooks?page_size=2&page_token={token}")).json
        seen += [webhook["id"] for webhook in page["webhooks"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert seen == made[::-1]


async def test_an_update_changes_what_its_mask_names(calls: Calls, receiver: Receiver) -> None:
    """Without a mask, all members of the body, in either spelling."""
    webhook = await register(calls, f"{receiver.origin}/hook")
    path = f"/v1beta/webhooks/{webhook['id']}"
    body = {"name": "second", "subscribedEvents": SUCCEEDED, "uri": f"{receiver.origin}/second"}
    masked = await calls.call("PATCH", f"{path}?update_mask=name,subscribed_events", json=body)
    assert (masked.json["name"], masked.json["subscribed_events"]) == ("second", SUCCEEDED)
    assert masked.json["uri"] == f"{receiver.origin}/hook"
    whole = await calls.call("PATCH", path, json=body)
    assert whole.json["uri"] == f"{receiver.origin}/second"
    for mask in ("id", "state", "nonsense"):
        assert (await calls.call("PATCH", f"{path}?updateMask={mask}", json=body)).error == (400, "INVALID_ARGUMENT")


async def test_a_deleted_webhook_is_gone(calls: Calls, receiver: Receiver) -> None:
    """With its pending events."""
    receiver.answers["/hook"] = deque([500])
    webhook = await register(calls, f"{receiver.origin}/hook")
    await register(calls, f"{receiver.origin}/other", SUCCEEDED)
    await calls.ended(await inline_job(calls))
    await receiver.until(1)
    assert (await calls.call("DELETE", f"/v1beta/webhooks/{webhook['id']}")).json == {}
    for method, verb in (
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", ""),
        ("POST", ":ping"),
        ("POST", ":rotateSigningSecret"),
    ):
        answer = await calls.call(method, f"/v1beta/webhooks/{webhook['id']}{verb}", json={})
        assert answer.error == (404, "NOT_FOUND")
    await calls.ended(await inline_job(calls))
    await receiver.until(2, "/other")
    assert len([call for call in receiver.received if call.path == "/hook"]) == 1


async def test_pending_events_follow_their_webhook(directory: Path) -> None:
    """To a new address; they are dropped on delete."""
    async with open_store(directory) as store:
        webhooks, deliveries = WebhookRegistry(store), Deliveries(store)
        webhook = await webhooks.create(name="", uri="http://localhost/old", events=SUCCEEDED)
        await webhooks.ping(webhook.id)
        await webhooks.update(webhook.id, WebhookChanges(uri="http://localhost/new"))
        waiting = await deliveries.next([])
        assert waiting
        assert waiting.uri == "http://localhost/new"
        await webhooks.delete(webhook.id)
        assert await deliveries.next([]) is None
        assert await deliveries.next_delay([]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"uri": "http://hooks.example/x", "subscribed_events": SUCCEEDED},
        {"uri": "http://127.evil.example/x", "subscribed_events": SUCCEEDED},
        {"uri": "http://localhost/x", "subscribed_events": ["batch.enlightened"]},
        {"uri": "http://localhost/x", "subscribed_events": []},
        {"uri": "http://localhost/x"},
        {"subscribed_events": SUCCEEDED},
        {"uri": 7, "subscribed_events": SUCCEEDED},
        {"uri": "http://localhost/x", "subscribed_events": SUCCEEDED, "name": "n" * 513},
    ],
)
async def test_invalid_webhook_is_refused(calls: Calls, wrong: object) -> None:
    """Nothing is created."""
    answer = await calls.call("POST", "/v1beta/webhooks", json=wrong)
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert (await calls.call("GET", "/v1beta/webhooks")).json == {}


# Webhooks of one job


async def test_job_names_its_webhooks(calls: Calls, receiver: Receiver) -> None:
    """Registered webhooks get no event then; the event is signed with the published key."""
    await register(calls, f"{receiver.origin}/registered")
    uris = [f"{receiver.origin}/hook", f"{receiver.origin}/second"]
    job = await inline_job(calls, {"uris": uris, "user_metadata": {"group": "night", "level": 2}})
    await calls.ended(job)
    jwks = (await calls.call("GET", "/.well-known/jwks.json")).json
    for uri, path in zip(uris, ("/hook", "/second"), strict=True):
        (call,) = await receiver.until(1, path)
        claims, event = call.claims(jwks), call.event
        assert (claims["aud"], claims["jti"]) == (uri, call.id)
        assert claims["iat"] <= time.time() + 1 < claims["exp"]
        assert {name: claims[name] for name in event} == event
        assert (event["type"], event["data"]) == ("batch.succeeded", {"id": job})
        assert event["user_metadata"] == {"group": "night", "level": 2}
    await calls.ended(await inline_job(calls))
    (call,) = await receiver.until(1, "/registered")
    assert call.event["data"]["id"] != job


async def test_one_key_is_made_for_all(directory: Path) -> None:
    """Also when several jobs need the first key at once; it is stored."""
    found = list[str]()

    async def prepare(keys: SigningKeys) -> None:
        found.append((await keys.prepare()).id)

    for _ in range(2):
        async with open_store(directory) as store, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(prepare, SigningKeys(store))
    assert len(found) == 6
    assert len(set(found)) == 1


async def test_metadata_alone_goes_to_the_registered_webhooks(calls: Calls, receiver: Receiver) -> None:
    """It is passed on unchanged."""
    webhook = await register(calls, f"{receiver.origin}/hook")
    await inline_job(calls, {"userMetadata": {"group": "day"}})
    (call,) = await receiver.until(1)
    assert call.event["user_metadata"] == {"group": "day"}
    assert call.signed_with(webhook["new_signing_secret"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"uris": ["http://hooks.example/x"]},
        {"uris": ["file:///etc/passwd"]},
        {"uris": [f"http://localhost/{number}" for number in range(11)]},
        {"user_metadata": ["a", "list"]},
        {"user_metadata": {"long": "x" * 17_000}},
        "http://localhost/",
    ],
)
async def test_a_job_with_a_bad_webhook_is_not_made(calls: Calls, wrong: object) -> None:
    """No job is created."""
    request: dict[str, object] = {"request": {"contents": []}}
    batch = {"inputConfig": {"requests": {"requests": [request]}}, "webhookConfig": wrong}
    answer = await calls.call("POST", "/v1beta/models/m:batchGenerateContent", json={"batch": batch})
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert (await calls.call("GET", "/v1beta/batches")).json == {}


async def test_job_webhooks_need_the_extra(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra; registered webhooks work without it."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)  # as if it were not there
    batch = {"inputConfig": {"requests": {"requests": [{"request": {}}]}}, "webhookConfig": {"uris": ["http://[::1]"]}}
    answer = await calls.call("POST", "/v1beta/models/m:batchGenerateContent", json={"batch": batch})
    assert answer.error == (501, "UNIMPLEMENTED")
    assert "packtrain[webhooks]" in answer.json["error"]["message"]
    assert (await calls.call("GET", "/v1beta/batches")).json == {}
    await register(calls, "http://[::1]")


# Delivery


async def test_failed_delivery_is_repeated(calls: Calls, receiver: Receiver, directory: Path) -> None:
    """With the same id and body, until the receiver accepts it; redirects are not followed."""
    receiver.answers["/hook"] = deque([500, 307])
    webhook = await register(calls, f"{receiver.origin}/hook")
    await inline_job(calls)
    found = await receiver.until(3)
    assert len({call.id for call in found}) == len({call.body for call in found}) == 1
    assert all(call.signed_with(webhook["new_signing_secret"]) for call in found)
    assert {call.path for call in receiver.received} == {"/hook"}
    (delivered,) = await recorded(directory, "webhook_delivered", 1)
    assert (delivered["id"], delivered["tries"]) == (found[0].id, 3)


async def test_hanging_receiver_delays_nothing_else(calls: Calls, receiver: Receiver) -> None:
    """Jobs run, and other receivers get their events."""
    receiver.answers["/hook"] = deque([HANG] * 9)
    await register(calls, f"{receiver.origin}/hook")
    await register(calls, f"{receiver.origin}/other")
    for count in range(1, 10):
        await calls.ended(await inline_job(calls))
        await receiver.until(count, "/other")
    assert len(await receiver.until(1)) == 1


async def test_killed_between_the_end_of_a_job_and_its_delivery(directory: Path, receiver: Receiver) -> None:
    """The event arrives after the restart with the same id; delivered events are not repeated."""
    receiver.answers["/hook"] = deque([503] * 1000)
    async with ClientSession() as session:
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            job = await inline_job(calls, {"uris": [f"{receiver.origin}/hook"]})
            await calls.ended(job)
            before = await receiver.until(1)
            process.kill()
        receiver.answers.clear()
        count = len(receiver.received)
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            found = await receiver.until(count + 1)
            jwks = (await calls.call("GET", "/.well-known/jwks.json")).json
            assert found[-1].claims(jwks)["data"] == {"id": job}
            assert {call.id for call in found} == {before[0].id}
            await calls.ended(await inline_job(calls, {"uris": [f"{receiver.origin}/next"]}))
            await receiver.until(1, "/next")
    assert len(await receiver.until(count + 1)) == count + 1
    assert truth(directory, "webhook_posted")[0]["id"] == before[0].id


async def test_delivery_is_given_up_after_a_day(directory: Path) -> None:
    """Delays grow to an hour; then the webhook is disabled until its owner enables it."""
    now = [1_000_000.0]
    async with open_store(directory, clock=lambda: now[0]) as store:
        webhooks, deliveries = WebhookRegistry(store), Deliveries(store)
        webhook = await webhooks.create(name="", uri="http://localhost/", events=SUCCEEDED)
        await webhooks.ping(webhook.id)
        waits = list[float]()
        while (pause := await deliveries.next_delay([])) is not None:
            now[0] += pause
            waits.append(pause)
            delivery = await deliveries.next([])
            assert delivery
            await deliveries.failed(delivery, 1.0)
        assert waits[:5] == [0, 1, 2, 4, 8]
        assert max(waits) == 3600
        assert GIVE_UP_AFTER - 3600 <= now[0] - 1_000_000 < GIVE_UP_AFTER
        found = await webhooks.get(webhook.id)
        assert found
        assert found.state == "disabled_due_to_failed_deliveries"
    assert [line["tries"] for line in truth(directory, "webhook_given_up")] == [len(waits)]


@pytest.mark.parametrize("by", ["its owner", "its failures"])
async def test_pending_events_of_a_disabled_webhook_are_dropped(directory: Path, by: str) -> None:
    """Events of other webhooks are sent."""
    now = [1_000_000.0]
    async with open_store(directory, clock=lambda: now[0]) as store:
        webhooks, deliveries = WebhookRegistry(store), Deliveries(store)
        webhook = await webhooks.create(name="", uri="http://localhost/", events=SUCCEEDED)
        other = await webhooks.create(name="", uri="http://localhost/other", events=SUCCEEDED)
        await webhooks.ping(webhook.id)
        first = await deliveries.next([])
        assert first
        for id in (webhook.id, other.id):
            await webhooks.ping(id)
        if by == "its owner":
            await webhooks.update(webhook.id, WebhookChanges(state="disabled"))
        else:
            now[0] += GIVE_UP_AFTER
            await deliveries.failed(first, 1.0)
        waiting = await deliveries.next([])
        assert waiting
        assert waiting.webhook == other.id
        await deliveries.delivered(waiting)
        assert await deliveries.next_delay([]) is None
    assert len(truth(directory, "webhook_given_up")) == 2


# Destinations


async def test_events_go_to_allowed_origins_only(directory: Path, receiver: Receiver) -> None:
    """The list replaces loopback; pending events for a removed origin are not sent."""
    async with ClientSession() as session:
        receiver.answers["/hook"] = deque([503] * 1000)
        async with serving(directory, webhooks_to=[receiver.origin]) as origin:
            calls = Calls(session, origin)
            await register(calls, f"{receiver.origin}/hook")
            await inline_job(calls)
            await receiver.until(1)
            other = {"uri": "http://127.0.0.1:9/x", "subscribed_events": SUCCEEDED}
            assert (await calls.call("POST", "/v1beta/webhooks", json=other)).error[0] == 400
        receiver.answers.clear()
        count = len(receiver.received)
        failures = len(truth(directory, "webhook_failed"))
        async with receiving() as second, serving(directory, webhooks_to=[second.origin]) as origin:
            calls = Calls(session, origin)
            await inline_job(calls, {"uris": [f"{second.origin}/hook"]})
            await second.until(1)
            await recorded(directory, "webhook_failed", failures + 1)
        assert len(receiver.received) == count


@pytest.mark.parametrize(
    ("uri", "origins", "allowed"),
    [
        ("http://127.0.0.1:9/x?y=z", (), True),
        ("https://localhost/x", (), True),
        ("http://[::1]:9/", (), True),
        ("http://127.evil.example/", (), False),
        ("http://localhost.evil.example/", (), False),
        ("http://localhost@evil.example/", (), False),
        ("http://evil.example\\@localhost/", (), False),
        ("http://0.0.0.0:9/", (), False),
        ("ftp://localhost/", (), False),
        ("http://localhost:99999/", (), False),
        ("http://localhost/\r\nx: y", (), False),
        ("http://local host/", (), False),
        ("//localhost/", (), False),
        ("http://localhost/" + "x" * 2048, (), False),
        ("https://hooks.example/x", ("https://hooks.example",), True),
        ("https://HOOKS.example:443/x", ("https://hooks.example/",), True),
        ("http://hooks.example/x", ("https://hooks.example",), False),
        ("https://hooks.example:8443/x", ("https://hooks.example",), False),
        ("http://localhost/x", ("https://hooks.example",), False),
    ],
)
def test_destinations(uri: str, origins: tuple[str, ...], allowed: bool) -> None:
    """An origin is scheme, host and port; without any, only loopback is allowed."""
    assert Destinations(origins).allow(uri) is allowed


def test_public_service_sends_no_events_by_default() -> None:
    """Clients must not reach services on its loopback."""
    assert not Destinations(loopback=False).allow("http://127.0.0.1/")


@pytest.mark.parametrize(
    "origin", ["hooks.example", "https://hooks.example/path", "ftp://hooks.example", "https://u@h"]
)
def test_malformed_origin_is_refused_at_the_start(origin: str) -> None:
    """A malformed list could allow another origin."""
    with pytest.raises(InputError, match="webhooks to"):
        Destinations([origin])
