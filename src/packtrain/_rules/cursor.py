"""Position in the input after some of its lines: the next cursor from the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from .._model import Cursor
    from .validate import Block


def within(before: Cursor, block: Block, taken: int) -> Cursor:
    """After the first ``taken`` accepted lines of the block that follows ``before``, and the lines between them."""
    if not taken:
        return before
    line = block.lines_no[taken - 1]
    rejected = sum(1 for reject in block.rejects if reject.line <= line)
    skipped = sum(1 for number in block.skipped if number <= line)
    return _moved(before, line - before.line, taken, rejected, skipped, block.offset + block.raw_ends[taken - 1])


def past(before: Cursor, block: Block) -> Cursor:
    """After the whole block."""
    return _moved(before, block.lines, len(block.ends), len(block.rejects), len(block.skipped), block.end)


def next_source(before: Cursor) -> Cursor:
    return msgspec.structs.replace(before, source=before.source + 1, offset=0, line=0)


def _moved(before: Cursor, lines: int, valid: int, rejected: int, skipped: int, offset: int) -> Cursor:
    return msgspec.structs.replace(
        before,
        offset=offset,
        line=before.line + lines,
        lines=before.lines + lines,
        blank=before.blank + lines - valid - rejected - skipped,
        valid=before.valid + valid,
        rejected=before.rejected + rejected,
        skipped=before.skipped + skipped,
        bytes=before.bytes + offset - before.offset,
    )
