"""Judged lines made into what goes on: counted from the start of their source, and free of repeated keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import InputError
from .._rules.records import Batch, larger_than_shard, numbered, repeated_key, without

if TYPE_CHECKING:
    from .._io.ledger import Ledger
    from .._options import Options
    from .._rules.rolling import Roller


class Judge:
    """Judges one frame after the other, against the limits and against all keys before it."""

    def __init__(self, options: Options, roller: Roller, ledger: Ledger) -> None:
        self._options = options
        self._roller = roller
        self._ledger = ledger

    def judge(self, batch: Batch, before: int) -> Batch:
        """The lines of a frame that stands behind ``before`` lines; those that cannot be used have become rejects.

        Blocks. Raises InputError for a repeated key if that is to be an error.
        """
        batch = numbered(batch, before)
        limit = self._roller.max_bytes
        batch = without(batch, self._roller.oversized(batch.ends), lambda line: larger_than_shard(line, limit))
        repeated = self._ledger.repeated(batch.keys)
        if repeated and self._options.duplicates == "error":
            at = repeated[0]
            reason = repeated_key(batch.line(at))
            raise InputError(f"{batch.source}:{batch.lines_no[at]} (byte {batch.start(at)}): {reason}")
        return without(batch, repeated, repeated_key)
