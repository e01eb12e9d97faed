"""Request files: sealed shards, written, sent and read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import msgspec
from msgspec import Struct

from .._errors import InputError, IntegrityError
from .._options import MAX_KEY_BYTES, MAX_LINE_BYTES, PIECE_BYTES, WRITES_WAITING
from .._rules.lines import OWN, LineShape, parsers
from .._rules.validate import key_of
from .disk import disk_errors, draft, make_durable, open_draft, remove, start_writeback, write_all
from .line_blocks import line_blocks
from .threads import in_thread, uncancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


class WriteQueue:
    """Writes in a worker thread, one after the other. Made by ``open_write_queue``; an error ends its block."""

    def __init__(self, send: MemoryObjectSendStream[Callable[[], None]]) -> None:
        self._send = send

    async def put(self, write: Callable[[], None]) -> None:
        """Have it done after all before; waits while too many wait."""
        await self._send.send(write)

    async def drain(self) -> None:
        """Until all writes are done."""
        done = anyio.Event()
        await self._send.send(lambda: anyio.from_thread.run_sync(done.set))
        await done.wait()


@asynccontextmanager
async def open_write_queue() -> AsyncIterator[WriteQueue]:
    send, receive = anyio.create_memory_object_stream[Callable[[], None]](WRITES_WAITING)
    async with receive, send, anyio.create_task_group() as tasks:
        tasks.start_soon(_write_all, receive)
        yield WriteQueue(send)
        tasks.cancel_scope.cancel()


async def _write_all(writes: MemoryObjectReceiveStream[Callable[[], None]]) -> None:
    async for write in writes:
        await in_thread(write)


class ShardWriter:
    """The open shard: bytes are hashed as they are written. ``bytes`` and ``lines`` are the caller's count."""

    def __init__(self, path: Path, writes: WriteQueue) -> None:
        self.bytes = 0
        self.lines = 0
        self._path = path
        self._writes = writes
        self._digest = hashlib.sha256()
        self._begun = 0
        self._draft = draft(path)
        with disk_errors(path):
            self._file = open_draft("shard", self._draft)

    async def write(self, data: memoryview) -> None:
        """Written and hashed later, in the background; ``data`` must not be changed from now on."""
        await self._writes.put(partial(self._write, data))

    async def seal(self) -> str:
        """Give the shard its name; returns its SHA-256 in hex."""
        await self._writes.drain()
        return await in_thread(self._seal)

    async def discard(self) -> None:
        await uncancelled(self._discard)

    def _write(self, data: memoryview) -> None:
        with disk_errors(self._path):
            write_all("shard", self._file, data)
            self._begun = start_writeback(self._file, self._begun, self._file.tell())
        self._digest.update(data)

    def _seal(self) -> str:
        with disk_errors(self._path):
            make_durable("shard", self._file, self._draft, self._path)
        return self._digest.hexdigest()

    def _discard(self) -> None:
        self._file.close()
        remove("shard", self._draft)


class ShardCheck:
    """Takes the place of a shard that is sealed already, when its lines are read once more."""

    def __init__(self, writes: WriteQueue) -> None:
        self.bytes = 0
        self.lines = 0
        self._writes = writes
        self._digest = hashlib.sha256()

    async def write(self, data: memoryview) -> None:
        await self._writes.put(partial(self._digest.update, data))

    async def seal(self) -> str:
        await self._writes.drain()
        return self._digest.hexdigest()

    async def discard(self) -> None:
        """Nothing was written."""


class ShardReader:
    """A sealed file as it is sent: every byte goes into the digest once, in order, when it is first read. Blocking.

    ``sha256`` is that of the sealed file in hex; when it is empty, nothing is compared. ``damaged`` makes the error of
    a file that is not what was sealed.
    """

    def __init__(self, path: Path, size: int, sha256: str, damaged: Callable[[Path, str], IntegrityError]) -> None:
        self._path = path
        self.size = size
        self._sha256 = sha256
        self._damaged = damaged
        with disk_errors(path):
            self._file = path.open("rb", buffering=0)
        self._digest = hashlib.sha256()
        self._hashed = 0

    def read(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, and at least one. The last of the file come only when all of it is as sealed."""
        self._hash_to(offset)
        data = self._take(offset, length)
        if offset + len(data) >= self.size:
            self._compare()
        return data

    def digest(self) -> str:
        """SHA-256 of the whole as it was read."""
        self._hash_to(self.size)
        return self._digest.hexdigest()

    async def whole_digest(self) -> str:
        """As ``digest``, in a worker thread."""
        return await in_thread(self.digest)

    async def verify(self) -> None:
        """Read all of it in a worker thread. Raises FileDamaged when it is not what was sealed."""
        await self.whole_digest()
        self._compare()

    def close(self) -> None:
        self._file.close()

    def _hash_to(self, offset: int) -> None:
        while self._hashed < offset:
            self._take(self._hashed, min(PIECE_BYTES, offset - self._hashed))

    def _take(self, offset: int, length: int) -> bytes:
        with disk_errors(self._path):
            data = os.pread(self._file.fileno(), length, offset)
        if not data:
            raise self._damaged(self._path, f"ends at byte {offset}, but was sealed longer")
        if offset <= self._hashed < offset + len(data):
            self._digest.update(memoryview(data)[self._hashed - offset :])
            self._hashed = offset + len(data)
        return data

    def _compare(self) -> None:
        digest = self._digest.hexdigest()
        if self._sha256 and digest != self._sha256:
            raise self._damaged(
                self._path,
                f"is not what it was when it was sealed (SHA-256 {digest[:16]}…, sealed {self._sha256[:16]}…; "
                "nothing of it was submitted)",
            )


class RequestFiles(Struct, frozen=True):
    """Files of requests, read from front to back as often as needed.

    ``validated``: they are sealed shards, in which every line is valid and no key occurs twice.
    """

    paths: tuple[Path, ...]
    validated: bool = False
    shape: LineShape = OWN

    def keys(self) -> Iterator[list[str]]:
        """All keys in order, some at a time. Raises InputError for a line without one."""
        take = _validated_keys if self.validated else _keys
        for path in self.paths:
            yield from _read(path, self.shape, take)

    def lines(self) -> Iterator[bytes]:
        """All but blank ones. Raises InputError as ``keys`` does for a line that is too long."""
        for path in self.paths:
            for _, lines in _blocks(path):
                yield from (line for line in lines if not line.isspace())


def validated_key(line: bytes, shape: LineShape = OWN) -> str:
    """The key of a line that was validated before. Raises InputError if it has none after all.

    In a valid line the name occurs only once, so the rest of a plain line need not be parsed.
    """
    plain = parsers(shape).plain.match(line)
    try:
        return plain[1].decode() if plain else key_of(line, shape)
    except UnicodeDecodeError:
        return key_of(line, shape)


def _read(
    path: Path, shape: LineShape, take: Callable[[list[bytes], LineShape], list[str] | None]
) -> Iterator[list[str]]:
    for number, lines in _blocks(path):
        keys = take(lines, shape)
        yield keys if keys is not None else list(_each(path, number, lines, shape))


class _Ignored:
    """Takes the bytes of a line that is too long."""

    def feed(self, data: bytes) -> None:
        pass


def _blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of a file, some at a time, with the number of lines before them."""
    number = 0
    with path.open("rb", buffering=0) as file:
        for block in line_blocks(file, MAX_LINE_BYTES, _Ignored):
            if block.long is not None:
                size = f"a line of {block.length:,} bytes, above the limit of {MAX_LINE_BYTES:,}"
                raise InputError(f"{path}:{number + 1}: {size}")
            yield number, block.lines
            number += len(block.lines)


def _validated_keys(lines: list[bytes], shape: LineShape) -> list[str] | None:
    match = parsers(shape).plain.match
    try:
        return [plain[1].decode() if (plain := match(line)) else key_of(line, shape) for line in lines]
    except (InputError, UnicodeDecodeError):
        return None


def _keys(lines: list[bytes], shape: LineShape) -> list[str] | None:
    try:
        keys = [row.key for row in map(parsers(shape).key.decode, lines)]
        return keys if max(map(len, keys)) <= MAX_KEY_BYTES else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _each(path: Path, before: int, lines: list[bytes], shape: LineShape) -> Iterator[str]:
    for number, line in enumerate(lines, before + 1):
        try:
            if not line.isspace():
                key = key_of(line, shape)
                if len(key) > MAX_KEY_BYTES:
                    raise InputError(f"a key of {len(key):,} characters, above the limit of {MAX_KEY_BYTES:,} bytes")
                yield key
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
