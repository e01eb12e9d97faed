"""Batch jobs: their rows in the store, and the operations on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from .._model import JobState, Task
from .files import FILE_LIFE, HIDDEN_PREFIX, StoredFile, find_file, insert_file, make_id, remove_file
from .quotas import admit_job
from .replies import HttpError
from .transactions import PORTION
from .webhooks.events import queue_job_events

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractAsyncContextManager

    from .blobs import Digest
    from .paging import Window
    from .store import Store
    from .transactions import Transaction

#: Seconds between two writes of a running job's counts.
PROGRESS_PERIOD = 1.0
#: Seconds after which a job expires without results.
JOB_LIFE = 48 * 3600.0

#: How the runner proceeds with a job; "gone": it was deleted or has expired.
Directive = Literal["continue", "cancelled", "gone"]

_FIRST = "SELECT * FROM job WHERE ended IS NULL ORDER BY priority DESC, seq LIMIT ?"
#: Jobs of the OpenAI wire are excluded: they keep their partial results, and their runner ends them.
_OVERDUE = """
SELECT * FROM job WHERE ended IS NULL AND created <= ? AND name NOT IN (SELECT name FROM openai_batch) LIMIT ?
"""
#: A job of the OpenAI wire has an error file too.
_RESULTS = "SELECT * FROM file WHERE name = ? OR name = (SELECT error_file FROM openai_batch WHERE name = ?)"


class StoredJob(Struct, frozen=True, kw_only=True):
    """A job. ``blob`` is its input, kept until it ends."""

    seq: int
    name: str
    display_name: str
    model: str
    task: Task
    file: str
    blob: str
    state: JobState
    #: A cancel was requested while it ran.
    cancelling: Literal[0, 1]
    #: Lines of the input; 0 until they are counted.
    requests: int
    succeeded: int
    failed: int
    created: float
    updated: float
    ended: float | None
    result: str | None
    reason: str
    #: The job's webhook configuration as JSON; empty without one.
    webhooks: str
    #: Higher runs first.
    priority: int

    @property
    def inline(self) -> bool:
        """Whether the create call contained the requests; then ``file`` is empty."""
        return not self.file


class NewJob(Struct, frozen=True, kw_only=True):
    model: str
    task: Task
    display_name: str
    #: The input file; empty for a job with inline requests.
    file: str = ""
    #: JSON, as in StoredJob.
    webhooks: str = ""
    priority: int = 0


class JobChanges(Struct, frozen=True, kw_only=True):
    """None means unchanged."""

    display_name: str | None = None
    priority: int | None = None


class Counts(Struct):
    """Lines answered so far."""

    succeeded: int = 0
    failed: int = 0


class Jobs:
    """Operations on jobs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def temporary_blob(self) -> AbstractAsyncContextManager[str]:
        """A new blob for results."""
        return self._store.temporary_blob()

    async def create(self, new: NewJob) -> StoredJob:
        """Raises HttpError 404 when the input file does not exist at the commit."""
        return await self._store.transact(lambda tx: _create_from_file(tx, new))

    async def create_inline(self, new: NewJob, requests: bytes) -> StoredJob:
        """``requests`` are encoded lines, durable before the job is."""
        async with self._store.temporary_blob() as blob:
            await self._store.fill(blob, requests)
            return await self._store.transact(lambda tx: create_job(tx, new, blob, len(requests)))

    async def get(self, name: str) -> StoredJob | None:
        return await self._store.transact(lambda tx: find_job(tx, name))

    async def results(self, job: StoredJob) -> StoredFile | None:
        """The result file of a job that succeeded; None when it has expired."""
        return await self._store.transact(lambda tx: find_file(tx, job.result or ""))

    async def page(self, window: Window) -> list[StoredJob]:
        """Up to one more than the window's size."""
        newest = "SELECT * FROM job WHERE seq < ? ORDER BY seq DESC LIMIT ?"
        return await self._store.transact(lambda tx: tx.rows(StoredJob, newest, window.before, window.size + 1))

    async def update(self, name: str, task: Task, changes: JobChanges) -> StoredJob | None:
        """None when there is no such job of that task."""
        return await self._store.transact(lambda tx: _update(tx, name, task, changes))

    async def cancel(self, name: str) -> bool:
        """Ends a pending job at once; False when there is no such job.

        A running job sends no more requests after at most a second. It ends once its remaining lines are written as
        cancelled.
        """
        return await self._store.transact(lambda tx: cancel_job(tx, name))

    async def delete(self, name: str) -> bool:
        """Deletes the job and its results, and stops it if it runs; False when there is no such job."""
        return await self._store.transact(lambda tx: _delete(tx, name))

    async def claim(self, busy: Collection[str]) -> StoredJob | None:
        """Sets the first live job by priority and age that is not in ``busy`` to running, and returns it."""
        return await self._store.transact_when_possible(lambda tx: _claim(tx, busy))

    async def set_request_count(self, job: StoredJob, requests: int) -> None:
        sql = "UPDATE job SET requests = ? WHERE name = ?"
        await self._store.transact_when_possible(lambda tx: tx.change(sql, requests, job.name))

    async def progress(self, job: StoredJob, counts: Counts) -> Directive:
        """Stores the counts, at most once a second; returns how to proceed."""
        return await self._store.transact_when_possible(lambda tx: record_progress(tx, job, counts))

    async def succeed(self, job: StoredJob, counts: Counts, blob: str, digest: Digest) -> None:
        """Publishes the results as a file, durably; does nothing if the job was deleted."""
        await self._store.sync(blob)
        await self._store.transact_when_possible(lambda tx: _succeed(tx, job, counts, blob, digest))

    async def fail(self, job: StoredJob, reason: str) -> None:
        await self._store.transact_when_possible(lambda tx: end_job(tx, job.name, JobState.FAILED, reason=reason))

    async def sweep(self) -> None:
        """Ends expired jobs."""
        await self._store.sweep(_sweep)


def find_job(tx: Transaction, name: str) -> StoredJob | None:
    return tx.row(StoredJob, "SELECT * FROM job WHERE name = ?", name)


def _create_from_file(tx: Transaction, new: NewJob) -> StoredJob:
    file = find_file(tx, new.file)
    if file is None:
        raise HttpError(404, f"The file {new.file} does not exist, or it has expired.")
    return create_job(tx, new, file.blob, file.bytes)


def create_job(tx: Transaction, new: NewJob, blob: str, size: int) -> StoredJob:
    """``size`` is that of the blob. Raises HttpError 429 beyond a quota."""
    admit_job(tx, new.model, size)
    name = f"batches/{make_id(36)}"
    tx.change(
        "INSERT INTO job"
        " (name, display_name, model, task, file, blob, bytes, webhooks, priority, state, created, updated)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
        name,
        new.display_name,
        new.model,
        new.task,
        new.file,
        blob,
        size,
        new.webhooks,
        new.priority,
        tx.now,
        tx.now,
    )
    tx.record("batch_created", name=name, displayName=new.display_name, model=new.model, file=new.file)
    return existing_job(tx, name)


def existing_job(tx: Transaction, name: str) -> StoredJob:
    job = find_job(tx, name)
    assert job is not None, name
    return job


def _update(tx: Transaction, name: str, task: Task, changes: JobChanges) -> StoredJob | None:
    changed = tx.change(
        "UPDATE job SET display_name = coalesce(?, display_name), priority = coalesce(?, priority), updated = ?"
        " WHERE name = ? AND task = ?",
        changes.display_name,
        changes.priority,
        tx.now,
        name,
        task,
    )
    if not changed:
        return None
    job = existing_job(tx, name)
    tx.record("batch_updated", name=name, displayName=job.display_name, priority=job.priority)
    return job


def cancel_job(tx: Transaction, name: str) -> bool:
    job = find_job(tx, name)
    if job is None or job.ended is not None or job.cancelling:
        return job is not None
    tx.record("batch_cancelled", name=name)
    if job.state is JobState.PENDING:
        end_job(tx, name, JobState.CANCELLED, reason="Batch was cancelled.")
    else:
        tx.change("UPDATE job SET cancelling = 1, updated = ? WHERE name = ?", tx.now, name)
    return True


def _delete(tx: Transaction, name: str) -> bool:
    job = find_job(tx, name)
    if job is None:
        return False
    results = tx.rows(StoredFile, _RESULTS, job.result, name)  # before the job: its OpenAI row is deleted with it
    tx.change("DELETE FROM job WHERE name = ?", name)
    tx.release(job.blob)
    for file in results:
        remove_file(tx, file)
    result = next((file.name for file in results if file.name == job.result), None)
    tx.record("batch_deleted", name=name, result=result)
    return True


def _claim(tx: Transaction, busy: Collection[str]) -> StoredJob | None:
    candidates = tx.rows(StoredJob, _FIRST, len(busy) + 1)
    job = next((job for job in candidates if job.name not in busy), None)
    if job and job.state is JobState.PENDING:
        tx.change("UPDATE job SET state = 'running', updated = ? WHERE name = ?", tx.now, job.name)
    return job


def record_progress(tx: Transaction, job: StoredJob, counts: Counts) -> Directive:
    current = find_job(tx, job.name)
    if current is None or current.ended is not None:
        return "gone"
    if tx.now - current.updated >= PROGRESS_PERIOD:
        tx.change(
            "UPDATE job SET succeeded = ?, failed = ?, updated = ? WHERE name = ?",
            counts.succeeded,
            counts.failed,
            tx.now,
            job.name,
        )
    return "cancelled" if current.cancelling else "continue"


def _succeed(tx: Transaction, job: StoredJob, counts: Counts, blob: str, digest: Digest) -> None:
    current = find_job(tx, job.name)
    if current is None or current.ended is not None:
        return
    result = _result_of(job, blob, digest, tx.now)
    insert_file(tx, result)
    tx.change(
        "UPDATE job SET requests = ?, succeeded = ?, failed = ? WHERE name = ?",
        counts.succeeded + counts.failed,
        counts.succeeded,
        counts.failed,
        job.name,
    )
    end_job(tx, job.name, JobState.SUCCEEDED, result=result)


def _result_of(job: StoredJob, blob: str, digest: Digest, now: float) -> StoredFile:
    prefix = HIDDEN_PREFIX if job.inline else "files/"
    return StoredFile(
        seq=0,
        name=f"{prefix}batch-{job.name.removeprefix('batches/')}",
        display_name="",
        mime_type="application/jsonl",
        bytes=digest.bytes,
        sha256=digest.sha256,
        created=now,
        expires=now + FILE_LIFE,
        source="GENERATED",
        blob=blob,
    )


def _sweep(tx: Transaction) -> bool:
    jobs = tx.rows(StoredJob, _OVERDUE, tx.now - JOB_LIFE, PORTION)
    for job in jobs:
        end_job(tx, job.name, JobState.EXPIRED, reason="Batch expired.")
    return bool(jobs)


def end_job(tx: Transaction, name: str, state: JobState, *, reason: str = "", result: StoredFile | None = None) -> None:
    changed = tx.change(
        "UPDATE job SET state = ?, reason = ?, result = ?, ended = ?, updated = ? WHERE name = ? AND ended IS NULL",
        state.value,
        reason,
        result.name if result else None,
        tx.now,
        tx.now,
        name,
    )
    if not changed:
        return
    job = existing_job(tx, name)
    tx.release(job.blob)
    tx.record(
        "batch_finished",
        name=name,
        state=state.value,
        result=result.name if result else None,
        bytes=result.bytes if result else None,
        sha256=result.sha256 if result else None,
    )
    queue_job_events(tx, job)
