"""Batch jobs: create, get, list, cancel, delete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..._model import BatchState
from ..._wire.gemini.batches import (
    METHODS,
    TYPES,
    BatchStats,
    Failure,
    InputConfig,
    Metadata,
    Operation,
    OperationPage,
    Output,
    Wrapped,
    encode_state,
)
from ..._wire.gemini.errors import GRPC_INTERNAL
from ..._wire.gemini.files import encode_time
from ..answers import Refusal, answer
from ..jobs import NewJob
from ..paging import next_token, read_window
from ..routing import Route
from .bodies import VERSION, inner, member, members

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from ..jobs import Jobs, StoredJob

BATCH = r"/(batches/[^/:]+)"
PACKAGE = "type.googleapis.com/google.ai.generativelanguage.v1main."

_TASKS = {method: task for task, method in METHODS.items()}


def operation(job: StoredJob) -> Operation:
    """``done`` and ``response`` are left out until the end; the output stands in the metadata as well."""
    ended = job.ended is not None
    kind = PACKAGE + TYPES[job.task]
    succeeded = job.state is BatchState.SUCCEEDED
    return Operation(
        name=job.name,
        metadata=Metadata(
            type=kind,
            model=job.model,
            display_name=job.display_name,
            input_config=InputConfig(file_name=job.file),
            output=Output(responses_file=job.result) if job.result else None,
            create_time=encode_time(job.created),
            update_time=encode_time(job.updated),
            end_time=encode_time(job.ended) if job.ended is not None else "",
            batch_stats=_stats(job),
            state=encode_state(job.state),
            name=job.name,
        ),
        done=ended,
        error=Failure(code=GRPC_INTERNAL, message=job.reason) if ended and not succeeded else None,
        response=Wrapped(type=kind + "Output", responses_file=job.result) if job.result else None,
    )


def _stats(job: StoredJob) -> BatchStats:
    return BatchStats(
        request_count=_count(job.requests),
        successful_request_count=_count(job.succeeded),
        failed_request_count=_count(job.failed),
        pending_request_count=_count(max(job.requests - job.succeeded - job.failed, 0)),
    )


def _count(number: int) -> str:
    return str(number) if number else ""


class BatchRoutes:
    """The handlers. ``wake`` tells the runner that there is work."""

    def __init__(self, jobs: Jobs, wake: Callable[[], None]) -> None:
        self._jobs = jobs
        self._wake = wake

    def routes(self) -> list[Route]:
        one, many = re.compile(VERSION + BATCH), re.compile(VERSION + "/batches")
        cancel = re.compile(rf"{VERSION}{BATCH}:cancel")
        create = re.compile(rf"{VERSION}/((?:models|tunedModels)/[^/:]+):({'|'.join(_TASKS)})")
        return [
            Route(name="batches.create", method="POST", pattern=create, handler=self.create),
            Route(name="batches.list", method="GET", pattern=many, handler=self.page),
            Route(name="batches.get", method="GET", pattern=one, handler=self.get),
            Route(name="batches.cancel", method="POST", pattern=cancel, handler=self.cancel),
            Route(name="batches.delete", method="DELETE", pattern=one, handler=self.delete),
        ]

    async def create(self, request: web.Request, model: str, method: str) -> web.Response:
        batch = inner(members(await request.read()), "batch")
        config = inner(batch, "inputConfig")
        file = member(config, "fileName", str, "")
        if not file:
            reason = "inline requests are not supported yet" if "requests" in config else "it is missing"
            raise Refusal(400, f"batch.inputConfig.fileName: {reason}; upload a file and name it here.")
        display_name = member(batch, "displayName", str, "")
        job = await self._jobs.create(NewJob(model=model, task=_TASKS[method], display_name=display_name, file=file))
        self._wake()
        return answer(operation(job))

    async def get(self, request: web.Request, name: str) -> web.Response:
        job = await self._jobs.get(name)
        if job is None:
            raise _missing(name)
        return answer(operation(job))

    async def page(self, request: web.Request) -> web.Response:
        window = read_window(request.query)
        found = await self._jobs.page(window)
        operations = [operation(job) for job in found[: window.size]]
        return answer(OperationPage(operations=operations, next_page_token=next_token(found, window)))

    async def cancel(self, request: web.Request, name: str) -> web.Response:
        if not await self._jobs.cancel(name):
            raise _missing(name)
        return answer({})

    async def delete(self, request: web.Request, name: str) -> web.Response:
        if not await self._jobs.delete(name):
            raise _missing(name)
        return answer({})


def _missing(name: str) -> Refusal:
    return Refusal(404, f"The batch {name} does not exist.")
