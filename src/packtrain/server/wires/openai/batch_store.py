"""Batches of the OpenAI wire in the store: jobs with additional columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from ...._model import JobState, Task
from ...._wire.openai.batches import BatchError
from ...blobs import Digest
from ...files import StoredFile, find_file, insert_file
from ...jobs import NewJob, StoredJob, cancel_job, create_job, end_job, find_job, record_progress
from ...quotas import tokens_exceeded
from .errors import OpenAIError
from .paging import Page, fetch_page
from .translation import resource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from ...jobs import Counts, Directive
    from ...store import Store
    from ...transactions import Transaction
    from .limits import OpenAILimits
    from .paging import Cursor


class StoredBatch(StoredJob, frozen=True, kw_only=True):
    """``metadata`` and ``errors`` are JSON; ``life`` is that of its results, in seconds."""

    endpoint: str
    metadata: str
    life: float
    errors: str | None
    error_file: str | None
    started: float | None
    finalizing: float | None
    cancelling_at: float | None


class NewBatchJob(Struct, frozen=True, kw_only=True):
    """Decoded create call."""

    file: str
    endpoint: str
    task: Task
    metadata: str
    life: float


class ResultBlob(Struct, frozen=True):
    """Content of a result file, which is created only if it is not empty."""

    blob: str
    digest: Digest


#: The real service's text, with a local organization.
_TOKENS = (
    "Enqueued token limit reached for {} in organization org-local. Limit: {:,} enqueued tokens. "
    "Please try again once some in_progress batches have been completed."
)

Ending = Literal["continue", "cancelled", "expired"]

_STATES: dict[Ending, JobState] = {
    "continue": JobState.SUCCEEDED,
    "cancelled": JobState.CANCELLED,
    "expired": JobState.EXPIRED,
}


class OpenAIBatches:
    """Operations on batches."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def limits(self) -> OpenAILimits:
        return self._store.quotas.openai

    def temporary_blob(self) -> AbstractAsyncContextManager[str]:
        """A new blob for results."""
        return self._store.temporary_blob()

    async def create(self, plan: NewBatchJob) -> StoredBatch:
        """Raises OpenAIError 404 when the input file does not exist at the commit."""
        return await self._store.transact(lambda tx: _create(tx, plan))

    async def get(self, name: str) -> StoredBatch | None:
        return await self._store.transact(lambda tx: _find(tx, name))

    async def page(self, cursor: Cursor) -> Page[StoredBatch]:
        return await self._store.transact(lambda tx: fetch_page(tx, StoredBatch, "openai_batches", cursor))

    async def cancel(self, name: str) -> StoredBatch | None:
        """Cancels as Jobs.cancel does. Raises OpenAIError 409 for a batch that has ended."""
        return await self._store.transact(lambda tx: _cancel(tx, name))

    async def reject(self, batch: StoredBatch, errors: Sequence[BatchError]) -> None:
        """Fails the batch for its invalid file."""
        await self._store.transact_when_possible(lambda tx: _reject(tx, batch, errors))

    async def begin(self, batch: StoredBatch, model: str, requests: int) -> bool:
        """Starts the batch; False when its model has too many enqueued tokens, which fails the batch."""
        return await self._store.transact_when_possible(lambda tx: _begin(tx, batch, model, requests))

    async def progress(self, batch: StoredBatch, counts: Counts) -> Directive | Literal["expired"]:
        """Stores the counts, at most once a second; returns how to proceed."""
        return await self._store.transact_when_possible(lambda tx: _progress(tx, batch, counts))

    async def finish(
        self, batch: StoredBatch, ending: Ending, counts: Counts, output: ResultBlob, errors: ResultBlob
    ) -> None:
        """Publishes the results as files, durably; does nothing if the batch was deleted."""
        sql = "UPDATE openai_batch SET finalizing = ? WHERE name = ?"
        await self._store.transact_when_possible(lambda tx: tx.change(sql, tx.now, batch.name))
        await self._store.sync(output.blob)
        await self._store.sync(errors.blob)
        await self._store.transact_when_possible(lambda tx: _finish(tx, batch, ending, counts, output, errors))


def _find(tx: Transaction, name: str) -> StoredBatch | None:
    return tx.row(StoredBatch, "SELECT * FROM openai_batches WHERE name = ?", name)


def _existing(tx: Transaction, name: str) -> StoredBatch:
    batch = _find(tx, name)
    assert batch is not None, name
    return batch


def _create(tx: Transaction, plan: NewBatchJob) -> StoredBatch:
    file = find_file(tx, plan.file)
    if file is None:
        raise OpenAIError(404, f"No such File object: {plan.file}", param="input_file_id")
    job = create_job(tx, NewJob(model="", task=plan.task, display_name="", file=file.name), file.blob, file.bytes)
    tx.change(
        "INSERT INTO openai_batch (name, endpoint, metadata, life) VALUES (?, ?, ?, ?)",
        job.name,
        plan.endpoint,
        plan.metadata,
        plan.life,
    )
    return _existing(tx, job.name)


def _cancel(tx: Transaction, name: str) -> StoredBatch | None:
    batch = _find(tx, name)
    if batch is None:
        return None
    if batch.ended is not None:
        # The SDK retries a 409 without this header.
        raise OpenAIError(409, "Cannot cancel a batch that has ended.", headers={"x-should-retry": "false"})
    cancel_job(tx, name)
    tx.change("UPDATE openai_batch SET cancelling_at = coalesce(cancelling_at, ?) WHERE name = ?", tx.now, name)
    return _existing(tx, name)


def _reject(tx: Transaction, batch: StoredBatch, errors: Sequence[BatchError]) -> None:
    encoded = msgspec.json.encode(errors).decode()
    tx.change("UPDATE openai_batch SET errors = ? WHERE name = ?", encoded, batch.name)
    end_job(tx, batch.name, JobState.FAILED, reason=errors[0].message)


def _begin(tx: Transaction, batch: StoredBatch, model: str, requests: int) -> bool:
    size = tx.number("SELECT coalesce(sum(bytes), 0) FROM job WHERE name = ? AND model = ''", batch.name)
    most = tokens_exceeded(tx, resource(model), size)
    if most is not None:
        _reject(tx, batch, [BatchError(code="token_limit_exceeded", message=_TOKENS.format(model, most))])
        return False
    tx.change("UPDATE job SET model = ?, requests = ? WHERE name = ?", model, requests, batch.name)
    tx.change("UPDATE openai_batch SET started = ?, finalizing = NULL WHERE name = ?", tx.now, batch.name)
    return True


def _progress(tx: Transaction, batch: StoredBatch, counts: Counts) -> Directive | Literal["expired"]:
    directive = record_progress(tx, batch, counts)
    return "expired" if directive == "continue" and tx.now >= batch.created + tx.quotas.openai.window else directive


def _finish(
    tx: Transaction, batch: StoredBatch, ending: Ending, counts: Counts, output: ResultBlob, errors: ResultBlob
) -> None:
    if find_job(tx, batch.name) is None:
        return
    result = _publish(tx, batch, "", output)
    failures = _publish(tx, batch, "-errors", errors)
    tx.change("UPDATE job SET succeeded = ?, failed = ? WHERE name = ?", counts.succeeded, counts.failed, batch.name)
    if failures:
        tx.change("UPDATE openai_batch SET error_file = ? WHERE name = ?", failures.name, batch.name)
        tx.record("batch_errors", name=batch.name, file=failures.name, bytes=failures.bytes, sha256=failures.sha256)
    end_job(tx, batch.name, _STATES[ending], result=result)


def _publish(tx: Transaction, batch: StoredBatch, suffix: str, product: ResultBlob) -> StoredFile | None:
    if not product.digest.bytes:
        return None
    name = f"batch-{batch.name.removeprefix('batches/')}{suffix}"
    file = StoredFile(
        seq=0,
        name=f"files/{name}",
        display_name=f"{name}.jsonl",
        mime_type="application/jsonl",
        bytes=product.digest.bytes,
        sha256=product.digest.sha256,
        created=tx.now,
        expires=tx.now + batch.life,
        source="GENERATED",
        blob=product.blob,
    )
    insert_file(tx, file)
    return file
