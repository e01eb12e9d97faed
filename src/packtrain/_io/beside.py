"""The keys of large request files, taken by a process of its own while this one goes through the results.

The process is asked for nothing else: it writes the keys to its output, some at a time, and an end behind them. When
no end comes, for whatever reason, what it read is read here once more, where the reason will show.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from .._options import MIB
from .asked import Asked
from .program import command
from .walk import Astray

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH_BYTES = 4
_keys = msgspec.msgpack.Decoder(list[str])
_encode = msgspec.msgpack.Encoder().encode


@contextmanager
def keys_beside(asked: Asked, most: int) -> Iterator[Iterator[list[str]]]:
    """As ``once`` gives them; the process ends with the block. Also raises Astray when the process does not answer."""
    # In a group of its own, for Ctrl-C is the caller's to answer. S603: the program is this one.
    with subprocess.Popen(  # noqa: S603
        command(__name__, str(most), *map(str, asked.paths)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        bufsize=MIB,
        process_group=0,
    ) as process:
        try:
            assert process.stdout is not None  # it is a pipe
            yield _receive(process.stdout)
        finally:
            process.kill()


@contextmanager
def keys_ahead(asked: Asked, most: int) -> Iterator[Iterator[str]]:
    """All keys, however often they stand there; what the process does not tell is read here."""
    with keys_beside(asked, most) as keys:
        yield _to_the_end(keys, asked)


def main() -> None:
    """The process's part: ends by itself when nobody takes what it writes."""
    most, *paths = sys.argv[1:]
    for some in once(Asked(tuple(map(Path, paths))).keys(), int(most)):
        _send(sys.stdout.buffer, some)
    _send(sys.stdout.buffer, [])
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


def _to_the_end(keys: Iterator[list[str]], asked: Asked) -> Iterator[str]:
    told = 0
    try:
        for some in keys:
            yield from some
            told += len(some)
    except Astray:
        yield from itertools.islice(itertools.chain.from_iterable(asked.keys()), told, None)


def _send(target: IO[bytes], some: list[str]) -> None:
    data = _encode(some)
    target.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)


def _receive(source: IO[bytes]) -> Iterator[list[str]]:
    while head := source.read(_LENGTH_BYTES):
        length = int.from_bytes(head, "little")
        data = source.read(length)
        if len(head) < _LENGTH_BYTES or len(data) < length:
            break
        some = _keys.decode(data)
        if not some:
            return
        yield some
    raise Astray
