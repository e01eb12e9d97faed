"""Registered webhooks: create, get, list, update, delete, ping, rotate the secret; and the public signing keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from ...._options import KIB
from ...._wire.gemini.files import encode_time
from ...._wire.gemini.webhooks import EVENTS, SECRET, SigningSecret, Webhook, WebhookPage
from ...paging import next_token, read_window
from ...replies import HttpError, json_response
from ...routing import Route
from ...webhooks.events import JobWebhooks
from ...webhooks.registry import WebhookChanges
from .json_body import VERSION, apply_update_mask, check_utf8, decode_members, member, members, strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from msgspec import Raw

    from ...webhooks.destinations import Destinations
    from ...webhooks.registry import StoredWebhook, WebhookRegistry
    from ...webhooks.signing_keys import SigningKeys

T = TypeVar("T")

WEBHOOK = "/webhooks/([^/:]+)"
#: Page sizes of the real service.
DEFAULT_SIZE, MAX_SIZE = 50, 1000
#: Limits of this service on one job's configuration and on names.
MAX_URIS, MAX_METADATA_BYTES, MAX_NAME = 10, 16 * KIB, 512
CHANGEABLE = ("name", "uri", "subscribedEvents", "state")
#: Characters of a secret shown after its creation.
SHOWN = len(SECRET) + 4

_REVOCATIONS = {
    "": False,
    "revoke_previous_secrets_after_h24": False,
    "revoke_previous_secrets_immediately": True,
}


def webhook_body(webhook: StoredWebhook, *, new: str = "") -> Webhook:
    """``new`` is the secret to show in full."""
    return Webhook(
        id=webhook.id,
        name=webhook.name,
        uri=webhook.uri,
        subscribed_events=webhook.subscribed,
        state=webhook.state,
        signing_secrets=[
            SigningSecret(known.secret[:SHOWN] + "...", "" if known.expires is None else encode_time(known.expires))
            for known in webhook.secrets_at(webhook.updated)
        ],
        new_signing_secret=new,
        create_time=encode_time(webhook.created),
        update_time=encode_time(webhook.updated),
    )


class WebhookRoutes:
    """The handlers."""

    def __init__(self, webhooks: WebhookRegistry, keys: SigningKeys, destinations: Destinations) -> None:
        self._webhooks = webhooks
        self._keys = keys
        self._destinations = destinations

    def routes(self) -> list[Route]:
        one, many = re.compile(VERSION + WEBHOOK), re.compile(VERSION + "/webhooks")
        ping = re.compile(f"{VERSION}{WEBHOOK}:ping")
        # The official packages use the first form, the guide's curl samples the second.
        rotate = re.compile(f"{VERSION}{WEBHOOK}(?::rotateSigningSecret|/rotate_secret)")
        keys = re.compile(r"/\.well-known/jwks\.json")
        return [
            Route(name="webhooks.create", method="POST", pattern=many, handler=self.create),
            Route(name="webhooks.list", method="GET", pattern=many, handler=self.page),
            Route(name="webhooks.get", method="GET", pattern=one, handler=self.get),
            Route(name="webhooks.update", method="PATCH", pattern=one, handler=self.update),
            Route(name="webhooks.delete", method="DELETE", pattern=one, handler=self.delete),
            Route(name="webhooks.ping", method="POST", pattern=ping, handler=self.ping),
            Route(name="webhooks.rotate", method="POST", pattern=rotate, handler=self.rotate),
            Route(name="webhooks.keys", method="GET", pattern=keys, handler=self.public_keys, keyless=True),
        ]

    async def create(self, request: web.Request) -> web.Response:
        new = self._read(await _members(request))
        if new.uri is None or new.subscribed_events is None:
            raise HttpError(400, "A webhook needs uri and subscribed_events.")
        webhook = await self._webhooks.create(name=new.name or "", uri=new.uri, events=new.subscribed_events)
        (secret,) = webhook.secrets_at(webhook.created)
        return json_response(webhook_body(webhook, new=secret.secret))

    async def get(self, request: web.Request, id: str) -> web.Response:
        return json_response(webhook_body(_existing(await self._webhooks.get(id), id)))

    async def page(self, request: web.Request) -> web.Response:
        window = read_window(request.query, default=DEFAULT_SIZE, most=MAX_SIZE)
        webhooks = await self._webhooks.page(window)
        bodies = [webhook_body(webhook) for webhook in webhooks[: window.size]]
        return json_response(WebhookPage(webhooks=bodies, next_page_token=next_token(webhooks, window)))

    async def update(self, request: web.Request, id: str) -> web.Response:
        changes = self._read(apply_update_mask(await _members(request), request.query, CHANGEABLE))
        return json_response(webhook_body(_existing(await self._webhooks.update(id, changes), id)))

    async def delete(self, request: web.Request, id: str) -> web.Response:
        _existing(await self._webhooks.delete(id) or None, id)
        return json_response({})

    async def ping(self, request: web.Request, id: str) -> web.Response:
        _existing(await self._webhooks.ping(id) or None, id)
        return json_response({})

    async def rotate(self, request: web.Request, id: str) -> web.Response:
        word = member(await _members(request), "revocationBehavior", str, "").lower()
        if word not in _REVOCATIONS:
            raise HttpError(
                400, f"revocation_behavior {word[:80]!r} is none of: {', '.join(filter(None, _REVOCATIONS))}."
            )
        return json_response({"secret": _existing(await self._webhooks.rotate(id, at_once=_REVOCATIONS[word]), id)})

    async def public_keys(self, request: web.Request) -> web.Response:
        return json_response({"keys": await self._keys.public()})

    def _read(self, values: Mapping[str, Raw]) -> WebhookChanges:
        """Raises HttpError 400."""
        changes = decode_members(values, WebhookChanges)
        if len(changes.name or "") > MAX_NAME:
            raise HttpError(400, f"name is longer than {MAX_NAME} characters.")
        if changes.uri is not None:
            self._destinations.check(changes.uri)
        events = changes.subscribed_events
        if events is not None and not (events and set(events) <= set(EVENTS)):
            raise HttpError(400, f"subscribed_events: give some of {', '.join(EVENTS)}.")
        return changes


def read_webhook_config(config: Mapping[str, Raw], destinations: Destinations) -> JobWebhooks:
    """The webhookConfig of a job. Raises HttpError 400."""
    webhooks = decode_members(config, JobWebhooks)
    if len(webhooks.uris) > MAX_URIS:
        raise HttpError(400, f"webhookConfig.uris: give at most {MAX_URIS}.")
    for uri in webhooks.uris:
        destinations.check(uri)
    metadata = bytes(webhooks.user_metadata)
    if metadata and not metadata.startswith(b"{"):
        raise HttpError(400, "webhookConfig.userMetadata is not an object.")
    if len(metadata) > MAX_METADATA_BYTES:
        raise HttpError(400, f"webhookConfig.userMetadata is longer than {MAX_METADATA_BYTES} bytes.")
    return webhooks


async def _members(request: web.Request) -> Mapping[str, Raw]:
    body = await request.read()
    check_utf8(body)
    return members(strict_json(body)) if body.strip() else {}


def _existing(webhook: T | None, id: str) -> T:
    if webhook is None:
        raise HttpError(404, f"The webhook {id} does not exist.")
    return webhook
