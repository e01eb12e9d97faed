"""Blocks of a job: what of it stands in memory at a time, and how its answers are written."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from packtrain._options import PIECE_BYTES
from packtrain.server.blobs import Blobs, Digest
from packtrain.server.job_lines import BLOCK_ROWS, FileFormat, RequestReader, join_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE = b'{"key":"k","request":{}}\n'


@pytest.mark.parametrize("most", [None, BLOCK_ROWS + 1])
def test_block_of_short_lines_is_bounded_by_their_number(most: int | None) -> None:
    """A short text may have a long vector, so that bytes of input say nothing of those of the answers."""
    requests = RequestReader(io.BytesIO(LINE * (BLOCK_ROWS + 1)), FileFormat())
    assert [len(requests.block(most).rows) for _ in range(3)] == [BLOCK_ROWS, 1, 0]


def test_answers_are_gathered_into_pieces() -> None:
    """Not joined to one text beside themselves."""
    lines = [b"x" * (PIECE_BYTES // 2)] * 7
    pieces = list(join_lines(lines))
    assert b"".join(pieces) == b"".join(lines)
    assert [len(piece) for piece in pieces] == [PIECE_BYTES] * 3 + [PIECE_BYTES // 2]


def test_pieces_are_written_all_or_none(tmp_path: Path) -> None:
    """What a full disk took of them is gone again, from the file and from its digest."""

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise OSError("no room")

    blobs = Blobs(tmp_path / "blobs")
    name = blobs.create()
    with blobs.appender(name, Digest()) as file:
        file.write(b"old")
        with pytest.raises(OSError, match="no room"):
            file.write_all(pieces())
        file.write(b"er")
        assert (file.digest.bytes, file.digest.sha256) == (blobs.digest(name).bytes, blobs.digest(name).sha256)
        assert blobs.digest(name).bytes == 5
