"""Blocks of a job: memory bounds, and atomic writes of answers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw

from packtrain._options import PIECE_BYTES
from packtrain._rules.framing import BOM
from packtrain.server.blobs import Blobs, Digest
from packtrain.server.job_lines import BLOCK_ROWS, FileFormat, RequestReader, join_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE = b'{"key":"k","request":{}}\n'


@pytest.mark.parametrize("most", [None, BLOCK_ROWS + 1])
def test_block_of_short_lines_is_bounded_by_their_number(most: int | None) -> None:
    """A short text may have a long vector, so input bytes do not bound the answers."""
    requests = RequestReader(io.BytesIO(LINE * (BLOCK_ROWS + 1)), FileFormat())
    assert [len(requests.block(most).rows) for _ in range(3)] == [BLOCK_ROWS, 1, 0]


def test_a_byte_order_mark_before_the_first_line_is_skipped() -> None:
    """B13: in files for either wire, and nowhere else."""
    requests = RequestReader(io.BytesIO(BOM + LINE + BOM + LINE), FileFormat())
    assert [isinstance(row.request, Raw) for row in requests.block().rows] == [True, False]


def test_answers_are_gathered_into_pieces() -> None:
    """They are not joined into one text."""
    lines = [b"x" * (PIECE_BYTES // 2)] * 7
    pieces = list(join_lines(lines))
    assert b"".join(pieces) == b"".join(lines)
    assert [len(piece) for piece in pieces] == [PIECE_BYTES] * 3 + [PIECE_BYTES // 2]


def test_pieces_are_written_all_or_none(tmp_path: Path) -> None:
    """A partial write is undone in the file and in its digest."""

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise OSError("no space")

    blobs = Blobs(tmp_path / "blobs")
    name = blobs.create()
    with blobs.appender(name, Digest()) as file:
        file.write(b"old")
        with pytest.raises(OSError, match="no space"):
            file.write_all(pieces())
        file.write(b"er")
        assert (file.digest.bytes, file.digest.sha256) == (blobs.digest(name).bytes, blobs.digest(name).sha256)
        assert blobs.digest(name).bytes == 5
