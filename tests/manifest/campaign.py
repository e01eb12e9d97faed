"""Random lives of a manifest, many of them; prints one JSON line.

usage: python -m tests.manifest.campaign [--lives N] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.manifest.test_manifest_machine import InMemory, InSqlite

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = 80


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=600, help="in memory; a sixth of them in SQLite")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    for machine, lives in ((InMemory, chosen.lives), (InSqlite, chosen.lives // 6)):
        options = settings(max_examples=lives, stateful_step_count=STEPS, deadline=None, database=None)
        run_state_machine_as_test(seed(chosen.seed)(machine), settings=options)  # raises at the first failure
    figures = {"campaign": "manifest", "seed": chosen.seed, "lives": chosen.lives, "failures": 0}
    print(json.dumps({**figures, "seconds": round(time.monotonic() - began)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
