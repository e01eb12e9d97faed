"""Background runner of jobs: block by block from disk to disk, several jobs at a time.

Results go to a new blob that no row names; they become a file in the transaction that ends the job. A job interrupted
by a crash starts again with a new blob; the next start of the service removes the old one.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

from .._errors import ManifestError, PacktrainError
from .._io.threads import in_thread, uncancelled
from .backends.backend import CancelledBackend, cancelled_answers
from .backends.calls import answer_block
from .blobs import Digest
from .disk_full import RETRY_DELAY, DiskFullError, retry_until_space
from .job_lines import FileFormat, InlineFormat, RequestReader, ResultWriter, count_lines

if TYPE_CHECKING:
    from .backends.backend import Backend
    from .blobs import Blobs
    from .jobs import Directive, Jobs, StoredJob

_log = logging.getLogger(__name__)


class JobHandler(Protocol):
    """Runs the jobs of one wire."""

    async def serve(self, job: StoredJob) -> bool:
        """Runs the job to its end; False when it belongs to another wire. Raises as a backend does."""
        ...


class Runner:
    """Runs jobs by priority and age, at most ``workers`` at a time."""

    def __init__(self, jobs: Jobs, blobs: Blobs, backend: Backend, handler: JobHandler, *, workers: int) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._backend = backend
        self._handler = handler
        self._workers = workers
        self._claiming = anyio.Lock()
        self._busy: set[str] = set()
        self._work = anyio.Event()

    def wake(self) -> None:
        """Announces a new job."""
        self._work.set()
        self._work = anyio.Event()

    async def run(self) -> None:
        """Runs until cancelled. Jobs left unfinished by an earlier process come first."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._workers):
                tasks.start_soon(self._worker)

    async def _worker(self) -> None:
        while True:
            work = self._work  # taken before the query, so that no wake-up is missed
            job = await self._claim()
            if job is None:
                await work.wait()
                continue
            try:
                await self._serve(job)
            finally:
                self._busy.discard(job.name)

    async def _claim(self) -> StoredJob | None:
        async with self._claiming:
            job = await self._jobs.claim(self._busy)
            if job:
                self._busy.add(job.name)
            return job

    async def _serve(self, job: StoredJob) -> None:
        try:
            if not await self._handler.serve(job):
                await self._answer(job)
        except ManifestError:
            raise
        except DiskFullError as error:  # before the first request: the job starts again later
            _log.warning("%s waits: %s", job.name, error, extra={"action": "disk_full"})
            await anyio.sleep(RETRY_DELAY)
        except PacktrainError as error:
            _log.warning("%s failed: %s", job.name, error, extra={"action": "job_failed"})
            await self._jobs.fail(job, str(error))
        except OSError as error:  # its text has the names of blobs, which stay internal
            _log.warning("%s failed: %s", job.name, error, extra={"action": "job_failed"})
            await self._jobs.fail(job, f"The service cannot use the stored data of this job: {error.strerror}.")

    async def _answer(self, job: StoredJob) -> None:
        async with self._jobs.temporary_blob() as blob:
            with (
                await uncancelled(self._blobs.reader, job.blob) as requests,
                await uncancelled(self._blobs.appender, blob, Digest()) as answers,
            ):
                await self._jobs.set_request_count(job, await in_thread(count_lines, requests))
                format = InlineFormat() if job.inline else FileFormat()
                results = ResultWriter(answers, format)
                deleted = await self._copy(job, RequestReader(requests, format), results) == "gone"
            if not deleted:
                await self._jobs.succeed(job, results.counts, blob, answers.digest)

    async def _copy(self, job: StoredJob, requests: RequestReader, results: ResultWriter) -> Directive:
        """Answers until the end of the file, or until the job is gone. The rest of a cancelled job gets errors."""

        async def wanted() -> bool:
            return await self._jobs.progress(job, results.counts) == "continue"

        backend = self._backend
        directive: Directive = "continue"
        while directive != "gone" and (block := await in_thread(requests.block, backend.rows)).rows:
            answers = await answer_block(backend, block.requests, task=job.task, model=job.model, wanted=wanted)
            answers = answers or cancelled_answers(block.requests)
            await retry_until_space(partial(in_thread, results.write, block, answers))
            directive = await self._jobs.progress(job, results.counts)
            backend = CancelledBackend() if directive == "cancelled" else backend
        return directive
