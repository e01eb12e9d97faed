"""Batch jobs: create, get, list, cancel, delete, and the lines of their files.

The real service answers with an Operation whose ``metadata`` describes the job. Its output is in
``metadata.output`` and again in ``response``; its states are ``BATCH_STATE_*``. A reader looks in all four places
where an output has been met, and takes ``JOB_STATE_*`` too.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from ..._errors import ProtocolError
from ..._model import JobPage, JobState, RemoteJob, Task
from ..http import Call, Reply
from .files import VERSION, checked, decode_time, file_path

METHODS: dict[Task, str] = {"generate": "batchGenerateContent", "embed": "asyncBatchEmbedContent"}
TYPES: dict[Task, str] = {"generate": "GenerateContentBatch", "embed": "EmbedContentBatch"}
_MODEL = "models/"
#: What the name of a job looks like, and an example.
JOB_NAME, JOB_EXAMPLE = re.compile(r"batches/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"), "batches/abc"
#: Always given: without it the list has been seen empty while jobs were pending.
PAGE_SIZE = 100
#: A longer token would not fit the first line of a request.
_LONGEST_TOKEN = 4096

T = TypeVar("T")

_STATES = {state.name: state for state in JobState}
#: The members of a page.
_PAGE = frozenset({"operations", "nextPageToken", "unreachable"})


class Output(Struct, frozen=True, rename="camel", omit_defaults=True):
    responses_file: str = ""
    inlined_responses: dict[str, Any] | None = None


class Wrapped(Struct, frozen=True, rename="camel", omit_defaults=True):
    """An output, or an object that has one inside, whatever the service's release calls for."""

    responses_file: str = ""
    inlined_responses: dict[str, Any] | None = None
    output: Output | None = None
    state: str = ""
    type: str = msgspec.field(default="", name="@type")


class InputConfig(Struct, frozen=True, rename="camel", omit_defaults=True):
    file_name: str = ""


class BatchStats(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """int64 travels as text, zeros are left out."""

    request_count: int | str = ""
    successful_request_count: int | str = ""
    failed_request_count: int | str = ""
    pending_request_count: int | str = ""


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    code: int = 0
    message: str = ""


class Metadata(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    type: str = msgspec.field(default="", name="@type")
    model: str = ""
    display_name: str = ""
    input_config: InputConfig = InputConfig()
    priority: int | str = ""
    output: Output | None = None
    create_time: str = ""
    update_time: str = ""
    end_time: str = ""
    batch_stats: BatchStats = BatchStats()
    state: str = ""
    name: str = ""


class Operation(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    name: str = ""
    metadata: Metadata = Metadata()
    done: bool = False
    error: Failure | None = None
    response: Wrapped | None = None
    output: Output | None = None
    state: str = ""


class OperationPage(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    operations: list[Operation] = []
    next_page_token: str = ""


class RawPage(Struct, frozen=True, rename="camel"):
    """As it is read: an item that cannot be understood does not take the others along."""

    operations: list[Raw] = []
    next_page_token: str = ""


def create(*, model: str, task: Task, display_name: str, file: str, seconds: float) -> Call:
    """``seconds`` bound how late the service may still accept a create whose answer we no longer wait for."""
    model = model if "/" in model else _MODEL + model
    batch = {"displayName": display_name, "inputConfig": {"fileName": file_path(file)}}
    return Call(
        name="create.post",
        operation="create of a job",
        method="POST",
        target=f"/{VERSION}/{quote(model, safe='/:@')}:{METHODS[task]}",
        headers=(("Content-Type", "application/json"), ("X-Server-Timeout", f"{max(1.0, seconds):.0f}")),
        body=msgspec.json.encode({"batch": batch}),
    )


def get(name: str) -> Call:
    return Call(name="job.get", operation="look-up of a job", method="GET", target=f"/{VERSION}/{checked(name)}")


def cancel(name: str) -> Call:
    return Call(
        name="job.cancel", operation="cancellation of a job", method="POST", target=f"/{VERSION}/{checked(name)}:cancel"
    )


def delete(name: str) -> Call:
    return Call(name="job.delete", operation="deletion of a job", method="DELETE", target=f"/{VERSION}/{checked(name)}")


def list_page(token: str | None) -> Call:
    query = [("pageSize", str(PAGE_SIZE))]
    if token:
        query.append(("pageToken", token))
    return Call(
        name="job.list", operation="list of jobs", method="GET", target=f"/{VERSION}/batches", query=tuple(query)
    )


def read_job(reply: Reply) -> RemoteJob:
    """Raises ProtocolError when the answer describes no job."""
    return to_remote(_decode(reply.body, Operation))


def read_page(reply: Reply) -> JobPage:
    """Raises ProtocolError for what is no page; items that describe no job are kept apart."""
    page = _decode(reply.body, RawPage)
    if len(page.next_page_token) > _LONGEST_TOKEN:
        raise ProtocolError(f"list of jobs: the service gave a page token of {len(page.next_page_token)} characters")
    if not page.operations and not page.next_page_token and not _PAGE.issuperset(_decode(reply.body, dict[str, Raw])):
        raise ProtocolError("the service answered with something that is no list of jobs")  # which would look empty
    found: list[RemoteJob] = []
    unreadable: list[str] = []
    for item in page.operations:
        try:
            found.append(to_remote(_decode(item, Operation)))
        except ProtocolError:
            unreadable.append(bytes(item).decode("utf-8", "backslashreplace"))
    return JobPage(tuple(found), page.next_page_token or None, tuple(unreadable))


def to_remote(operation: Operation) -> RemoteJob:
    meta, response = operation.metadata, operation.response
    state = decode_state(meta.state or (response.state if response else "") or operation.state)
    count = meta.batch_stats.request_count
    try:
        return RemoteJob(
            name=_of_a_job(operation.name or meta.name),
            state=state,
            display_name=meta.display_name,
            input_file=meta.input_config.file_name,
            result_file=_result_file(operation),
            created_at=decode_time(meta.create_time),
            reason=operation.error.message if operation.error else "",
            requests=int(count) if count != "" else None,
            model=meta.model.removeprefix(_MODEL),
        )
    except ValueError as error:
        raise ProtocolError(f"the service described a job in a way that we can't read: {error}") from error


def _of_a_job(name: str) -> str:
    if not JOB_NAME.fullmatch(name):
        raise ProtocolError(f"{name[:80]!r} is not the name of a job")
    return name


def _result_file(operation: Operation) -> str | None:
    response = operation.response
    places = (
        operation.metadata.output,
        response,
        response.output if response else None,
        operation.output,
    )
    name = next((place.responses_file for place in places if place and place.responses_file), None)
    return checked(name) if name else None


def decode_state(word: str) -> JobState:
    return _STATES.get(word.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_"), JobState.UNKNOWN)


def encode_state(state: JobState) -> str:
    return f"BATCH_STATE_{state.name}"


def _decode(body: bytes | Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the service described a job in a way that we can't read: {error}") from error
