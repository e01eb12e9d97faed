"""The seams to the world outside, at the height of the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from .._io.request_file import ShardReader
    from .._model import JobPage, RemoteFile, RemoteJob, Task
    from .._rules.upload import Answer


class Download(Protocol):
    """The body of a results file, from ``offset`` on."""

    #: Where the first piece stands in the file: the offset asked for, or 0 when the service ignores ranges.
    offset: int
    #: Length of the whole file in bytes, if the service said so.
    total: int | None
    #: What the service calls these very bytes, if it does.
    etag: str | None
    #: Whether a body that ends early can be told from a whole one.
    vouched: bool

    def pieces(self) -> AsyncIterator[bytes]:
        """Raises TransportError when the body ends early."""
        ...


class Provider(Protocol):
    """A batch service. Every call may raise TransportError, ApiError or ProtocolError.

    Idempotent calls are tried again inside; ``create`` and ``send`` go out once.
    """

    def now(self) -> float | None:
        """Unix seconds by the service's own clock; None as long as no answer has told them."""
        ...

    async def start_upload(self, *, name: str, display_name: str, size: int) -> Answer: ...

    async def send(self, url: str, reader: ShardReader, *, offset: int, length: int, finalize: bool) -> Answer: ...

    async def query_upload(self, url: str) -> Answer: ...

    def read_receipt(self, receipt: bytes) -> RemoteFile | None:
        """The file that a finished upload's answer describes; None when it describes none."""
        ...

    async def find_file(self, name: str) -> RemoteFile | None:
        """None when there is no such file, or none that we may see."""
        ...

    async def delete_file(self, name: str) -> None:
        """Gone already is fine."""
        ...

    async def create(self, *, model: str, task: Task, tag: str, file: str) -> RemoteJob:
        """The one call that must not be repeated."""
        ...

    async def find_job(self, name: str) -> RemoteJob | None: ...

    async def list_page(self, token: str | None) -> JobPage: ...

    async def cancel(self, name: str) -> None: ...

    def download(self, name: str, *, offset: int, etag: str | None = None) -> AbstractAsyncContextManager[Download]:
        """From ``offset`` on if the file is still the one called ``etag``, from its start otherwise."""
        ...
