"""An object store in memory, with PUT (if absent, if it matches), ranged GET, LIST and DELETE, as a spool and a sink.

It can do no more than an object store in a data centre: no rename, no append, no open file, no directory.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.lowlevel

from .._errors import IntegrityError, OutputTaken
from .._io.storage import Stored
from .._options import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from .._io.storage import Content


class ObjectStore:
    """One bucket. Every call is one request, and answers after a turn of the event loop."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes, *, if_absent: bool = False, if_match: str | None = None) -> bool:
        """Returns False, and changes nothing, when ``if_absent`` is asked for and the key exists, or when the object
        has another tag than ``if_match``."""
        await anyio.lowlevel.checkpoint()
        if (if_absent and key in self._objects) or (if_match is not None and self._tag(key) != if_match):
            return False
        self._objects[key] = body
        return True

    async def tag(self, key: str) -> str | None:
        """The entity tag of an object, by its content."""
        await anyio.lowlevel.checkpoint()
        return self._tag(key)

    async def get(self, key: str, offset: int, length: int) -> bytes | None:
        await anyio.lowlevel.checkpoint()
        body = self._objects.get(key)
        return None if body is None else body[offset : offset + length]

    async def list(self, prefix: str) -> list[tuple[str, int]]:
        """Keys and sizes, by key."""
        await anyio.lowlevel.checkpoint()
        return sorted((key, len(body)) for key, body in self._objects.items() if key.startswith(prefix))

    async def delete(self, key: str) -> None:
        await anyio.lowlevel.checkpoint()
        self._objects.pop(key, None)

    def _tag(self, key: str) -> str | None:
        body = self._objects.get(key)
        return None if body is None else hashlib.sha256(body).hexdigest()


class ObjectDirectory:
    """The objects of a store below a prefix, as a spool and as a sink."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}/"

    def locate(self, name: str) -> str:
        return f"memory://{self._prefix}{name}"

    async def reserve(self, names: Collection[str]) -> None:
        for name in names:
            if await self.head(name) is not None:
                place = self.locate(name)
                raise OutputTaken(f"{place} exists already and is not of this run", path=Path(place))

    async def put(self, name: str, content: Content) -> int:
        body = await _gather(content)
        await self._store.put(self._prefix + name, body)
        return len(body)

    async def version(self, name: str) -> str | None:
        return await self._store.tag(self._prefix + name)

    async def publish_if_absent(self, name: str, content: Content) -> bool:
        return await self._store.put(self._prefix + name, await _gather(content), if_absent=True)

    async def replace(self, name: str, content: Content, version: str) -> bool:
        return await self._store.put(self._prefix + name, await _gather(content), if_match=version)

    async def read(self, name: str, offset: int, length: int) -> bytes:
        body = await self._store.get(self._prefix + name, offset, length)
        if body is None:
            raise IntegrityError(f"{self.locate(name)} is gone")
        return body

    async def blocks(self, name: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """One GET, whose body is taken block by block."""
        end = sys.maxsize if length is None else length
        body = await self.read(name, offset, end)
        for start in range(0, len(body), PIECE_BYTES):
            yield body[start : start + PIECE_BYTES]

    async def head(self, name: str) -> int | None:
        key = self._prefix + name
        return dict(await self._store.list(key)).get(key)

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        for key, size in await self._store.list(self._prefix + prefix):
            yield Stored(key.removeprefix(self._prefix), size)

    async def delete(self, *names: str) -> None:
        for name in names:
            await self._store.delete(self._prefix + name)


async def _gather(content: Content) -> bytes:
    """The body of one PUT; a store of a data centre would take its parts one by one."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, AsyncIterable):
        return b"".join([block async for block in content])
    assert isinstance(content, Iterable)
    return b"".join(content)
