"""Webhooks: the resource, the events that are sent, and the signature of those for a registered webhook.

Unlike the rest of the wire, names are in snake_case.
"""

from __future__ import annotations

import base64
import hmac
from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

#: What a webhook may subscribe to. A batch service sends those of batches.
EVENTS = (
    "batch.succeeded",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "interaction.requires_action",
    "interaction.completed",
    "interaction.failed",
    "interaction.cancelled",
    "video.generated",
)
#: How a secret begins; the base64 of its bytes follows.
SECRET = "whsec_"  # noqa: S105 - a prefix

WebhookState = Literal["enabled", "disabled", "disabled_due_to_failed_deliveries"]


class SigningSecret(Struct, frozen=True, omit_defaults=True):
    truncated_secret: str
    #: A time; absent for the newest secret, which has no end.
    expire_time: str = ""


class Webhook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    name: str = ""
    uri: str
    subscribed_events: list[str]
    state: WebhookState
    signing_secrets: list[SigningSecret] = []
    #: Shown once, to its maker.
    new_signing_secret: str = ""
    create_time: str
    update_time: str


class WebhookPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    webhooks: list[Webhook] = []
    next_page_token: str = ""


class EventData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """No more than what leads to the job."""

    id: str
    output_file_uri: str = ""
    error_code: int = 0
    error_message: str = ""


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    type: str
    version: Literal["v1"]
    timestamp: str
    data: EventData
    #: An object, as the job's maker gave it.
    user_metadata: Raw | UnsetType = UNSET


def sign(secret: str, *, id: str, timestamp: int, body: bytes) -> str:
    """One entry of ``webhook-signature``, by the rules of Standard Webhooks."""
    key = base64.b64decode(secret.removeprefix(SECRET))
    digest = hmac.digest(key, b"%b.%d.%b" % (id.encode(), timestamp, body), "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
