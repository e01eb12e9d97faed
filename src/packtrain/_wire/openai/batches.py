"""Batches, and the lines of their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Raw, Struct

if TYPE_CHECKING:
    from ..._model import Task

#: Endpoints that a batch may be made for, and what its lines ask.
ENDPOINTS: dict[str, Task] = {"/v1/chat/completions": "generate", "/v1/embeddings": "embed"}
COMPLETION_WINDOW = "24h"

Status = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]

#: Why a line was never asked.
EXPIRED, CANCELLED = "batch_expired", "batch_cancelled"


class BatchError(Struct, frozen=True, kw_only=True):
    """What the validation of the input file found. ``line`` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(Struct, frozen=True, kw_only=True):
    total: int
    completed: int
    failed: int


class Batch(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class JobPage(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Batch]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


class ExpiresAfter(Struct, frozen=True, kw_only=True):
    anchor: Literal["created_at"]
    seconds: int


class NewBatch(Struct, frozen=True, kw_only=True):
    """The body that makes a batch."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class RequestLine(Struct, frozen=True, kw_only=True):
    """A line of an input file; an absent member is empty."""

    custom_id: str = ""
    method: str = ""
    url: str = ""
    body: Raw = Raw()


class RowResponse(Struct, frozen=True, kw_only=True):
    status_code: int
    request_id: str
    body: Raw


class RowFailure(Struct, frozen=True, kw_only=True):
    code: str
    message: str


class ResultLine(Struct, frozen=True, kw_only=True):
    """A line of an output or error file: an answer of whatever status, or why the line was never asked."""

    id: str
    custom_id: str
    response: RowResponse | None = None
    error: RowFailure | None = None


_encode = msgspec.json.Encoder().encode


def encode_row(row: ResultLine) -> bytes:
    return _encode(row) + b"\n"
