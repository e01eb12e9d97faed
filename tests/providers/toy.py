"""A second service, small and in this process, whose abilities vary.

It keeps files and jobs, answers lines of a shape of its own, and misbehaves by plan. ``Variant`` says what it can do;
``ToyProvider`` is the client's side of it. Nothing outside this module knows that it exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from packtrain import ApiError, Service, TransportError
from packtrain._model import FileState, JobPage, JobState, Limits, RemoteFile, RemoteJob
from packtrain._providers.base import Capabilities
from packtrain._rules.lines import LineShape
from packtrain._rules.upload import Answer
from packtrain.testing.providers import Faults, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from packtrain._io.request_file import ShardReader
    from packtrain._model import Task
    from packtrain._providers.base import OffsetUploads, PartUploads, Provider, WholeUploads

SHAPE = LineShape(key="id", request="ask", response="said", error="fault", passing=("BUSY",), lasting=("NONSENSE",))
PART_BYTES = 100


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the service can do."""

    upload: Literal["offsets", "parts", "whole", "inline"] = "offsets"
    chosen_names: bool = True
    tags: bool = True
    refuses_at_create: bool = True
    cursor: bool = True
    results: Literal["file", "files", "reply"] = "file"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            upload=self.upload,
            chosen_names=self.chosen_names,
            tags=self.tags,
            lists_input_file=self.upload != "inline",
            cursor=self.cursor,
            page_size=1 if self.cursor else 50,
            job_name=r"job-\d+",
            job_example="job-7",
            lines=SHAPE,
        )


@dataclass
class File:
    content: bytes
    display_name: str = ""


@dataclass
class Job:
    name: str
    tag: str
    file: str
    content: bytes
    visible_at: float
    #: It ends without having run, for this reason.
    refusal: str = ""
    looks: int = 0
    cancelled: bool = False

    @property
    def shard(self) -> int:
        """By the number of its first line."""
        return int(json.loads(self.content.splitlines()[0])["id"].rpartition("-")[2]) // 5

    def state(self) -> JobState:
        if self.refusal:
            return JobState.FAILED
        if self.cancelled:
            return JobState.CANCELLED
        return (JobState.PENDING, JobState.RUNNING, JobState.SUCCEEDED)[min(self.looks, 2)]


@dataclass
class Left:
    """How many more times each fault strikes."""

    faults: Faults
    counts: Counter[str] = field(default_factory=Counter)

    def strikes(self, fault: str) -> bool:
        self.counts[fault] += 1
        return self.counts[fault] <= int(getattr(self.faults, fault))


class ToyService:
    """Files and jobs, whatever client is connected."""

    def __init__(self, variant: Variant, faults: Faults) -> None:
        self.variant = variant
        self.faults = faults
        self.left = Left(faults)
        self.files: dict[str, File] = {}
        self.jobs: dict[str, Job] = {}
        self.uploads: dict[str, tuple[str, str, bytearray, dict[int, bytes]]] = {}
        #: A create on its way, until a deletion.
        self.late: tuple[str, str, bytes | None] | None = None
        self._numbers = itertools.count(1)

    def number(self) -> int:
        return next(self._numbers)

    def store(self, name: str, display_name: str, content: bytes) -> RemoteFile:
        name = name if self.variant.chosen_names else f"file-{self.number()}"
        self.files[name] = File(content, display_name)
        return self.described(name)

    def described(self, name: str) -> RemoteFile:
        file = self.files[name]
        return RemoteFile(
            name=name,
            state=FileState.READY,
            bytes=len(file.content),
            sha256=hashlib.sha256(file.content).hexdigest(),
            display_name=file.display_name,
        )

    def accept(self, tag: str, file: str, content: bytes | None, *, refusal: str = "") -> Job:
        """A create arrives. Raises ApiError when it is refused at once."""
        if content is None and file in self.files:
            content = self.files[file].content
        elif content is None:
            refusal = f"there is no file {file}"
            if self.variant.refuses_at_create:
                raise ApiError(refusal, status=404, kind="file_gone")
        visible_at = anyio.current_time() + self.faults.list_lag
        job = Job(f"job-{self.number()}", tag, file, content or b"", visible_at, refusal)
        self.jobs[job.name] = job
        return job

    def shown(self, job: Job) -> RemoteJob:
        state, job.looks = job.state(), job.looks + 1
        results = self.results(job) if state is JobState.SUCCEEDED else (None, None)
        return RemoteJob(
            name=job.name,
            state=state,
            display_name=job.tag if self.variant.tags else "",
            input_file="" if self.variant.upload == "inline" else job.file,
            result_file=results[0],
            error_file=results[1],
            reason=job.refusal,
            never_started=bool(job.refusal),
        )

    def results(self, job: Job) -> tuple[str | None, str | None]:
        """Names of the files of answers and of errors. Of two files, one with nothing in it is not made."""
        rows = [_answered(json.loads(line)) for line in job.content.splitlines()]
        match self.variant.results:
            case "reply":
                return job.name, None
            case "file":
                return self._results(job, "results", rows), None
            case "files":
                answers = [row for row in rows if "said" in row]
                errors = [row for row in rows if "fault" in row]
                return self._results(job, "results", answers), self._results(job, "errors", errors)

    def _results(self, job: Job, what: str, rows: list[dict[str, object]]) -> str | None:
        name = f"{what}-of-{job.name}"
        if rows and name not in self.files:
            self.files[name] = File("".join(json.dumps(row) + "\n" for row in rows).encode())
        return name if rows else None

    def content(self, name: str) -> bytes:
        """Of results by their name, which for results in the reply is the job's."""
        if name in self.jobs:
            rows = [_answered(json.loads(line)) for line in self.jobs[name].content.splitlines()]
            return "".join(json.dumps(row) + "\n" for row in rows).encode()
        if name not in self.files:
            raise ApiError(f"there is no file {name}", status=404, kind="absent")
        return self.files[name].content


def _answered(row: dict[str, dict[str, str]]) -> dict[str, object]:
    if "fail" in row["ask"]:
        return {"id": row["id"], "fault": {"code": "NONSENSE", "message": row["ask"]["fail"]}}
    return {"id": row["id"], "said": {"text": f"you said {row['ask']['text']}"}}


class ToyDownload:
    """Implements ``Download``."""

    vouched = True

    def __init__(self, content: bytes, offset: int, *, cut: bool) -> None:
        self.offset = offset
        self.total: int | None = len(content)
        self.etag: str | None = hashlib.sha256(content).hexdigest()
        self._content = content
        self._cut = cut

    async def pieces(self) -> AsyncIterator[bytes]:
        rest = self._content[self.offset :]
        if self._cut:
            yield rest[: len(rest) // 2]
            raise TransportError("the connection broke")
        yield rest


async def read(reader: ShardReader, offset: int, length: int) -> bytes:
    """So many bytes of a shard."""
    data = b""
    while len(data) < length:
        data += await anyio.to_thread.run_sync(reader.read, offset + len(data), length - len(data))
    return data


class Offsets:
    """Implements ``OffsetUploads``."""

    def __init__(self, service: ToyService) -> None:
        self._service = service

    async def start_upload(self, *, name: str, display_name: str, size: int) -> Answer:
        if self._service.variant.chosen_names and name in self._service.files:
            return Answer(status=409)
        session = f"session-{self._service.number()}"
        self._service.uploads[session] = (name, display_name, bytearray(), {})
        return Answer(status=200, upload_status="active", session=session)

    async def send(self, session: str, reader: ShardReader, *, offset: int, length: int, finalize: bool) -> Answer:
        name, display_name, data, _ = self._service.uploads[session]
        assert offset == len(data), "the client sends from where the service is"
        data += await read(reader, offset, length)
        if finalize:
            self._service.store(name, display_name, bytes(data))
        if self._service.left.strikes("lost_uploads"):
            raise TransportError("the reply is lost")
        return Answer(status=200, upload_status="final" if finalize else "active", received=len(data))

    async def query_upload(self, session: str) -> Answer:
        name, _, data, _ = self._service.uploads[session]
        final = name in self._service.files
        return Answer(status=200, upload_status="final" if final else "active", received=len(data))

    def owns(self, session: str) -> bool:
        return session in self._service.uploads

    def read_receipt(self, receipt: bytes) -> RemoteFile | None:
        return None


class Parts:
    """Implements ``PartUploads``."""

    part_bytes = PART_BYTES

    def __init__(self, service: ToyService) -> None:
        self._service = service

    async def open_parts(self, *, name: str, display_name: str, size: int) -> str:
        session = f"session-{self._service.number()}"
        self._service.uploads[session] = (name, display_name, bytearray(), {})
        return session

    async def send_part(self, session: str, reader: ShardReader, *, number: int, offset: int, length: int) -> str:
        parts = self._parts(session)[3]
        parts[number] = await read(reader, offset, length)
        if self._service.left.strikes("lost_uploads"):
            raise TransportError("the reply is lost")
        return f"{session}-part-{number}"

    async def complete_parts(self, session: str, parts: tuple[str, ...]) -> RemoteFile:
        name, display_name, _, stored = self._parts(session)
        del self._service.uploads[session]
        content = b"".join(stored[int(part.rpartition("-")[2])] for part in parts)
        file = self._service.store(name, display_name, content)
        if self._service.left.strikes("lost_uploads"):
            raise TransportError("the reply is lost")
        return file

    def _parts(self, session: str) -> tuple[str, str, bytearray, dict[int, bytes]]:
        if session not in self._service.uploads:
            raise ApiError(f"there is no upload {session}", status=404, kind="absent")
        return self._service.uploads[session]


class Whole:
    """Implements ``WholeUploads``."""

    def __init__(self, service: ToyService) -> None:
        self._service = service

    async def upload(self, reader: ShardReader, *, name: str, display_name: str, size: int) -> RemoteFile:
        file = self._service.store(name, display_name, await read(reader, 0, size))
        if self._service.left.strikes("lost_uploads"):
            raise TransportError("the reply is lost")
        return file


class ToyProvider:
    """Implements ``Provider``: one client's side of the service."""

    def __init__(self, service: ToyService) -> None:
        self._service = service
        self.capabilities = service.variant.capabilities
        self.uploads = self._uploads()

    def _uploads(self) -> OffsetUploads | PartUploads | WholeUploads | None:
        match self.capabilities.upload:
            case "offsets":
                return Offsets(self._service)
            case "parts":
                return Parts(self._service)
            case "whole":
                return Whole(self._service)
            case "inline":
                return None

    def now(self) -> float | None:
        return None

    async def find_file(self, name: str) -> RemoteFile | None:
        return self._service.described(name) if name in self._service.files else None

    async def delete_file(self, name: str) -> None:
        service = self._service
        service.files.pop(name, None)
        if service.late is not None:
            late, service.late = service.late, None
            with contextlib.suppress(ApiError):
                service.accept(*late)

    async def create(
        self, *, model: str, task: Task, tag: str, file: str, requests: ShardReader | None = None
    ) -> RemoteJob:
        content = None
        if requests is not None:
            content = await read(requests, 0, requests.size)
        return self._arrived(tag if self.capabilities.tags else "", file, content)

    def _arrived(self, tag: str, file: str, content: bytes | None) -> RemoteJob:
        service, left = self._service, self._service.left
        if left.strikes("lost_creates"):
            raise TransportError("the connection broke")
        if left.strikes("late_create"):
            service.late = (tag, file, content)
            raise TransportError("the connection broke")
        busy = left.strikes("throttled")
        if busy and service.variant.refuses_at_create:
            raise ApiError("too much is enqueued", status=429, kind="throttled")
        job = service.accept(tag, file, content, refusal="too much is enqueued" if busy else "")
        if left.strikes("delivered_twice"):
            service.accept(tag, file, content)
        if left.strikes("lost_replies"):
            raise TransportError("the reply is lost")
        return service.shown(job)

    async def find_job(self, name: str) -> RemoteJob | None:
        job = self._service.jobs.get(name)
        if job is None or self._service.left.strikes("lookups_404"):
            return None
        return self._service.shown(job)

    async def list_page(self, token: str | None) -> JobPage:
        """The newest first."""
        service = self._service
        if service.jobs and service.left.strikes("void_pages"):
            return JobPage((), None)
        if service.left.counts["lookups_404"] < service.faults.lookups_404:
            return JobPage((), None)
        now = anyio.current_time()
        jobs = [job for job in reversed(service.jobs.values()) if job.visible_at <= now]
        if not self.capabilities.cursor:
            return JobPage(tuple(map(service.shown, jobs[: self.capabilities.page_size])), None)
        start = int(token or 0)
        page = jobs[start : start + self.capabilities.page_size]
        behind = start + len(page)
        return JobPage(tuple(map(service.shown, page)), str(behind) if behind < len(jobs) else None)

    async def cancel(self, name: str) -> None:
        job = self._service.jobs.get(name)
        if job is not None and not job.state().terminal:
            job.cancelled = True

    @contextlib.asynccontextmanager
    async def download(self, name: str, *, offset: int, etag: str | None = None) -> AsyncIterator[ToyDownload]:
        content, ranges = self._service.content(name), self._service.variant.results != "reply"
        cut = self._service.left.strikes("cut_downloads")
        yield ToyDownload(content, offset if ranges else 0, cut=cut)


class Toy:
    """The service while it runs, for the suite."""

    def __init__(self, service: ToyService) -> None:
        self._service = service
        self.provider: Provider = ToyProvider(service)
        limits = Limits(shard_bytes=10**6, live_jobs=10, stored_bytes=10**8)
        self.service = Service(origin="http://127.0.0.1:1", limits=limits, poll=(0.01, 0.05), settle=0.1)

    def line(self, number: int) -> dict[str, object]:
        return {"id": f"line-{number}", "ask": {"text": text(number)}}

    def key(self, row: dict[str, object]) -> object:
        return row["id"]

    async def jobs(self) -> list[int]:
        """Of those that ran, or may have."""
        return list(Counter(job.shard for job in self._service.jobs.values() if not job.refusal).values())


@contextlib.asynccontextmanager
async def serve(variant: Variant, faults: Faults) -> AsyncIterator[Toy]:
    yield Toy(ToyService(variant, faults))


VARIANTS = {
    "upload by offset": Variant(),
    "upload by parts": Variant(upload="parts"),
    "upload by parts, ids of the service": Variant(upload="parts", chosen_names=False),
    "upload in one call": Variant(upload="whole"),
    "upload in one call, ids of the service": Variant(upload="whole", chosen_names=False),
    "no upload": Variant(upload="inline"),
    "a job that fails before it starts": Variant(refuses_at_create=False),
    "a list without a cursor": Variant(cursor=False),
    "a list without tags": Variant(tags=False),
    "a list without tags, ids of the service": Variant(upload="whole", chosen_names=False, tags=False),
    "results in two files": Variant(results="files"),
    "results in the reply": Variant(results="reply"),
    "all that differs at once": Variant(
        upload="parts", chosen_names=False, tags=False, refuses_at_create=False, cursor=False, results="files"
    ),
    "no upload, results in the reply": Variant(upload="inline", results="reply", cursor=False),
}
