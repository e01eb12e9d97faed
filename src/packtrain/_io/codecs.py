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

from msgspec import Struct

from .._errors import InputDamaged, InputError, OtherFormat
from .._options import PIECE_BYTES
from .._rules.diagnosis import by_magic

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
#: The largest window that zstd itself makes: 2 GiB. So much memory is used while such a frame is read.
_WINDOW_LOG = 31
#: Of a frame's header, as far as it is read.
_HEADER_BYTES = 10
_SKIPPABLE = b"\x2a\x4d\x18"


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

    Raises InputDamaged for data that is damaged, cut, or followed by something else, OtherFormat for a zstd frame that
    needs a dictionary or too large a window.
    """

    def __init__(self, name: str, form: Literal["gzip", "zstd"], start: Callable[[], Decompressor]) -> None:
        self._name = name
        self._form = form
        self._start = start
        self._current: Decompressor | None = None
        self._rest = b""
        self._members = 0
        #: The first bytes of the current member.
        self._header = b""

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
                self._header = b""
            self._header += data[: _HEADER_BYTES - len(self._header)]
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
            raise self._failed(error) from error

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

    def _failed(self, error: Exception) -> InputError:
        """The error of a member that cannot be decompressed."""
        name, needs = self._name, _needs(self._header) if self._form == "zstd" else _Needs()
        if needs.dictionary:
            fact = f"{name} is compressed with a dictionary of zstd (number {needs.dictionary}), which is not read"
            return OtherFormat(fact, name=name, kind="dictionary")
        if needs.window > 1 << _WINDOW_LOG or "memory" in str(error):
            fact = (
                f"{name} is compressed by zstd with a window of {needs.window:,} bytes, which is more than can be held"
            )
            return OtherFormat(fact, name=name, kind="window")
        if isinstance(error, MemoryError):
            return InputError(f"{name}: there is not enough memory to decompress it")
        return InputDamaged(f"{name}: the {self._form} data is damaged ({error})", name=name)


class _Needs(Struct, frozen=True):
    """What the decompression of a zstd frame needs: memory for its window, and a dictionary by its number."""

    window: int = 0
    dictionary: int = 0


def _needs(header: bytes) -> _Needs:
    """By RFC 8878, section 3.1.1.1, from the first bytes of a frame."""
    if len(header) < 6 or not header.startswith(_ZSTD):
        return _Needs()
    descriptor, at = header[4], 5
    window = 0
    if not descriptor & 0x20:
        exponent, mantissa = divmod(header[at], 8)
        window, at = (1 << 10 + exponent) // 8 * (8 + mantissa), at + 1
    size = (0, 1, 2, 4)[descriptor & 3]
    return _Needs(window, int.from_bytes(header[at : at + size], "little"))


def detect(head: bytes, *, name: str = "input") -> Format:
    """The format by the first ``HEAD_BYTES`` bytes. Raises OtherFormat for one that is not read."""
    if found := by_magic(head):
        raise OtherFormat(f"{name} {found.fact}", name=name, kind=found.kind)
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or _is_skippable(head):
        return "zstd"
    return "plain"


def decoder(name: str, form: Literal["gzip", "zstd"]) -> Decoder:
    """A decoder by the fastest library that is installed."""
    if form == "zstd":
        return Decoder(name, form, _zstd)
    return Decoder(name, form, _isal if _has_isal() else Inflate)


def _zstd() -> Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


def _has_isal() -> bool:
    return importlib.util.find_spec("isal") is not None


def _isal() -> Decompressor:
    from isal import igzip_lib

    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _errors() -> tuple[type[Exception], ...]:
    if not _has_isal():
        return zlib.error, zstd.ZstdError, MemoryError
    from isal import igzip_lib

    # Its stub calls the class an instance.
    return zlib.error, zstd.ZstdError, MemoryError, cast("type[Exception]", igzip_lib.error)


def _could_start(form: str, data: bytes) -> bool:
    """Data begins as a member does, as far as it goes."""
    if form == "gzip":
        return data[:2] == _GZIP[: len(data)]
    return data[:4] == _ZSTD[: len(data)] or _is_skippable(data)


def _is_skippable(data: bytes) -> bool:
    """A zstd frame without content: sixteen magic numbers from 0x184D2A50."""
    return bool(data) and 0x50 <= data[0] <= 0x5F and data[1:4] == _SKIPPABLE[: max(0, len(data) - 1)]
