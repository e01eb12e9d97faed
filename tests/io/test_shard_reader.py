"""A sealed file is read once, hashed on the way, and its end comes only when all of it is as sealed."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from packtrain._errors import IntegrityError
from packtrain._io.request_file import ShardReader

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = random.Random(5).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def spoiled(path: Path, how: str) -> IntegrityError:
    return IntegrityError(f"{path} {how}")


def reader_of(path: Path, content: bytes, sha256: str = SHA256) -> ShardReader:
    path.write_bytes(content)
    return ShardReader(path, len(CONTENT), sha256, spoiled)


@pytest.mark.parametrize("start", [0, 1_000_000])
def test_it_gives_every_byte_and_the_digest_of_all(tmp_path: Path, start: int) -> None:
    """Also when it is taken up in the middle, or goes back to send something again."""
    reader = reader_of(tmp_path / "shard", CONTENT)
    sent = b"".join(reader.read(offset, 500_000) for offset in range(start, 2_500_000, 500_000))
    assert sent == CONTENT[start:2_500_000]
    assert reader.read(1_500_000, 500_000) == CONTENT[1_500_000:2_000_000]
    assert reader.read(2_500_000, 500_000) == CONTENT[2_500_000:]
    assert reader.digest() == SHA256
    reader.close()


@pytest.mark.parametrize("start", [0, 2_000_000])
@pytest.mark.parametrize("changed", [0, 1_700_000, 2_999_999])
def test_the_end_of_a_changed_file_is_not_given(tmp_path: Path, start: int, changed: int) -> None:
    """However often it is asked for: a data call that lacks it makes no file."""
    reader = reader_of(tmp_path / "shard", CONTENT[:changed] + b"?" + CONTENT[changed + 1 :])
    for offset in range(start, 2_500_000, 500_000):
        reader.read(offset, 500_000)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="is not what it was"):
            reader.read(2_500_000, 500_000)
    reader.close()


def test_a_file_that_became_shorter_is_found_where_it_ends(tmp_path: Path) -> None:
    """Not taken for a short read, which would be asked again for ever."""
    reader = reader_of(tmp_path / "shard", CONTENT[:1_000_000])
    with pytest.raises(IntegrityError, match="ends at byte 1000000"):
        reader.read(1_000_000, 500_000)
    reader.close()


def test_without_a_digest_nothing_is_compared(tmp_path: Path) -> None:
    """What was read is hashed all the same."""
    reader = reader_of(tmp_path / "shard", CONTENT, sha256="")
    assert reader.read(2_500_000, 500_000) == CONTENT[2_500_000:]
    assert reader.digest() == SHA256
    reader.close()


async def test_a_file_that_is_not_sent_is_compared_all_the_same(tmp_path: Path) -> None:
    """For a service without input files: the create carries the lines, so they are read before it is intended."""
    reader = reader_of(tmp_path / "shard", CONTENT)
    await reader.verify()
    reader.close()
    reader = reader_of(tmp_path / "shard", b"?" + CONTENT[1:])
    with pytest.raises(IntegrityError, match="is not what it was"):
        await reader.verify()
    reader.close()
