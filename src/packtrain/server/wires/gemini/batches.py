"""Batch jobs: create, get, list, update, cancel, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from ...._io.threads import in_thread, uncancelled
from ...._model import JobState
from ...._options import MIB
from ...._wire.gemini.batches import (
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
from ...._wire.gemini.errors import GRPC_INTERNAL
from ...._wire.gemini.files import encode_time
from ...job_lines import SEPARATOR, InlineRequest, encode_inline_requests
from ...jobs import JobChanges, NewJob
from ...paging import next_token, read_window
from ...replies import HttpError, json_response
from ...routing import Route
from .files import send_blob
from .json_body import VERSION, apply_update_mask, check_utf8, member, members, object_member, read_body, strict_json
from .webhooks import read_webhook_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from ...._model import Task
    from ...blobs import Blobs
    from ...jobs import Jobs, StoredJob
    from ...webhooks.destinations import Destinations
    from ...webhooks.signing_keys import SigningKeys

#: Most bytes of a create with inline requests, as in the real service.
MAX_CREATE_BYTES = 20 * MIB
BATCH = r"/(batches/[^/:]+)"
PACKAGE = "type.googleapis.com/google.ai.generativelanguage.v1main."

_TASKS = {method: task for task, method in METHODS.items()}
_UPDATES: dict[str, Task] = {f"update{TYPES[task]}": task for task in METHODS}
CHANGEABLE = ("displayName", "priority")
#: Of an int64.
MAX_PRIORITY = 2**63 - 1


#: Placeholder for the inline results. This byte never occurs in JSON text.
_RESULTS_MARK = b"\0"


def operation(job: StoredJob, output: Output | None = None) -> Operation:
    """The job as an Operation. ``done`` and ``response`` appear at the end; the metadata repeats the output."""
    ended = job.ended is not None
    kind = PACKAGE + TYPES[job.task]
    succeeded = job.state is JobState.SUCCEEDED
    return Operation(
        name=job.name,
        metadata=Metadata(
            type=kind,
            model=job.model,
            display_name=job.display_name,
            input_config=InputConfig(file_name=job.file),
            priority=_count(job.priority),
            output=output,
            create_time=encode_time(job.created),
            update_time=encode_time(job.updated),
            end_time=encode_time(job.ended) if job.ended is not None else "",
            batch_stats=_stats(job),
            state=encode_state(job.state),
            name=job.name,
        ),
        done=ended,
        error=Failure(code=GRPC_INTERNAL, message=job.reason) if ended and not succeeded else None,
        response=_response(kind, output) if output else None,
    )


def _response(kind: str, output: Output) -> Wrapped:
    kind += "Output"
    return Wrapped(type=kind, responses_file=output.responses_file, inlined_responses=output.inlined_responses)


def operation_of(job: StoredJob) -> Operation:
    """The job with its result file, without inline results."""
    return operation(job, Output(responses_file=job.result) if job.result and not job.inline else None)


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
    """The handlers. ``wake`` announces a new job to the runner."""

    def __init__(
        self, jobs: Jobs, blobs: Blobs, wake: Callable[[], None], *, keys: SigningKeys, destinations: Destinations
    ) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._wake = wake
        self._keys = keys
        self._destinations = destinations

    def routes(self) -> list[Route]:
        one, many = re.compile(VERSION + BATCH), re.compile(VERSION + "/batches")
        cancel = re.compile(rf"{VERSION}{BATCH}:cancel")
        update = re.compile(rf"{VERSION}{BATCH}:({'|'.join(_UPDATES)})")
        create = re.compile(rf"{VERSION}/((?:models|tunedModels)/[^/:]+):({'|'.join(_TASKS)})")
        return [
            Route(name="batches.create", method="POST", pattern=create, handler=self.create),
            Route(name="batches.list", method="GET", pattern=many, handler=self.page),
            Route(name="batches.get", method="GET", pattern=one, handler=self.get),
            Route(name="batches.update", method="PATCH", pattern=update, handler=self.update),
            Route(name="batches.cancel", method="POST", pattern=cancel, handler=self.cancel),
            Route(name="batches.delete", method="DELETE", pattern=one, handler=self.delete),
        ]

    async def create(self, request: web.Request, model: str, method: str) -> web.Response:
        create = await in_thread(_read_create, await read_body(request, MAX_CREATE_BYTES))
        webhooks = await self._webhook_config(create.webhooks)
        new = NewJob(
            model=model,
            task=_TASKS[method],
            display_name=create.display_name,
            file=create.file,
            webhooks=webhooks,
            priority=create.priority,
        )
        job = await (self._jobs.create(new) if new.file else self._jobs.create_inline(new, create.requests))
        self._wake()
        return json_response(operation_of(job))

    async def _webhook_config(self, config: Mapping[str, Raw]) -> str:
        """The configuration as the job stores it. Raises HttpError."""
        webhooks = read_webhook_config(config, self._destinations)
        if webhooks.uris:
            await self._keys.prepare()
        return msgspec.json.encode(webhooks).decode() if config else ""

    async def get(self, request: web.Request, name: str) -> web.StreamResponse:
        job = await self._jobs.get(name)
        if job is None:
            raise _missing(name)
        results = await self._jobs.results(job) if job.inline and job.result else None
        if results is None:
            return json_response(operation_of(job))
        try:
            blob = await uncancelled(self._blobs.reader, results.blob)
        except FileNotFoundError:  # usually deleted meanwhile
            if await self._jobs.results(job):
                raise
            return await self.get(request, name)
        with blob:
            return await self._inlined(request, job, blob, results.bytes)

    async def _inlined(self, request: web.Request, job: StoredJob, blob: BinaryIO, length: int) -> web.StreamResponse:
        """Streams the results from disk, twice, as the real service does."""
        inlined = Output(inlined_responses={"inlinedResponses": Raw(b"[%b]" % _RESULTS_MARK)})
        head, *rest = msgspec.json.encode(operation(job, inlined)).split(_RESULTS_MARK)
        size = length - len(SEPARATOR)
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        response.content_length = len(head) + sum(size + len(piece) for piece in rest)
        await response.prepare(request)
        await response.write(head)
        for piece in rest:
            await send_blob(response, blob, 0, size)
            await response.write(piece)
        return response

    async def page(self, request: web.Request) -> web.Response:
        window = read_window(request.query)
        jobs = await self._jobs.page(window)
        operations = [operation_of(job) for job in jobs[: window.size]]
        return json_response(OperationPage(operations=operations, next_page_token=next_token(jobs, window)))

    async def update(self, request: web.Request, name: str, method: str) -> web.Response:
        body = strict_json(await request.read())
        check_utf8(body)
        values = apply_update_mask(members(body), request.query, CHANGEABLE)
        changes = JobChanges(
            display_name=member(values, "displayName", str, "") if "displayName" in values else None,
            priority=_read_priority(values) if "priority" in values else None,
        )
        job = await self._jobs.update(name, _UPDATES[method], changes)
        if job is None:
            raise _missing(name)
        return json_response(msgspec.structs.replace(operation_of(job).metadata, type=""))

    async def cancel(self, request: web.Request, name: str) -> web.Response:
        if not await self._jobs.cancel(name):
            raise _missing(name)
        return json_response({})

    async def delete(self, request: web.Request, name: str) -> web.Response:
        if not await self._jobs.delete(name):
            raise _missing(name)
        return json_response({})


class CreateRequest(Struct, frozen=True, kw_only=True):
    """Decoded create call: a file name, or requests as lines."""

    display_name: str
    file: str
    requests: bytes
    priority: int
    webhooks: Mapping[str, Raw]


def _read_create(body: bytes) -> CreateRequest:
    """Raises HttpError 400."""
    check_utf8(body)
    batch = object_member(members(strict_json(body)), "batch")
    config = object_member(batch, "inputConfig")
    file = member(config, "fileName", str, "")
    if bool(file) is ("requests" in config):
        raise HttpError(400, "batch.inputConfig: give either fileName or requests.")
    items = member(object_member(config, "requests"), "requests", list[InlineRequest], [])
    return CreateRequest(
        display_name=member(batch, "displayName", str, ""),
        file=file,
        requests=b"" if file else encode_inline_requests(items),
        priority=_read_priority(batch),
        webhooks=object_member(batch, "webhookConfig"),
    )


def _read_priority(values: Mapping[str, Raw]) -> int:
    """An int64, as a number or as text. Raises HttpError 400."""
    text = bytes(values.get("priority", b"0")).strip(b'"')
    if not re.fullmatch(b"-?[0-9]{1,19}", text) or abs(priority := int(text)) > MAX_PRIORITY:
        raise HttpError(400, "batch.priority is not an int64.")
    return priority


def _missing(name: str) -> HttpError:
    return HttpError(404, f"The batch {name} does not exist.")
