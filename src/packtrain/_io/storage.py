"""Protocols of storage: sources of requests, spools of shards and results, sinks of answers.

A local directory and an object store with PUT, ranged GET, LIST and DELETE can do all that they ask for. Names are
relative, with ``/`` between their parts. Every call is one trip to a thread or to a store: call it for a block or an
operation, never for a line.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from .._errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from .._model import SourceIdentity

#: What is written: bytes, or blocks of them. An iterable that is not async is read in a worker thread.
Content = bytes | Iterable[bytes] | AsyncIterable[bytes]


class RangeReader(Protocol):
    """Reads any range of a source; blocking."""

    def read(self, offset: int, length: int) -> bytes:
        """Fewer than ``length`` bytes only at the end. Raises InputError."""
        ...


class SourceDescription(Protocol):
    """A picklable value from which another process opens a source by itself."""

    def open(self) -> AbstractContextManager[RangeReader]:
        """Blocking. Raises InputError when the source cannot be read, or is no longer the one described."""
        ...


class Source(Protocol):
    """One input. Open it with ``async with``; everything else happens inside."""

    @property
    def name(self) -> str:
        """For rejected lines and messages."""
        ...

    @property
    def replayable(self) -> bool:
        """It can be read again, from any offset, by another process."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes of all its blocks, where that is known before they are read. For files as they were when opened."""
        ...

    @property
    def description(self) -> SourceDescription | None:
        """For reading ranges in another process; None for a source that is read from front to back only."""
        ...

    def identity(self) -> SourceIdentity:
        """By what it is recognised at the next start. For files as they were when opened."""
        ...

    async def verify(self) -> None:
        """Raises InputError if the end of a replayable source is damaged or missing."""
        ...

    def blocks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        """Decompressed bytes from ``offset`` on, about ``size`` at a time and never empty.

        Raises InputError when the source ends before ``offset``, is damaged or cut, or cannot be read.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Stored(Struct, frozen=True):
    """One object of a spool or sink."""

    name: str
    size: int


class Readable(Protocol):
    """Objects that are read in ranges."""

    def locate(self, name: str) -> str:
        """The name as people find it, for messages."""
        ...

    async def head(self, name: str) -> int | None:
        """Its size in bytes; None when there is no such object."""
        ...

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """A range; fewer than ``length`` bytes only at the end. Raises IntegrityError when there is no such object."""
        ...

    def blocks(self, name: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """An object, or a range of it, block by block; it may be deleted meanwhile. Ends early when the object does.

        Raises IntegrityError when there is no such object.
        """
        ...

    def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        """All objects whose name begins with ``prefix``, by name. Objects that are not whole yet are never listed."""
        ...

    async def delete(self, *names: str) -> None:
        """An object that is gone already is no error."""
        ...


class Spool(Readable, Protocol):
    """Objects of one run, which no other program writes."""

    async def put(self, name: str, content: Content) -> int:
        """Store an object; returns its size. It is durable on return, and visible only when whole.

        An object of this name is replaced. When ``content`` raises, or the call is cancelled, nothing changes.
        """
        ...


class Sink(Readable, Protocol):
    """The place of the answers, where objects may be that are not of this run."""

    async def reserve(self, names: Collection[str]) -> None:
        """Make the place ready. Raises OutputTaken when one of the names is in use."""
        ...

    async def version(self, name: str) -> str | None:
        """A text that another object of this name, or another content, does not have; None without an object."""
        ...

    async def publish_if_absent(self, name: str, content: Content) -> bool:
        """Store an object as ``Spool.put`` does, unless there is one of this name: then returns False, and changes
        nothing."""
        ...

    async def replace(self, name: str, content: Content, version: str) -> bool:
        """Store an object in place of the one with this ``version``; without that one returns False, and changes
        nothing."""
        ...


class Piece(Struct, frozen=True):
    """A range of an object; up to its end when ``length`` is None."""

    name: str
    offset: int = 0
    length: int | None = None
    #: Of its bytes, in hex; empty where it is not known, and then nothing is compared.
    sha256: str = ""


class Pieces:
    """Ranges of one spool or sink as content for another, in order.

    Between two local directories the kernel copies them; otherwise they are read block by block. A piece that is not of
    its digest raises what ``damaged`` makes of its place and a few words, by default IntegrityError.
    """

    def __init__(
        self, origin: Readable, pieces: Iterable[Piece], damaged: Callable[[Path, str], IntegrityError] | None = None
    ) -> None:
        self.origin = origin
        self.pieces = tuple(pieces)
        self._damaged = damaged

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            digest = hashlib.sha256()
            async for block in self.origin.blocks(piece.name, piece.offset, piece.length):
                digest.update(block)
                yield block
            self.compare(piece, digest.hexdigest())

    def compare(self, piece: Piece, sha256: str) -> None:
        """Raises for a piece that has another digest than it should have."""
        if piece.sha256 in ("", sha256):
            return
        place, how = Path(self.origin.locate(piece.name)), f"is not what it was (its SHA-256 is {sha256[:16]}… now)"
        raise self._damaged(place, how) if self._damaged else IntegrityError(f"{place} {how}")
