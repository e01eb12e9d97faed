"""What the calls about webhooks take and give; their members have names in snake_case."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from ..._wire.gemini.webhooks import EVENTS, Webhook, WebhookPage
from ..description import JSON, NOTHING, TEXT, Operation, Parameter
from .webhooks import CHANGEABLE, DEFAULT_SIZE, MAX_NAME, MAX_SIZE, MAX_URIS

EventType = Annotated[str, Meta(pattern=f"^({'|'.join(EVENTS)})$")]
EventTypes = Annotated[list[EventType], Meta(min_length=1)]
Name = Annotated[str, Meta(max_length=MAX_NAME)]


class WebhookConfig(Struct, frozen=True, rename="camel"):
    """Who shall hear of a job's end. With ``uris``, the registered webhooks do not."""

    uris: Annotated[list[str], Meta(max_length=MAX_URIS)] | UnsetType = UNSET
    user_metadata: dict[str, Any] | UnsetType = UNSET


class NewWebhook(Struct, frozen=True):
    uri: str
    subscribed_events: EventTypes
    name: Name | UnsetType = UNSET


class WebhookUpdate(Struct, frozen=True):
    uri: str | UnsetType = UNSET
    subscribed_events: EventTypes | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    state: Annotated[str, Meta(pattern="^(enabled|disabled)$")] | UnsetType = UNSET


class Rotation(Struct, frozen=True):
    revocation_behavior: str | UnsetType = UNSET


class NewSecret(Struct, frozen=True):
    secret: str


class PublicKeys(Struct, frozen=True):
    """A JSON Web Key Set."""

    keys: list[dict[str, str]]


ONE = "/v1beta/webhooks/{webhook}"
PAGE = (
    Parameter(
        "page_size",
        "query",
        {"type": "integer", "minimum": 0},
        description=f"{DEFAULT_SIZE} when left out, at most {MAX_SIZE}.",
    ),
    Parameter("page_token", "query", TEXT, description="The next_page_token of the page before."),
)
MASK = Parameter("update_mask", "query", TEXT, description=f"Some of {', '.join(CHANGEABLE)}; all when left out.")

WEBHOOK_OPERATIONS = {
    "webhooks.create": Operation(
        at="POST /v1beta/webhooks",
        says="Register a webhook; its secret is shown in this answer alone",
        sends=(JSON, NewWebhook),
        gives=Webhook,
    ),
    "webhooks.list": Operation(at="GET /v1beta/webhooks", says="Webhooks, newest first", takes=PAGE, gives=WebhookPage),
    "webhooks.get": Operation(at=f"GET {ONE}", says="One webhook", gives=Webhook),
    "webhooks.update": Operation(
        at=f"PATCH {ONE}", says="Change a webhook", takes=[MASK], sends=(JSON, WebhookUpdate), gives=Webhook
    ),
    "webhooks.delete": Operation(at=f"DELETE {ONE}", says="Delete a webhook", gives=NOTHING),
    "webhooks.ping": Operation(at=f"POST {ONE}:ping", says="Send it an event of the type ping", gives=NOTHING),
    "webhooks.rotate": Operation(
        at=f"POST {ONE}:rotateSigningSecret",
        says="A new secret; the former ones sign for another day, or no more",
        sends=(JSON, Rotation),
        gives=NewSecret,
    ),
    "webhooks.keys": Operation(
        at="GET /.well-known/jwks.json",
        says="The keys that sign the events which jobs ask for",
        gives=PublicKeys,
        keyless=True,
    ),
}
