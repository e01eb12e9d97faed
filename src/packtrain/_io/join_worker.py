"""What stands in large files, found by processes of their own while this one does other work.

A process is asked for one thing, and holds nothing: it writes what it finds to its output, some at a time, and an end
behind it. When no end comes, for whatever reason, the files are read here once more, where the reason will show.
"""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import msgspec

from .._options import MIB
from .merge_join import Astray
from .request_file import Asked
from .result_file import Chunk, ResultFiles, chunks
from .worker_protocol import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Bytes of files that take longer to go through than a process takes to start.
WORTH_A_PROCESS = 64 * MIB

_LENGTH_BYTES = 4
_keys = msgspec.msgpack.Decoder(list[str])
_chunk = msgspec.msgpack.Decoder(Chunk)
_encode = msgspec.msgpack.Encoder().encode

T = TypeVar("T")


@contextmanager
def keys_beside(asked: Asked, most: int) -> Iterator[Iterator[list[str]]]:
    """As ``once`` gives them; the process ends with the block. Also raises Astray when the process does not answer."""
    with _told("keys", str(most), *map(str, asked.paths)) as told:
        yield map(_keys.decode, told)


@contextmanager
def keys_ahead(asked: Asked, most: int) -> Iterator[Iterator[list[str]]]:
    """All keys, however often they stand there."""
    with keys_beside(asked, most) as keys:
        yield _to_the_end(keys, lambda: filter(None, asked.keys()))


@contextmanager
def chunks_beside(results: ResultFiles) -> Iterator[Iterator[Chunk]]:
    """As ``chunks`` gives them."""
    with _told("chunks", *map(str, results.paths)) as told:
        yield _to_the_end(map(_chunk.decode, told), lambda: chunks(results))


def main() -> None:
    """The process's part: ends by itself when nobody takes what it writes."""
    gc.disable()  # nothing here refers to itself, and the keys are many
    what, *arguments = sys.argv[1:]
    for piece in _tell_keys(*arguments) if what == "keys" else _tell_chunks(arguments):
        _send(sys.stdout.buffer, _encode(piece))
    _send(sys.stdout.buffer, b"")
    sys.stdout.flush()


def once(keys: Iterator[list[str]], most: int) -> Iterator[list[str]]:
    """Raises Astray for a key that stands twice, and when there are too many to know."""
    seen: set[str] = set()
    count = 0
    for some in filter(None, keys):
        seen.update(some)
        count += len(some)
        if len(seen) < count or count > most:
            raise Astray
        yield some


def _tell_keys(most: str, *paths: str) -> Iterator[list[str]]:
    return once(Asked(tuple(map(Path, paths))).keys(), int(most))


def _tell_chunks(paths: Sequence[str]) -> Iterator[Chunk]:
    with ResultFiles([*map(Path, paths)]) as results:
        yield from chunks(results)


@contextmanager
def _told(*arguments: str) -> Iterator[Iterator[bytes]]:
    """What the process sends, piece by piece. Raises Astray where it ends without having said so."""
    try:
        # In a group of its own, for Ctrl-C is the caller's to answer. S603: the program is this one.
        process = subprocess.Popen(  # noqa: S603
            command(__name__, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            bufsize=MIB,
            process_group=0,
        )
    except OSError:  # no room for another
        yield _receive(None)
        return
    with process:
        try:
            yield _receive(process.stdout)
        finally:
            process.kill()


def _send(target: IO[bytes], data: bytes) -> None:
    target.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)


def _receive(source: IO[bytes] | None) -> Iterator[bytes]:
    while source and len(head := source.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
        length = int.from_bytes(head, "little")
        data = source.read(length)
        if not length:
            return
        if len(data) < length:
            break
        yield data
    raise Astray


def _to_the_end(told: Iterator[T], here: Callable[[], Iterator[T]]) -> Iterator[T]:
    """What a process did not tell is found out here."""
    count = 0
    try:
        for some in told:
            yield some
            count += 1
    except Astray:
        yield from itertools.islice(here(), count, None)
