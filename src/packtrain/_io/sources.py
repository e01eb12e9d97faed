"""Where input comes from: files and streams, as blocks of decompressed bytes."""

from __future__ import annotations

import glob
import os
import select
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import aiofiles
import anyio
from anyio import to_thread

from .._errors import InputError
from .._model import SourceIdentity
from .._options import PIECE_BYTES
from .codecs import HEAD_BYTES, decoder, detect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from aiofiles.threadpool.binary import AsyncFileIO

    from .codecs import Decoder, Format

#: Endings by which a directory's files are chosen.
ENDINGS = tuple(name + packed for name in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))
STDIN = Path("-")
#: How long a stream's block may grow once it has a byte, in seconds.
LINGER = 0.1


class Source(Protocol):
    """One input. Open it with ``async with``; everything else happens inside."""

    @property
    def name(self) -> str:
        """As it stands in rejects and messages."""
        ...

    @property
    def replayable(self) -> bool:
        """It can be read again, from any offset, by another process."""
        ...

    @property
    def length(self) -> int | None:
        """Bytes in all its blocks, where that is known before they are read. For files as they were when opened."""
        ...

    def mark(self) -> SourceIdentity:
        """By what it is known again. For files as they were when opened."""
        ...

    async def verify(self) -> None:
        """Raises InputError if the end of a replayable source is not sound."""
        ...

    def chunks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        """Decompressed bytes from ``offset`` on, about ``size`` at a time and never empty.

        Raises InputError when the source ends before ``offset``, is damaged or cut, or cannot be read.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def expand(inputs: Sequence[str | Path], own: Container[Path] = ()) -> list[Path]:
    """The files meant, in the order given: globs and directories by name, ``-`` for the standard input.

    A text that is the name of a file is taken as such before it is tried as a glob. A directory stands for
    the files right in it that end in one of ``ENDINGS``. What a run makes itself, ``own``, is left out of both. Blocks
    while it looks at the file system. Raises InputError for what is missing, cannot be read, matches nothing, or is
    given twice.
    """
    paths = [path for given in inputs for path in _expand(given, own)]
    seen: dict[object, Path] = {}
    for path in paths:
        identity = _identity(path)
        if identity in seen:
            raise InputError(f"{path} and {seen[identity]} are the same input; give it once")
        seen[identity] = path
    return paths


def open_source(path: Path, stdin: BinaryIO | None = None) -> FileSource | StreamSource:
    """The source that an expanded path stands for. Pipes, also as ``<(command)``, are streams. Blocks."""
    if path == STDIN:
        if stdin is None:
            raise InputError("there is no standard input here; give the name of a file instead of -")
        return StreamSource(stdin)
    if path.is_file():
        return FileSource(path)
    return StreamSource(path, name=str(path))


class FileSource:
    """A regular file, plain or compressed."""

    replayable = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._file: AsyncFileIO
        self._form: Format = "plain"
        # A later start may stand in another directory.
        self._mark = SourceIdentity(str(path.absolute()))

    async def __aenter__(self) -> Self:
        try:
            with anyio.CancelScope(shield=True):  # or a file that opens meanwhile would be nobody's to close
                self._file = await aiofiles.open(self._path, "rb", buffering=0)
        except OSError as error:
            raise _unreadable(self.name, error) from error
        try:
            await self._compare()
            self._form = detect(await self._read(HEAD_BYTES), name=self.name)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._file.close()

    @property
    def length(self) -> int | None:
        return self._mark.size if self._form == "plain" else None

    def mark(self) -> SourceIdentity:
        return self._mark

    async def verify(self) -> None:
        """One full decompression; nothing to do for a plain file."""
        if self._form != "plain":
            async for _ in self.chunks(size=PIECE_BYTES):
                pass

    async def chunks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        if self._form == "plain":
            if offset > self._mark.size:
                raise _too_short(self.name)
            await self._file.seek(offset)
            decoded = self._raw(size, self._mark.size - offset)
        else:
            await self._file.seek(0)
            raw = self._raw(min(size, PIECE_BYTES), self._mark.size)
            decoded = skip(_decompressed(raw, decoder(self.name, self._form), size), offset, self.name)
        async for chunk in decoded:
            yield chunk
        await self._compare()

    async def _raw(self, size: int, left: int) -> AsyncIterator[bytes]:
        """What the file held when it was opened, and no byte more: it may grow as fast as it is read."""
        while chunk := await self._read(min(size, left)):
            left -= len(chunk)
            yield chunk

    async def _read(self, size: int) -> bytes:
        try:
            return await self._file.read(size)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    async def _compare(self) -> None:
        """The file is still the one that was opened first."""
        found = await to_thread.run_sync(os.fstat, self._file.fileno())
        mark = SourceIdentity(self._mark.name, found.st_size, found.st_mtime_ns)
        if self._mark not in (mark, SourceIdentity(self._mark.name)):
            raise InputError(f"{self.name}: it changed while it was read")
        self._mark = mark


class StreamSource:
    """The standard input or a pipe, plain or compressed. It is read once.

    Waiting for its next bytes can be cancelled; a pipe that nobody opens for writing leaves a thread behind.
    """

    replayable = False
    length = None

    def __init__(self, file: BinaryIO | Path, *, name: str = "stdin") -> None:
        self.name = name
        self._given = file
        self._descriptor = -1

    async def __aenter__(self) -> Self:
        try:
            if isinstance(self._given, Path):
                self._descriptor = await to_thread.run_sync(
                    os.open, self._given, os.O_RDONLY | os.O_CLOEXEC, abandon_on_cancel=True
                )
            else:
                self._descriptor = self._given.fileno()
        except OSError as error:
            raise _unreadable(self.name, error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._given, Path):
            os.close(self._descriptor)

    def mark(self) -> SourceIdentity:
        return SourceIdentity(self.name)

    async def verify(self) -> None:
        """A stream shows its end only when it is read."""

    async def chunks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        raw = self._raw(size)
        head = await _head(raw)
        form = detect(head, name=self.name)
        decoded = _chain(head, raw)
        if form != "plain":
            decoded = _decompressed(decoded, decoder(self.name, form), size)
        async for chunk in skip(decoded, offset, self.name):
            yield chunk

    async def _raw(self, size: int) -> AsyncIterator[bytes]:
        waits = _can_wait(self._descriptor)
        while True:
            if waits:
                await anyio.wait_readable(self._descriptor)
            try:
                chunk = await to_thread.run_sync(_drain, self._descriptor, size)
            except OSError as error:
                raise _unreadable(self.name, error) from error
            if chunk == b"":
                return
            if chunk:
                yield chunk


def _expand(given: str | Path, own: Container[Path]) -> list[Path]:
    path = Path(given)
    if path == STDIN:
        return [path]
    if path.is_dir():
        return _listed(path, own)
    if path.exists():
        _check_readable(path)
        return [path]
    if isinstance(given, str) and glob.has_magic(given):
        names = glob.glob(given, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        found = sorted(path for path in map(Path, names) if not path.is_dir() and path not in own)
        if not found:
            raise InputError(f"{given}: no file matches")
        for match in found:
            _check_readable(match)
        return found
    raise InputError(f"{given}: no such file")


def _listed(directory: Path, own: Container[Path]) -> list[Path]:
    try:
        found = sorted(path for path in directory.iterdir() if path.name.endswith(ENDINGS) and path.is_file())
    except OSError as error:
        raise _unreadable(str(directory), error) from error
    found = [path for path in found if path not in own]
    if not found:
        raise InputError(f"{directory}: no file in it ends in {', '.join(ENDINGS)}")
    for path in found:
        _check_readable(path)
    return found


def _check_readable(path: Path) -> None:
    if not path.is_file():  # opening a pipe would take its data, or wait for it
        return
    try:
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(str(path), error) from error


def _identity(path: Path) -> object:
    if path == STDIN:
        return path
    found = path.stat()
    return found.st_dev, found.st_ino


def _unreadable(name: str, error: OSError) -> InputError:
    return InputError(f"{name}: cannot be read ({error.strerror or error})")


def _too_short(name: str) -> InputError:
    return InputError(f"{name}: it is shorter than when the run began")


async def _decompressed(raw: AsyncIterator[bytes], codec: Decoder, size: int) -> AsyncIterator[bytes]:
    async for data in raw:
        pieces = codec.feed(data)
        while chunk := await to_thread.run_sync(_gather, pieces, size):
            yield chunk
    codec.finish()


def _gather(pieces: Iterator[bytes], size: int) -> bytes:
    """Small members are put together, so that a block is worth its trip to the thread."""
    gathered: list[bytes] = []
    held = 0
    for piece in pieces:
        gathered.append(piece)
        held += len(piece)
        if held >= size:
            break
    return b"".join(gathered)


async def skip(chunks: AsyncIterator[bytes], offset: int, name: str) -> AsyncIterator[bytes]:
    """The blocks without their first ``offset`` bytes, for what cannot be sought in."""
    async for chunk in chunks:
        if offset < len(chunk):
            yield chunk[offset:] if offset else chunk
        offset = max(0, offset - len(chunk))
    if offset:
        raise _too_short(name)


async def _head(raw: AsyncIterator[bytes]) -> bytes:
    head = b""
    async for chunk in raw:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    return head


async def _chain(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk


def _can_wait(descriptor: int) -> bool:
    """Regular files and most devices are always ready, and the event loop refuses to wait for them."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _drain(descriptor: int, size: int) -> bytes | None:
    """What is there, and what follows within ``LINGER``; b"" at the end, None if it was a false alarm."""
    parts: list[bytes] = []
    held = 0
    stop = time.monotonic() + LINGER
    while held < size:
        try:
            part = os.read(descriptor, size - held)
        except BlockingIOError:
            return b"".join(parts) or None
        if not part:
            break
        parts.append(part)
        held += len(part)
        left = stop - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            break
    return b"".join(parts)
