"""Sources of input: files and streams, as blocks of decompressed bytes."""

from __future__ import annotations

import glob
import os
import select
import stat
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
from anyio import to_thread
from msgspec import Struct

from .._errors import InputChanged, InputError
from .._model import SourceIdentity
from .._options import LINGER, PIECE_BYTES
from .._validation import check_local
from .codecs import HEAD_BYTES, decoder, detect
from .input_directory import LeftOut, files_in
from .threads import in_thread, uncancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from .codecs import Decoder, Format

STDIN = Path("-")


def expand(
    inputs: Sequence[str | Path],
    own: Container[Path] = (),
    *,
    flat: bool = False,
    left_out: LeftOut | None = None,
) -> list[Path]:
    """The files meant, in the order given: globs and directories by name, ``-`` for the standard input.

    A text that is the name of a file is taken as such before it is tried as a glob. A directory stands for the files of
    ``files_in``, which counts in ``left_out``, with ``flat`` by the rule of earlier versions. What a run makes itself,
    ``own``, is left out of both. Blocks while it looks at the file system. Raises InputError for what is missing,
    cannot be read, matches nothing, or is given twice.
    """
    left_out = left_out or LeftOut()
    paths = [path for given in inputs for path in _expand(given, own, left_out, flat)]
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
        if stdin is None or stdin.closed:
            raise InputError("there is no standard input here; give the name of a file instead of -")
        return StreamSource(stdin)
    if path.is_file():
        return FileSource(path)
    return StreamSource(path, name=str(path))


class OpenFile:
    """A file of input, read by range; blocking."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise _unreadable(name, error) from error

    def read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), length, offset)
        except OSError as error:
            raise _unreadable(self._name, error) from error

    def compare(self, known: SourceIdentity) -> SourceIdentity:
        """The file as it is now. Raises InputChanged when it has another size or time than a known one."""
        status = os.fstat(self._file.fileno())
        now = SourceIdentity(known.name, status.st_size, status.st_mtime_ns)
        if known.size >= 0 and known != now:
            raise InputChanged(f"{self._name} changed while it was read", name=self._name)
        return now

    def close(self) -> None:
        self._file.close()


class FileDescription(Struct, frozen=True):
    """A plain file as another process opens it. Its identity has the absolute path."""

    identity: SourceIdentity

    @contextmanager
    def open(self) -> Iterator[OpenFile]:
        file = OpenFile(Path(self.identity.name), self.identity.name)
        try:
            file.compare(self.identity)
            yield file
        finally:
            file.close()


class FileSource:
    """A regular file, plain or compressed."""

    replayable = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._file: OpenFile
        self._form: Format = "plain"
        # The next start may have another working directory.
        self._identity = SourceIdentity(str(path.absolute()))

    async def __aenter__(self) -> Self:
        self._file = await uncancelled(OpenFile, self._path, self.name)
        try:
            self._identity = await in_thread(self._file.compare, self._identity)
            self._form = detect(await in_thread(self._file.read, 0, HEAD_BYTES), name=self.name)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await uncancelled(self._file.close)

    @property
    def size(self) -> int | None:
        return self._identity.size if self._form == "plain" and self._identity.size >= 0 else None

    @property
    def description(self) -> FileDescription | None:
        return FileDescription(self._identity) if self.size is not None else None

    def identity(self) -> SourceIdentity:
        return self._identity

    async def verify(self) -> None:
        """One full decompression; nothing to do for a plain file."""
        if self._form != "plain":
            async for _ in self.blocks(size=PIECE_BYTES):
                pass

    async def blocks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        if self._form == "plain":
            if offset > self._identity.size:
                raise _too_short(self.name)
            decoded = self._raw(size, offset)
        else:
            raw = self._raw(min(size, PIECE_BYTES), 0)
            decoded = skip(_decompressed(raw, decoder(self.name, self._form), size), offset, self.name)
        async for block in decoded:
            yield block
        self._identity = await in_thread(self._file.compare, self._identity)

    async def _raw(self, size: int, offset: int) -> AsyncIterator[bytes]:
        """The bytes that the file had when it was opened, and no more: it may grow as fast as it is read."""
        end = self._identity.size
        while block := await in_thread(self._file.read, offset, min(size, end - offset)):
            offset += len(block)
            yield block


class StreamSource:
    """The standard input or a pipe, plain or compressed. It is read once.

    Waiting for its next bytes can be cancelled. Opening a pipe that no process writes to can be cancelled too, but
    leaves a thread behind until one does, which closes the pipe at once.
    """

    replayable = False
    size = None
    description = None

    def __init__(self, file: BinaryIO | Path, *, name: str = "stdin") -> None:
        self.name = name
        self._given = file
        self._descriptor = -1

    async def __aenter__(self) -> Self:
        try:
            if isinstance(self._given, Path):
                await self._open(self._given)
            else:
                self._descriptor = self._given.fileno()
        except OSError as error:
            raise _unreadable(self.name, error) from error
        return self

    async def _open(self, path: Path) -> None:
        opening = _Opening(path)
        try:
            self._descriptor = await to_thread.run_sync(opening.open, abandon_on_cancel=True)
        except BaseException:
            opening.abandon()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._given, Path):
            os.close(self._descriptor)

    def identity(self) -> SourceIdentity:
        return SourceIdentity(self.name)

    async def verify(self) -> None:
        """A stream shows its end only when it is read."""

    async def blocks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        raw = self._raw(size)
        head = await _head(raw)
        form = detect(head, name=self.name)
        decoded = _chain(head, raw)
        if form != "plain":
            decoded = _decompressed(decoded, decoder(self.name, form), size)
        async for block in skip(decoded, offset, self.name):
            yield block

    async def _raw(self, size: int) -> AsyncIterator[bytes]:
        waits = _can_wait(self._descriptor)
        while True:
            if waits:
                await anyio.wait_readable(self._descriptor)
            try:
                block = await in_thread(_drain, self._descriptor, size)
            except OSError as error:
                raise _unreadable(self.name, error) from error
            if block == b"":
                return
            if block:
                yield block


class _Opening:
    """A descriptor that a thread opens, and that is closed there when the wait was cancelled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor = -1
        self._abandoned = False

    def open(self) -> int:
        """Blocking, until a process opens the pipe for writing."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        with self._lock:
            self._descriptor = descriptor
            if self._abandoned:
                os.close(descriptor)
        return descriptor

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._descriptor >= 0:
                os.close(self._descriptor)


def _expand(given: str | Path, own: Container[Path], left_out: LeftOut, flat: bool) -> list[Path]:
    if given == "":
        raise InputError("an input has an empty name")
    check_local(given)
    path = Path(given)
    if path == STDIN:
        return [path]
    if path.is_dir():
        found = files_in(path, own, left_out, flat=flat)
        for match in found:
            _check_readable(match)
        return found
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
    return InputChanged(f"{name}: it is shorter than when the run began", name=name)


async def _decompressed(raw: AsyncIterator[bytes], codec: Decoder, size: int) -> AsyncIterator[bytes]:
    async for data in raw:
        pieces = codec.feed(data)
        while block := await in_thread(_gather, pieces, size):
            yield block
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


async def skip(blocks: AsyncIterator[bytes], offset: int, name: str) -> AsyncIterator[bytes]:
    """The blocks without their first ``offset`` bytes, for a source that has no ranges."""
    async for block in blocks:
        if offset < len(block):
            yield block[offset:] if offset else block
        offset = max(0, offset - len(block))
    if offset:
        raise _too_short(name)


async def _head(raw: AsyncIterator[bytes]) -> bytes:
    head = b""
    async for block in raw:
        head += block
        if len(head) >= HEAD_BYTES:
            break
    return head


async def _chain(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for block in rest:
        yield block


def _can_wait(descriptor: int) -> bool:
    """Regular files and most devices are always ready, and the event loop refuses to wait for them."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _drain(descriptor: int, size: int) -> bytes | None:
    """The bytes that are there or follow within ``LINGER``; b"" at the end, None when there were none after all."""
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
