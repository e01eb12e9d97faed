"""Keys of the runs that a further run adds to: which are answered, and which are given again later. Blocking."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._rules.keys import digests
from .._rules.lines import Key
from .._rules.validate import key_hint
from .disk import disk_errors, draft, make_durable, open_draft, write_all
from .ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO


#: Lines whose keys are looked up at once.
_LINES = 1000


class RunKeys(Struct, frozen=True):
    """Where the keys of one run are: of its shards, and of those without an answer."""

    directory: Path
    shards: int
    failed: tuple[Path, ...]
    rejected: Path
    #: Results under keys that no request has.
    unknown: tuple[Path, ...]


class EarlierKeys:
    """Finds keys that were answered. The last run that has a key says whether it was.

    Opening raises KeysDamaged. Directories next to ``scratch`` hold what does not fit in memory, which is for
    ``memory_keys``.
    """

    def __init__(self, runs: Sequence[RunKeys], scratch: Path, *, memory_keys: int) -> None:
        each = max(1, memory_keys // (2 * len(runs)))
        self._ledgers: list[tuple[Ledger, Ledger]] = []
        self._files = ExitStack()
        try:
            for number, run in enumerate(runs):
                known = self._open(run.directory, run.shards, each)
                failed = self._open(scratch.with_name(f"{scratch.name}-{number}"), 0, each)
                for lines in _batches(run.failed):
                    failed.add(_keys(lines))
                self._ledgers.insert(0, (known, failed))
        except BaseException:
            self.close()
            raise

    def _open(self, directory: Path, shards: int, memory_keys: int) -> Ledger:
        ledger = Ledger(directory, memory_keys=memory_keys)
        ledger.restore(shards)
        self._files.callback(ledger.close)
        return ledger

    def answered(self, keys: Sequence[bytes]) -> list[int]:
        """Positions of the digests whose key has an answer."""
        left, found = set(keys), set[bytes]()
        for known, failed in self._ledgers:
            here = _held(known, left)
            found |= here - _held(failed, here)
            left -= here
        return [position for position, key in enumerate(keys) if key in found]

    def close(self) -> None:
        self._files.close()


def write_lists(runs: Sequence[RunKeys], failed: Path, rejected: Path, unknown: Path, *, memory_keys: int) -> None:
    """Put the lists of all runs together, durable: of failed and rejected lines without those whose key a later run
    has, and of unknown results."""
    with ExitStack() as files:
        later: list[Ledger] = []
        for run in runs:
            ledger = Ledger(run.directory, memory_keys=max(1, memory_keys // len(runs)))
            ledger.restore(run.shards)
            files.callback(ledger.close)
            later.append(ledger)
        for path, inputs, take in (
            (failed, [run.failed for run in runs], _keys),
            (rejected, [(run.rejected,) for run in runs], _hints),
        ):
            lists = ((lines, later[at + 1 :]) for at, paths in enumerate(inputs) for lines in _batches(paths))
            _write(path, lists, take)
        _write(unknown, ((lines, []) for run in runs for lines in _batches(run.unknown)), _no_keys)


def _write(
    path: Path,
    lists: Iterable[tuple[list[bytes], list[Ledger]]],
    take: Callable[[list[bytes]], list[bytes]],
) -> None:
    temporary = draft(path)
    with disk_errors(path), open_draft("results", temporary) as file:
        for lines, later in lists:
            keys = take(lines)
            gone = set[bytes]().union(*(_held(ledger, set(keys)) for ledger in later))
            kept = [line for line, key in zip(lines, keys, strict=True) if key not in gone]
            write_all("results", file, b"".join(kept))
        make_durable("results", file, temporary, path)


def _held(ledger: Ledger, keys: set[bytes]) -> set[bytes]:
    listed = list(keys)
    return {listed[position] for position in ledger.repeated(listed)}


def _batches(paths: Iterable[Path]) -> Iterator[list[bytes]]:
    for path in filter(lambda path: path.exists(), paths):
        with path.open("rb") as file:
            yield from _some(file)


def _some(file: BinaryIO) -> Iterator[list[bytes]]:
    while lines := list(itertools.islice(file, _LINES)):
        yield lines


_key = msgspec.json.Decoder(Key)


def _keys(lines: list[bytes]) -> list[bytes]:
    return digests(_key.decode(line).key.encode() for line in lines)


def _no_keys(lines: list[bytes]) -> list[bytes]:
    return [b""] * len(lines)


class _Rejected(Struct):
    text: str = ""


_rejected = msgspec.json.Decoder(_Rejected)


def _hints(lines: list[bytes]) -> list[bytes]:
    """Of each rejected line the digest of the key that it seems to have; no key has that of none."""
    hints = [key_hint(_rejected.decode(line).text) for line in lines]
    return [
        digest if hint else b"" for hint, digest in zip(hints, digests(hint.encode() for hint in hints), strict=True)
    ]
