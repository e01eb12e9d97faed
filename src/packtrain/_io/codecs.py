"""Decompression by magic bytes, in bounded pieces, to the very end.

A file made by appending has several gzip members or zstd frames; decoders stop silently after the first,
so they are started again here. A cut file gives nearly all its lines before its end is missed, so ``finish`` checks
the end. All of it blocks: call it in a worker thread.
"""

from __future__ import annotations

import importlib.util
import sys
import zlib
from typing import TYPE_CHECKING, Literal, Protocol, cast

from .._errors import InputDamaged, InputError
from .._options import PIECE_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Format = Literal["plain", "gzip", "zstd"]

#: Bytes that ``detect`` needs.
HEAD_BYTES = 6
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
_FOREIGN = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7-Zip",
    b"\x04\x22\x4d\x18": "lz4",
    b"PAR1": "Parquet",
}


class Decompressor(Protocol):
    """One member or frame: the interface that bz2, zstd and isal agree on."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Inflate:
    """The standard library's gzip with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(0, max_length))


class Decoder:
    """Decompresses one source. ``feed`` its bytes in order, then ``finish``.

    Raises InputDamaged for data that is damaged, cut, or followed by something else.
    """

    def __init__(self, name: str, form: Literal["gzip", "zstd"], start: Callable[[], Decompressor]) -> None:
        self._name = name
        self._form = form
        self._start = start
        self._current: Decompressor | None = None
        self._rest = b""
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decompressed bytes, in pieces of at most ``PIECE_BYTES``; take them all before the next feed."""
        data = self._rest + data
        self._rest = b""
        while True:
            if self._current is None:
                data = self._between(data)
                if not data:
                    return
                self._current = self._start()
                self._members += 1
            piece = self._step(self._current, data)
            data = b""
            if piece:
                yield piece
            if self._current.eof:
                data = self._current.unused_data
                self._current = None
            elif self._current.needs_input:
                return

    def finish(self) -> None:
        """Raises InputError if the data ended in the middle."""
        if self._current is not None or self._rest:
            raise InputDamaged(f"{self._name}: the {self._form} data is cut short", name=self._name)

    def _step(self, current: Decompressor, data: bytes) -> bytes:
        try:
            return current.decompress(data, PIECE_BYTES)
        except _errors() as error:
            raise InputDamaged(f"{self._name}: the {self._form} data is damaged ({error})", name=self._name) from error

    def _between(self, data: bytes) -> bytes:
        """The start of the next member; b"" while too few bytes of it are there."""
        if self._members and self._form == "gzip":
            data = data.lstrip(b"\0")  # tapes and block devices pad with zeros
        if len(data) < 4 and _could_start(self._form, data):
            self._rest = data
            return b""
        if not _could_start(self._form, data):
            raise InputDamaged(
                f"{self._name}: something else follows the {self._form} data (member {self._members})", name=self._name
            )
        return data


def detect(head: bytes, *, name: str = "input") -> Format:
    """The format by the first ``HEAD_BYTES`` bytes. Raises InputError for one that is not read."""
    for magic, form in _FOREIGN.items():
        if head.startswith(magic):
            raise InputError(f"{name}: {form} is not read; give JSONL as it is, or compressed with gzip or zstd")
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or _is_skippable(head):
        return "zstd"
    return "plain"


def decoder(name: str, form: Literal["gzip", "zstd"]) -> Decoder:
    """A decoder by the fastest library that is installed."""
    if form == "zstd":
        return Decoder(name, form, zstd.ZstdDecompressor)
    return Decoder(name, form, _isal if _has_isal() else Inflate)


def _has_isal() -> bool:
    return importlib.util.find_spec("isal") is not None


def _isal() -> Decompressor:
    from isal import igzip_lib

    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _errors() -> tuple[type[Exception], ...]:
    if not _has_isal():
        return zlib.error, zstd.ZstdError
    from isal import igzip_lib

    # Its stub calls the class an instance.
    return zlib.error, zstd.ZstdError, cast("type[Exception]", igzip_lib.error)


def _could_start(form: str, data: bytes) -> bool:
    """Data begins as a member does, as far as it goes."""
    if form == "gzip":
        return data[:2] == _GZIP[: len(data)]
    return data[:4] == _ZSTD[: len(data)] or _is_skippable(data)


def _is_skippable(data: bytes) -> bool:
    """A zstd frame without content: sixteen magic numbers from 0x184D2A50."""
    return bool(data) and 0x50 <= data[0] <= 0x5F and data[1:4] == _SKIPPABLE[: max(0, len(data) - 1)]
