"""Compressed input: all members, to the very end, in bounded pieces."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from typing import TYPE_CHECKING, Literal

import pytest

from packtrain._errors import InputError, OtherFormat
from packtrain._io.codecs import Decoder, Inflate, decoder, detect
from packtrain._options import MIB, PIECE_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = b"".join(b'{"key":"%d","request":{"n":%d}}\n' % (n, random.Random(n).getrandbits(60)) for n in range(400))
SKIPPABLE = b"\x5a\x2a\x4d\x18\x05\x00\x00\x00abcde"

Way = Literal["gzip", "gzip without isal", "zstd"]
WAYS: tuple[Way, ...] = ("gzip", "gzip without isal", "zstd")


def make(way: Way) -> Decoder:
    if way == "gzip without isal":
        return Decoder("in.gz", "gzip", Inflate)
    return decoder(f"in.{way}", way)


def pack(way: Way, data: bytes = LINES) -> bytes:
    return zstd.compress(data) if way == "zstd" else gzip.compress(data, mtime=0)


def unpack(way: Way, data: bytes, step: int | None = None) -> bytes:
    current = make(way)
    step = step or max(1, len(data))
    found = b"".join(piece for at in range(0, len(data), step) for piece in current.feed(data[at : at + step]))
    current.finish()
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", [1, 7, 1000, None])
def test_all_members_are_read(way: Way, step: int | None) -> None:
    """Files made by appending hold more than one; empty ones may stand between. Cuts do not matter."""
    packed = pack(way, LINES[:5000]) + pack(way, b"") + pack(way, LINES[5000:])
    assert unpack(way, packed, step) == LINES


@pytest.mark.parametrize("way", WAYS)
def test_data_cut_anywhere_is_an_error(way: Way) -> None:
    """In the first member, in the second, in a header or a trailer: only whole members pass."""
    first, second = pack(way, LINES[:700]), pack(way, LINES[700:1400])
    packed = first + second
    for stop in range(1, len(packed)):
        if stop == len(first):
            assert unpack(way, packed[:stop]) == LINES[:700]
            continue
        with pytest.raises(InputError, match=r"in\.(gz|gzip|zstd): the \w+ data is cut short"):
            unpack(way, packed[:stop])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", [1, None])
def test_junk_behind_the_data_is_an_error(way: Way, step: int | None) -> None:
    """Nobody can tell what it was meant to be."""
    for junk in (b"{", b"junk and more", b"\x1f\x00\x00\x00", b"\0\0\0junk", b"\x28\xb5\x00\x00"):
        with pytest.raises(InputError, match="something else follows"):
            unpack(way, pack(way) + junk, step)


@pytest.mark.parametrize("way", ["gzip", "gzip without isal"])
@pytest.mark.parametrize("step", [1, None])
def test_zeros_may_pad_gzip(way: Way, step: int | None) -> None:
    """Tapes and block devices leave them, at the end and between members."""
    assert unpack(way, pack(way) + bytes(1000), step) == LINES
    assert unpack(way, pack(way) + bytes(3) + pack(way), step) == LINES * 2


@pytest.mark.parametrize("way", WAYS)
def test_damage_is_an_error(way: Way) -> None:
    """A wrong checksum, a wrong length, a wrong block."""
    checked = {int(zstd.CompressionParameter.checksum_flag): 1}
    packed = zstd.compress(LINES, options=checked) if way == "zstd" else pack(way)
    for at in (-1, -4, -6, len(packed) // 2):
        damaged = bytearray(packed)
        damaged[at] ^= 0x10
        with pytest.raises(InputError, match=r"damaged|cut short|something else"):
            unpack(way, bytes(damaged))


def test_frames_without_content_are_skipped() -> None:
    """Some tools write an index into one, before or behind the data."""
    packed = SKIPPABLE + pack("zstd") + SKIPPABLE
    assert detect(packed[:6]) == "zstd"
    for step in (1, 5, None):
        assert unpack("zstd", packed, step) == LINES


@pytest.mark.parametrize("way", WAYS)
def test_a_bomb_comes_in_pieces(way: Way) -> None:
    """Fifty mebibytes of nothing never stand in memory whole."""
    packed = pack(way, bytes(50 * MIB))
    assert len(packed) < MIB
    sizes = [len(piece) for piece in make(way).feed(packed)]
    assert sum(sizes) == 50 * MIB
    assert max(sizes) <= PIECE_BYTES


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"", "plain"),
        (b'{"key"', "plain"),
        (b"\xef\xbb\xbf{", "plain"),
        (pack("gzip")[:6], "gzip"),
        (pack("zstd")[:6], "zstd"),
    ],
)
def test_magic_bytes_tell_the_format(data: bytes, form: str) -> None:
    """Not the name of the file."""
    assert detect(data) == form


@pytest.mark.parametrize(
    ("head", "form"), [(b"BZh91A", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"PK\x03\x04\x14\x00", "zip")]
)
def test_formats_that_are_not_read_are_named(head: bytes, form: str) -> None:
    """With those that are."""
    with pytest.raises(OtherFormat, match=rf"in\.x is .*{form}.*, which is not read"):
        detect(head, name="in.x")


def test_both_gzip_decoders_agree() -> None:
    """At levels and with headers of all kinds."""
    makers: list[Callable[[], bytes]] = [
        lambda: gzip.compress(LINES, 0),
        lambda: gzip.compress(LINES, 9),
        lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"name.jsonl\0" + gzip.compress(LINES, mtime=0)[10:],
        lambda: zlib.compress(LINES, wbits=31),
    ]
    for maker in makers:
        for step in (1, 333, None):
            assert unpack("gzip", maker(), step) == unpack("gzip without isal", maker(), step) == LINES


def wide(data: bytes, window_log: int) -> bytes:
    """As a compressor makes it that does not know the size, as from a pipe."""
    options = {
        int(zstd.CompressionParameter.window_log): window_log,
        int(zstd.CompressionParameter.content_size_flag): 0,
    }
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("window_log", [27, 28, 31])
def test_large_windows_of_zstd_are_read(window_log: int) -> None:
    """B4: up to the largest that zstd makes; memory is used as far as there is content."""
    packed = wide(LINES, window_log)
    assert packed[5] >> 3 == window_log - 10
    assert unpack("zstd", packed, 1000) == LINES


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_what_zstd_needs_besides_is_named(step: int) -> None:
    """B4: a dictionary, and a window above the limit; not called damaged."""
    dictionary = zstd.train_dict([b'{"key":"k%d","request":{}}' % n for n in range(1000)], 1000)
    with pytest.raises(OtherFormat, match=rf"dictionary of zstd \(number {dictionary.dict_id}\)") as refused:
        unpack("zstd", zstd.compress(LINES, zstd_dict=dictionary), step)
    assert refused.value.kind == "dictionary"
    packed = bytearray(wide(LINES, 20))
    packed[5] = (32 - 10) << 3
    with pytest.raises(OtherFormat, match="with a window of 4,294,967,296 bytes") as refused:
        unpack("zstd", bytes(packed), step)
    assert refused.value.kind == "window"
