"""``check``: every line validated, and nothing kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from .._errors import InputError
from .._exits import plain_errors
from .._flow.ingest import Judge
from .._flow.validation_pool import Scanner, scanning
from .._io.inputs import open_sources
from .._io.ledger import Ledger
from .._options import Options
from .._providers.service import GEMINI_LIMITS
from .._rules.sharding import Roller
from .._snapshots import CheckReport
from .._validation import counted
from .scratch import scratch

if TYPE_CHECKING:
    from .._io.inputs import Inputs
    from .._io.sources import Source
    from .._model import Reject
    from .._rules.validate import Block

#: Rejects that a report lists; the rest are only counted.
_LISTED = 1000


async def check(inputs: Inputs, *, options: Options | None = None) -> CheckReport:
    """Validate every line and keep nothing. Raises InputError for input that cannot be read."""
    counts = _Counts()
    with plain_errors():
        await _check(inputs, options or Options(), counts)
    return CheckReport(
        lines=counts.lines, valid=counts.valid, rejected=counts.rejected, blank=counts.blank, rejects=counts.rejects
    )


async def _check(inputs: Inputs, options: Options, counts: _Counts) -> None:
    roller = Roller(options.shard_bytes or GEMINI_LIMITS.shard_bytes)
    async with scratch() as directory:
        ledger = Ledger(directory, memory_keys=options.ledger_keys)
        await anyio.to_thread.run_sync(ledger.restore, 0)
        judge = Judge(options, roller, ledger)
        async with Scanner(options) as scanner:
            for source in await open_sources(inputs):
                async with source:
                    await source.verify()
                    await _check_source(judge, source, scanner, options, counts, ledger)
        ledger.close()


class _Counts:
    """Counts of a check so far."""

    def __init__(self) -> None:
        self.lines = self.valid = self.rejected = self.blank = 0
        self.rejects: list[Reject] = []

    def add(self, block: Block) -> None:
        self.lines += block.lines
        self.valid += len(block.ends)
        self.rejected += len(block.rejects)
        self.blank += block.blank
        self.rejects += block.rejects[: _LISTED - len(self.rejects)]


async def _check_source(
    judge: Judge, source: Source, scanner: Scanner, options: Options, counts: _Counts, ledger: Ledger
) -> None:
    def take(block: Block, before: int) -> Block:
        block = judge.judge(block, before)
        ledger.add(block.keys)
        return block

    before = counts.lines
    async with scanning(source, scanner, options) as window:
        while (pending := await window.take()) is not None:
            judged = await pending.block()
            counts.add(await anyio.to_thread.run_sync(take, judged, counts.lines - before))
    if options.max_rejects is not None and counts.rejected > options.max_rejects:
        raise InputError(f"{counted(counts.rejected, 'bad line')}, more than the {options.max_rejects} allowed")
