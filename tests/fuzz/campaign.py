"""Schemathesis against a running service, for a number of examples or a time.

``python -m tests.fuzz.campaign --minutes 5`` is the long form: a service in a temporary directory, calls generated
from its /openapi.json, and figures at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

from packtrain.server import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


class Outcome(Struct, frozen=True):
    """The result. ``tally``: calls by operation and status."""

    passed: bool
    output: str
    tally: dict[str, dict[int, int]]

    @property
    def calls(self) -> int:
        return sum(sum(counts.values()) for counts in self.tally.values())

    @property
    def answered(self) -> set[str]:
        """The operations that succeeded at least once."""
        return {name for name, counts in self.tally.items() if counts.keys() & {200, 206}}


async def fuzz(origin: str, root: Path, *, seed: int, options: Sequence[str]) -> Outcome:
    """Runs schemathesis; ``options`` limit examples or time. It writes its files below ``root``."""
    tally = root / "tally.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{origin}/openapi.json", "--seed", str(seed)]
    command += ["--checks", ",".join(CHECKS), "--no-shrink", "--generation-database", "none", "--warnings", "off"]
    command += ["--suppress-health-check", "all", "--no-color", *options]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "FUZZ_SEED": str(seed),
        "FUZZ_TALLY": str(tally),
    }
    done = await anyio.run_process(command, env=environment, cwd=root, stderr=subprocess.STDOUT, check=False)
    found = json.loads(tally.read_text()) if tally.exists() else {}
    counts = {name: {int(status): calls for status, calls in statuses.items()} for name, statuses in found.items()}
    return Outcome(done.returncode == 0 and bool(counts), done.stdout.decode(errors="replace"), counts)


async def campaign(minutes: float, seed: int) -> int:
    with tempfile.TemporaryDirectory() as root:
        async with serving(Path(root, "service")) as origin:
            began = time.monotonic()
            outcome = await fuzz(origin, Path(root), seed=seed, options=["--max-time", f"{minutes * 60:.0f}"])
    if not outcome.passed:
        print(outcome.output, file=sys.stderr)
    for name, counts in sorted(outcome.tally.items()):
        columns = (f"{status}: {calls}" for status, calls in sorted(counts.items()))
        print(f"{name:30}", *columns, sep="  ", file=sys.stderr)
    figures = {
        "passed": outcome.passed,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "calls": outcome.calls,
        "operations": len(outcome.tally),
        "answered": len(outcome.answered),
    }
    print(json.dumps(figures))
    return 0 if outcome.passed else 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    chosen = parser.parse_args(arguments)
    logging.getLogger("packtrain").setLevel(logging.ERROR)  # undeliverable events are warnings
    return anyio.run(partial(campaign, chosen.minutes, chosen.seed))


if __name__ == "__main__":
    sys.exit(main())
