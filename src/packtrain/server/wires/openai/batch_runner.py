"""Runner of batches: validates the input file, answers it block by block, publishes the results.

A batch interrupted by a crash starts again from its input; its partial results are removed at the next start.
"""

from __future__ import annotations

from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

from ...._io.threads import in_thread, uncancelled
from ...._wire.openai.batches import CANCELLED, EXPIRED, RowFailure
from ...backends.calls import answer_block
from ...blobs import Digest
from ...disk_full import retry_until_space
from ...job_lines import BLOCK_ROWS
from .batch_lines import BatchReader, BatchWriter, requests_of
from .batch_store import ResultBlob
from .translation import resource
from .validation import validate

if TYPE_CHECKING:
    from typing import BinaryIO

    from ...backends.backend import Backend
    from ...blobs import Blobs
    from ...jobs import StoredJob
    from .batch_lines import Line
    from .batch_store import OpenAIBatches, StoredBatch

#: Errors of the lines that were not answered.
_FAILURES = {
    "cancelled": RowFailure(code=CANCELLED, message="The batch was cancelled before this request was answered."),
    "expired": RowFailure(code=EXPIRED, message="The batch expired before this request was answered."),
}


class BatchRunner:
    """Runs the jobs of the OpenAI wire."""

    def __init__(self, batches: OpenAIBatches, blobs: Blobs, backend: Backend) -> None:
        self._batches = batches
        self._blobs = blobs
        self._backend = backend

    async def serve(self, job: StoredJob) -> bool:
        """False when the job belongs to the Gemini wire. Raises what the backend raises."""
        batch = await self._batches.get(job.name)
        if batch is None:
            return False
        with await uncancelled(self._blobs.reader, batch.blob) as file:
            size = await in_thread(self._blobs.size, batch.blob)
            findings = await in_thread(validate, file, size, batch.endpoint, self._batches.limits)
            if findings.errors:
                await self._batches.reject(batch, findings.errors)
            elif await self._batches.begin(batch, findings.model, findings.requests):
                await self._answer(batch, resource(findings.model), file)
        return True

    async def _answer(self, batch: StoredBatch, model: str, file: BinaryIO) -> None:
        async with self._batches.temporary_blob() as output, self._batches.temporary_blob() as errors:
            with (
                await uncancelled(self._blobs.appender, output, Digest()) as answers,
                await uncancelled(self._blobs.appender, errors, Digest()) as failures,
            ):
                results = BatchWriter(answers, failures)
                directive = await self._copy(batch, model, BatchReader(file, batch), results)
            if directive != "gone":
                products = ResultBlob(output, answers.digest), ResultBlob(errors, failures.digest)
                await self._batches.finish(batch, directive, results.counts, *products)

    async def _copy(
        self, batch: StoredBatch, model: str, lines: BatchReader, results: BatchWriter
    ) -> Literal["continue", "cancelled", "expired", "gone"]:
        """Answers until the end of the file, or until the batch is cancelled, expired or deleted."""

        async def wanted() -> bool:
            return await self._batches.progress(batch, results.counts) == "continue"

        block: list[Line] = []
        directive = await self._batches.progress(batch, results.counts)
        while directive == "continue" and (block := await in_thread(lines.block, self._backend.rows)):
            answers = await answer_block(self._backend, requests_of(block), task=batch.task, model=model, wanted=wanted)
            if answers is not None:
                await retry_until_space(partial(in_thread, results.write, block, answers))
                block = []
            directive = await self._batches.progress(batch, results.counts)
        if directive in _FAILURES:
            remaining = chain(((line.tag, line.custom_id) for line in block), lines.remaining())
            while part := await in_thread(list, islice(remaining, BLOCK_ROWS)):
                await retry_until_space(partial(in_thread, results.write_failures, part, _FAILURES[directive]))
        return directive
