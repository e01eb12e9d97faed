"""What it costs to know that no key was used before: ``python bench/ledger.py --millions 0.5 1 3 10``.

Keys come in blocks of 2,000 and are sealed as shards of two million, all of them new. For each number of keys a
process of its own prints a JSON line: processor nanoseconds a key by step, and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from packtrain import Options
from packtrain._io.ledger import Ledger
from packtrain._rules.keys import digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK, SHARD = 2000, 2_000_000


def blocks(keys: int) -> Iterator[list[bytes]]:
    for start in range(0, keys, BLOCK):
        yield digests(b"key-%012d" % number for number in range(start, start + BLOCK))


def measure(keys: int, memory_keys: int, directory: Path) -> dict[str, float]:
    ledger = Ledger(directory, memory_keys=memory_keys)
    spent: Counter[str] = Counter()

    def timed(step: str, work: Callable[[], object]) -> None:
        began = time.thread_time_ns()
        work()
        spent[step] += time.thread_time_ns() - began

    ledger.restore(0)
    for number, block in enumerate(blocks(keys), 1):
        timed("ask", lambda block=block: ledger.repeated(block))  # type: ignore[misc]  # the default binds it
        timed("add", lambda block=block: ledger.add(block))  # type: ignore[misc]  # the default binds it
        filled = number * BLOCK
        if filled % SHARD == 0 or filled >= keys:
            timed("seal", lambda shard=(filled - 1) // SHARD: ledger.seal(shard))  # type: ignore[misc]  # as above
    ledger.close()
    figures = {f"{step}_ns": round(spent[step] / keys) for step in ("ask", "add", "seal")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"keys": keys, **figures, "total_ns": sum(figures.values()), "peak_mb": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[0.5, 1, 3, 10])
    parser.add_argument("--memory-keys", type=int, default=Options().ledger_keys, help="held before they go to disk")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    for millions in chosen.millions:
        if chosen.alone:
            with tempfile.TemporaryDirectory() as name:
                print(json.dumps({"bench": "ledger", **measure(int(millions * 1e6), chosen.memory_keys, Path(name))}))
        else:
            given = ["--millions", str(millions), "--memory-keys", str(chosen.memory_keys)]
            subprocess.run([sys.executable, __file__, "--alone", *given], check=True)


if __name__ == "__main__":
    main()
