"""Quotas of a project, and the error beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from .._options import GB
from .replies import HttpError
from .wires.openai.limits import LIMITS, OpenAILimits

if TYPE_CHECKING:
    from .transactions import Transaction

#: The real service's text, the same for every quota.
MESSAGE = (
    "You exceeded your current quota, please check your plan and billing details. "
    "For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)
HELP = (
    {
        "@type": "type.googleapis.com/google.rpc.Help",
        "links": [
            {
                "description": "Learn more about Gemini API quotas",
                "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
            }
        ],
    },
)
_QUEUED = "SELECT coalesce(sum(bytes), 0) FROM job WHERE ended IS NULL AND (model = ? OR 'models/' || model = ?)"
#: An estimate without a tokenizer.
BYTES_PER_TOKEN = 4


class Quotas(Struct, frozen=True, kw_only=True):
    """Limits on what a project holds. None, and a model without an entry, mean no limit."""

    live_jobs: int | None = None
    #: Finished files, including results.
    stored_bytes: int | None = None
    #: Unfinished uploads on both wires: each holds a file, possibly empty, for up to a week.
    open_uploads: int | None = 10_000
    #: Tokens in the inputs of all live jobs, by model, as in ``models/gemini-2.5-flash``.
    enqueued_tokens: Mapping[str, int] = {}
    #: Limits of the OpenAI wire, which apply with or without quotas.
    openai: OpenAILimits = LIMITS


class QuotaError(HttpError):
    """A quota is exceeded."""


#: The documented quotas of the lowest paid tier, which change often.
GEMINI_QUOTAS = Quotas(
    live_jobs=100,
    stored_bytes=20 * GB,
    enqueued_tokens={
        "models/gemini-2.5-pro": 5_000_000,
        "models/gemini-2.5-flash": 3_000_000,
        "models/gemini-2.5-flash-lite": 10_000_000,
        "models/gemini-embedding-001": 500_000,
    },
)


def admit_job(tx: Transaction, model: str, size: int) -> None:
    """``size`` is that of the input in bytes. Raises QuotaError 429."""
    quotas = tx.quotas
    if quotas.live_jobs is not None:
        _admit(tx.number("SELECT count(*) FROM job WHERE ended IS NULL") + 1, quotas.live_jobs)
    if tokens_exceeded(tx, model, size) is not None:
        raise _refusal()


def tokens_exceeded(tx: Transaction, model: str, size: int) -> int | None:
    """The model's limit of enqueued tokens, if ``size`` more bytes of input would exceed it; else None."""
    most = tx.quotas.enqueued_tokens.get(model)
    if most is None:
        return None
    # The OpenAI wire stores model names as clients write them, with or without the prefix.
    queued = tx.number(_QUEUED, model, model)
    return most if (queued + size) // BYTES_PER_TOKEN > most else None


def admit_file(tx: Transaction, size: int) -> None:
    """Raises QuotaError 429 when ``size`` more bytes are too many."""
    most = tx.quotas.stored_bytes
    if most is not None:
        _admit(tx.number("SELECT coalesce(sum(bytes), 0) FROM file WHERE expires > ?", tx.now) + size, most)


def admit_upload(tx: Transaction) -> None:
    """Raises QuotaError 429 when too many are unfinished."""
    most = tx.quotas.open_uploads
    if most is not None:
        resumable = tx.number("SELECT count(*) FROM upload WHERE state = 'active'")
        multipart = tx.number("SELECT count(*) FROM openai_upload WHERE state = 'pending' AND expires > ?", tx.now)
        _admit(resumable + multipart + 1, most)


def _admit(wanted: int, most: int) -> None:
    if wanted > most:
        raise _refusal()


def _refusal() -> QuotaError:
    return QuotaError(429, MESSAGE, details=HELP)
