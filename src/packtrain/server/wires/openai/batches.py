"""Batches: create, retrieve, list, cancel."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ...._model import JobState
from ...._wire.openai.batches import (
    COMPLETION_WINDOW,
    ENDPOINTS,
    Batch,
    BatchError,
    BatchErrors,
    JobPage,
    NewBatch,
    RequestCounts,
)
from ...replies import json_response
from ...routing import Route
from .batch_store import NewBatchJob
from .errors import OpenAIError, decode, openai_error_response, openai_error_response_no_retry, uses_bearer_key
from .files import BASE, read_life
from .paging import read_cursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from ...._wire.openai.batches import Status
    from .batch_store import OpenAIBatches, StoredBatch
    from .limits import OpenAILimits

ID = "(batches/[^/:]+)"
DEFAULT_LIMIT, MAX_LIMIT = 20, 100

_ENDED: dict[JobState, Status] = {
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.EXPIRED: "expired",
    JobState.CANCELLED: "cancelled",
}


def batch_object(batch: StoredBatch, limits: OpenAILimits) -> Batch:
    return Batch(
        id=batch.name,
        endpoint=batch.endpoint,
        model=batch.model or None,
        errors=_errors(batch),
        input_file_id=batch.file,
        completion_window=COMPLETION_WINDOW,
        status=_status(batch),
        output_file_id=batch.result,
        error_file_id=batch.error_file,
        created_at=int(batch.created),
        in_progress_at=_second(batch.started),
        expires_at=int(batch.created + limits.window),
        finalizing_at=_second(batch.finalizing),
        completed_at=_end(batch, JobState.SUCCEEDED),
        failed_at=_end(batch, JobState.FAILED),
        expired_at=_end(batch, JobState.EXPIRED),
        cancelling_at=_second(batch.cancelling_at),
        cancelled_at=_end(batch, JobState.CANCELLED),
        request_counts=RequestCounts(total=batch.requests, completed=batch.succeeded, failed=batch.failed),
        metadata=msgspec.json.decode(batch.metadata, type=dict[str, str] | None),
    )


def _status(batch: StoredBatch) -> Status:
    if batch.ended is not None:
        return _ENDED[batch.state]
    if batch.cancelling:
        return "cancelling"
    if batch.finalizing is not None:
        return "finalizing"
    return "validating" if batch.started is None else "in_progress"


def _errors(batch: StoredBatch) -> BatchErrors | None:
    if batch.errors:
        return BatchErrors(data=msgspec.json.decode(batch.errors, type=list[BatchError]))
    if batch.state is JobState.FAILED:
        return BatchErrors(data=[BatchError(code="server_error", message=batch.reason)])
    return None


def _second(at: float | None) -> int | None:
    return None if at is None else int(at)


def _end(batch: StoredBatch, state: JobState) -> int | None:
    return _second(batch.ended) if batch.state is state else None


class OpenAIBatchRoutes:
    """The handlers. ``wake`` announces a new batch to the runner."""

    def __init__(self, batches: OpenAIBatches, wake: Callable[[], None]) -> None:
        self._batches = batches
        self._wake = wake

    def routes(self) -> list[Route]:
        many, one = re.compile(f"{BASE}/batches"), re.compile(f"{BASE}/batches/{ID}")
        cancel, listed = re.compile(f"{BASE}/batches/{ID}/cancel"), re.compile("/v1beta/openai/batches")
        shared = re.compile("/v1/batches")
        route = partial(Route, error_response=openai_error_response)
        return [
            Route(
                name="openai.batches.create",
                method="POST",
                pattern=many,
                handler=self.create,
                error_response=openai_error_response_no_retry,
            ),
            route(name="openai.batches.list", method="GET", pattern=listed, handler=self.page),
            route(name="openai.batches.list", method="GET", pattern=shared, handler=self.page, accepts=uses_bearer_key),
            route(name="openai.batches.get", method="GET", pattern=one, handler=self.get),
            route(name="openai.batches.cancel", method="POST", pattern=cancel, handler=self.cancel),
        ]

    async def create(self, request: web.Request) -> web.Response:
        plan = _plan(decode(await request.read(), NewBatch), self._batches.limits)
        batch = await self._batches.create(plan)
        self._wake()
        return self._answer(batch)

    async def get(self, request: web.Request, name: str) -> web.Response:
        return self._answer(_existing(name, await self._batches.get(name)))

    async def page(self, request: web.Request) -> web.Response:
        page = await self._batches.page(read_cursor(request.query, default=DEFAULT_LIMIT, most=MAX_LIMIT))
        data = [batch_object(batch, self._batches.limits) for batch in page.items]
        return json_response(JobPage(data=data, has_more=page.has_more, first_id=page.first_id, last_id=page.last_id))

    async def cancel(self, request: web.Request, name: str) -> web.Response:
        return self._answer(_existing(name, await self._batches.cancel(name)))

    def _answer(self, batch: StoredBatch) -> web.Response:
        return json_response(batch_object(batch, self._batches.limits))


def _existing(name: str, batch: StoredBatch | None) -> StoredBatch:
    if batch is None:
        raise OpenAIError(404, f"No batch found with id '{name}'.", param="id")
    return batch


def _plan(new: NewBatch, limits: OpenAILimits) -> NewBatchJob:
    """Raises OpenAIError."""
    if new.endpoint not in ENDPOINTS:
        raise OpenAIError(400, f"endpoint: give {' or '.join(ENDPOINTS)}.", param="endpoint")
    if new.completion_window != COMPLETION_WINDOW:
        raise OpenAIError(400, f"completion_window: give {COMPLETION_WINDOW}.", param="completion_window")
    life = new.output_expires_after
    return NewBatchJob(
        file=new.input_file_id,
        endpoint=new.endpoint,
        task=ENDPOINTS[new.endpoint],
        metadata=_metadata(new.metadata, limits),
        life=read_life(life.anchor, str(life.seconds), limits) if life else limits.file_life,
    )


def _metadata(metadata: dict[str, str] | None, limits: OpenAILimits) -> str:
    """The metadata as JSON. Raises OpenAIError beyond OpenAI's limits."""
    for key, value in (metadata or {}).items():
        if len(key) > limits.metadata_key or len(value) > limits.metadata_value:
            longest = f"{limits.metadata_key} and {limits.metadata_value} characters"
            raise OpenAIError(400, f"metadata: a key and a value have at most {longest}.", param="metadata")
    if len(metadata or {}) > limits.metadata_pairs:
        raise OpenAIError(400, f"metadata: at most {limits.metadata_pairs} pairs are allowed.", param="metadata")
    return msgspec.json.encode(metadata).decode()
