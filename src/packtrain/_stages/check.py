"""``check``: every line validated, and nothing kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .._errors import InputError
from .._exits import plain_errors
from .._flow.shares import Shares
from .._flow.validation_pool import Validator, validating
from .._io.inputs import open_sources, refuse_other_formats
from .._io.ledger import BlockCheck, Ledger
from .._model import Reject
from .._options import Options
from .._providers.service import Local, line_form
from .._rules.sharding import Roller
from .._snapshots import CheckReport
from .._validation import counted, kind_of_reason
from .scratch import scratch

if TYPE_CHECKING:
    from .._io.inputs import Inputs
    from .._io.storage import Source
    from .._rules.validate import Block

#: Rejects that a report lists; the rest are only counted.
_LISTED = 1000
#: Rejects of each kind that it has as samples.
_SAMPLES = 3


async def check(inputs: Inputs, *, options: Options | None = None) -> CheckReport:
    """Validate every line and keep nothing. Raises InputError for input that cannot be read, OtherFormat for input of
    another kind than request lines."""
    counts = _Counts()
    with plain_errors():
        await _check(inputs, options or Options(), counts)
    return CheckReport(
        lines=counts.lines,
        valid=counts.valid,
        rejected=counts.rejected,
        blank=counts.blank,
        rejects=counts.rejects,
        reasons=dict(counts.reasons),
        samples=counts.samples,
    )


async def _check(inputs: Inputs, options: Options, counts: _Counts) -> None:
    await refuse_other_formats(inputs, line_form())
    roller = Roller(options.shard_bytes or Local().limits.shard_bytes)
    async with scratch() as directory:
        block_check = BlockCheck(Ledger(directory, memory_keys=options.ledger_keys), roller, options.duplicates)
        await block_check.restore(0)
        try:
            async with Validator(options, Shares(options)) as validator:
                for source in await open_sources(inputs):
                    async with source:
                        await source.verify()
                        await _check_source(block_check, source, validator, options, counts)
        finally:
            await block_check.close()


class _Counts:
    """Counts of a check so far."""

    def __init__(self) -> None:
        self.lines = self.valid = self.rejected = self.blank = 0
        self.rejects: list[Reject] = []
        self.reasons = Counter[str]()
        self.samples: list[Reject] = []

    def add(self, block: Block) -> None:
        self.lines += block.lines
        self.valid += len(block.ends)
        self.rejected += len(block.rejects)
        self.blank += block.blank
        self.rejects += map(_bare, block.rejects[: _LISTED - len(self.rejects)])
        for reject in block.rejects:
            kind = kind_of_reason(reject.reason)
            self.reasons[kind] += 1
            if self.reasons[kind] <= _SAMPLES:
                self.samples.append(_bare(reject))


def _bare(reject: Reject) -> Reject:
    """Without its line, which may be long."""
    return Reject(reject.source, reject.line, reject.offset, reject.reason)


async def _check_source(
    block_check: BlockCheck, source: Source, validator: Validator, options: Options, counts: _Counts
) -> None:
    before = counts.lines
    look = None if source.replayable else line_form()
    async with validating(source, validator, options, look=look) as blocks:
        while (pending := await blocks.take()) is not None:
            counts.add(await block_check.check_and_add(await pending.block(), counts.lines - before))
    if options.max_rejects is not None and counts.rejected > options.max_rejects:
        raise InputError(f"{counted(counts.rejected, 'bad line')}, more than the {options.max_rejects} allowed")
