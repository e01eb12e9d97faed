"""Process that parses large files of requests or results while this process does other work.

A process gets one question and keeps nothing: it writes its findings to its output, some at a time, and an end mark
behind them. Without an end mark, for whatever reason, the files are read here once more, where the reason will show.
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
from .._rules.join import OutOfOrder
from .._rules.lines import LineShape
from .._signals import ignore_stops
from .request_file import RequestFiles
from .result_file import ParsedLines, ResultFiles, parse_all
from .worker import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LENGTH_BYTES = 4
_keys = msgspec.msgpack.Decoder(list[str])
_parsed = msgspec.msgpack.Decoder(ParsedLines)
_encode = msgspec.msgpack.Encoder().encode

T = TypeVar("T")


@contextmanager
def unique_keys_in_process(requests: RequestFiles, most: int) -> Iterator[Iterator[list[str]]]:
    """As ``unique`` gives them; the process ends with the block. Raises OutOfOrder also when it does not answer."""
    with _output_of("keys", _packed(requests.shape), str(most), *map(str, requests.paths)) as output:
        yield map(_keys.decode, output)


@contextmanager
def keys_in_process(requests: RequestFiles, most: int) -> Iterator[Iterator[list[str]]]:
    """All keys, however often they occur."""
    with unique_keys_in_process(requests, most) as keys:
        yield _completed(keys, lambda: filter(None, requests.keys()))


@contextmanager
def parsed_in_process(results: ResultFiles) -> Iterator[Iterator[ParsedLines]]:
    """As ``parse_all`` gives them."""
    with _output_of("results", _packed(results.shape), str(results.limit), *map(str, results.paths)) as output:
        yield _completed(map(_parsed.decode, output), lambda: parse_all(results))


def main() -> None:
    """The process's part: it ends by itself when its output is closed."""
    gc.disable()  # nothing here refers to itself, and the keys are many
    ignore_stops()
    what, packed, *arguments = sys.argv[1:]
    shape = msgspec.json.decode(packed, type=LineShape)
    for piece in _unique_keys(shape, *arguments) if what == "keys" else _parsed_results(shape, *arguments):
        _send(sys.stdout.buffer, _encode(piece))
    _send(sys.stdout.buffer, b"")
    sys.stdout.flush()


def unique(keys: Iterator[list[str]], most: int) -> Iterator[list[str]]:
    """Raises OutOfOrder for a key that occurs twice, and for more keys than ``most``."""
    seen: set[str] = set()
    count = 0
    for block in filter(None, keys):
        seen.update(block)
        count += len(block)
        if len(seen) < count or count > most:
            raise OutOfOrder
        yield block


def _packed(shape: LineShape) -> str:
    return msgspec.json.encode(shape).decode()


def _unique_keys(shape: LineShape, most: str, *paths: str) -> Iterator[list[str]]:
    return unique(RequestFiles(tuple(map(Path, paths)), shape=shape).keys(), int(most))


def _parsed_results(shape: LineShape, limit: str, *paths: str) -> Iterator[ParsedLines]:
    with ResultFiles([*map(Path, paths)], shape, int(limit)) as results:
        yield from parse_all(results)


@contextmanager
def _output_of(*arguments: str) -> Iterator[Iterator[bytes]]:
    """The messages of a process. Raises OutOfOrder when they end without an end mark."""
    try:
        # In a group of its own, because Ctrl-C is the caller's to handle. S603: the program is this one.
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
    raise OutOfOrder


def _completed(received: Iterator[T], here: Callable[[], Iterator[T]]) -> Iterator[T]:
    """What did not come from the process is read here."""
    count = 0
    try:
        for item in received:
            yield item
            count += 1
    except OutOfOrder:
        yield from itertools.islice(here(), count, None)
