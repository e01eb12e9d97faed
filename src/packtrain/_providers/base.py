"""The seam to a batch service: one protocol, and what differs between services as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from msgspec import Struct

from .._errors import InputError
from .._rules.diagnosis import RequestForm
from .._rules.lines import LineShape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from .._io.request_file import ShardReader
    from .._model import JobPage, RemoteFile, RemoteJob, Task
    from .._rules.upload import Answer


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a service can do, as data. The driver reads these fields and never the name of a service."""

    #: ``offsets``: one session, bytes from an offset that the service confirms. ``parts``: numbered parts, each sent
    #: again alone, then one call that completes them. ``whole``: one call. ``inline``: the create carries the lines,
    #: and there is no file.
    upload: Literal["offsets", "parts", "whole", "inline"]
    #: The client chooses the name of an input file; otherwise the service gives it an id when the upload is done.
    chosen_names: bool
    #: The list of jobs shows the tag that a create has given its job.
    tags: bool
    #: The list of jobs shows the input file of each; the way to find a job without a tag.
    lists_input_file: bool
    #: The list has further pages; otherwise a list that has ``page_size`` jobs may hide older ones.
    cursor: bool
    page_size: int
    #: What a job's name looks like, as a regular expression, and an example for people.
    job_name: str
    job_example: str
    #: The members of a request line and of a result line, and which errors pass.
    lines: LineShape = LineShape()
    #: What the requests of each task look like, to name an input of another kind.
    requests: Mapping[str, RequestForm] = {}


def check_capabilities(able: Capabilities) -> None:
    """Raises InputError for a service at which a create with a lost reply could not be found again."""
    if not able.tags and not able.lists_input_file:
        raise InputError("the list of jobs shows neither our tag nor the input file, so a paid job could be lost")


class Download(Protocol):
    """The body of a result file, from ``offset`` on."""

    #: Offset of the first piece in the file: the one asked for, or 0 when the service ignores ranges.
    offset: int
    #: Length of the whole file in bytes, if the service gives it.
    total: int | None
    #: The service's identifier of these very bytes, if it gives one.
    etag: str | None
    #: Whether a body that ends early can be distinguished from a whole one.
    vouched: bool

    def pieces(self) -> AsyncIterator[bytes]:
        """Raises TransportError when the body ends early."""
        ...


@runtime_checkable
class OffsetUploads(Protocol):
    """Upload by byte offsets, in a session that survives the process."""

    async def start_upload(self, *, name: str, display_name: str, size: int) -> Answer: ...

    async def send(self, session: str, reader: ShardReader, *, offset: int, length: int, finalize: bool) -> Answer:
        """Goes out once."""
        ...

    async def query_upload(self, session: str) -> Answer: ...

    def owns(self, session: str) -> bool:
        """Whether a session of an earlier process is of this service at its present address."""
        ...

    def read_receipt(self, receipt: bytes) -> RemoteFile | None:
        """The file that the last answer of an upload describes; None when it describes none."""
        ...


@runtime_checkable
class PartUploads(Protocol):
    """Upload by numbered parts."""

    #: Bytes of a part, of which only the last is shorter.
    part_bytes: int

    async def open_parts(self, *, name: str, display_name: str, size: int) -> str:
        """The session's handle."""
        ...

    async def send_part(self, session: str, reader: ShardReader, *, number: int, offset: int, length: int) -> str:
        """The part's id. ``number`` counts from 0. Goes out once."""
        ...

    async def complete_parts(self, session: str, parts: tuple[str, ...]) -> RemoteFile:
        """Goes out once."""
        ...


@runtime_checkable
class WholeUploads(Protocol):
    """Upload in one call."""

    async def upload(self, reader: ShardReader, *, name: str, display_name: str, size: int) -> RemoteFile:
        """Goes out once."""
        ...


class Provider(Protocol):
    """A batch service: what the driver needs. Every call may raise TransportError, ApiError or ProtocolError.

    Calls that may be repeated are repeated inside; ``create`` and those of an upload that say so go out once. An
    ApiError carries the ``kind`` of refusal where the service's own answer is definite.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def uploads(self) -> OffsetUploads | PartUploads | WholeUploads | None:
        """What ``capabilities.upload`` names; None for ``inline``."""
        ...

    def now(self) -> float | None:
        """Unix seconds by the service's own clock; None until an answer has given its time."""
        ...

    async def find_file(self, name: str) -> RemoteFile | None:
        """None when there is no such file, or none that we may see."""
        ...

    async def delete_file(self, name: str) -> None:
        """Does nothing when the file is gone."""
        ...

    async def create(
        self, *, model: str, task: Task, tag: str, file: str, requests: ShardReader | None = None
    ) -> RemoteJob:
        """The one call that must not be repeated. ``requests`` are the lines for a service without input files."""
        ...

    async def find_job(self, name: str) -> RemoteJob | None: ...

    async def list_page(self, token: str | None) -> JobPage: ...

    async def cancel(self, name: str) -> None:
        """Does nothing to a job that has ended."""
        ...

    def download(self, name: str, *, offset: int, etag: str | None = None) -> AbstractAsyncContextManager[Download]:
        """The results ``name``: from ``offset`` on if they are still those of ``etag``, otherwise from their start."""
        ...
