"""Sow one bug after the other into a copy of the project, and see whether the tests catch it.

``python -m tests.mutants.sow``. A bug counts as caught when the tests that must catch it fail; that they pass without
any bug is seen first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.table import CLIENT, MUTANTS, Mutant

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
#: What the tests need of the project.
PARTS = ("src", "tests", "docs", "scripts", "pyproject.toml")
PASSED, FAILED = 0, 1


def place_of(mutant: Mutant, root: Path = ROOT) -> Path:
    return root / CLIENT / mutant.file


def mutated(mutant: Mutant, text: str) -> str:
    """Raises ValueError for a text in which the place of the bug is not clear."""
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.file}, not once")
    return text.replace(mutant.old, mutant.new)


def is_caught(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as name:
        root = copy(Path(name))
        path = place_of(mutant, root)
        path.write_text(mutated(mutant, path.read_text()))
        return failure(root, mutant.tests) is not None


def copy(root: Path) -> Path:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / part)
    return root


def failure(root: Path, tests: Sequence[str]) -> str | None:
    """What pytest says of the first test that fails; None when none does.

    Raises RuntimeError when pytest has come to no verdict, as for a bug that is no Python.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"TEST_SCHEDULES": "20000", "TEST_LONG": "1"}  # rare bugs need more than a test run takes
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode not in (PASSED, FAILED):
        raise RuntimeError(f"pytest {' '.join(tests)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout[-2000:] if done.returncode == FAILED else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="sow only bugs with one of these words in their names")
    parser.add_argument("--abreast", type=int, default=2, help="bugs side by side")
    chosen = parser.parse_args(arguments)
    mutants = [each for each in MUTANTS if not chosen.words or any(word in each.name for word in chosen.words)]
    began, caught = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        wrong = failure(copy(Path(name)), sorted({test for each in mutants for test in each.tests}))
    if wrong is not None:
        raise RuntimeError(f"the tests fail without any bug; mend that first:\n{wrong}")
    with ThreadPoolExecutor(chosen.abreast) as pool:
        for mutant, seen in zip(mutants, pool.map(is_caught, mutants), strict=True):
            caught += seen
            print(f"{'caught    ' if seen else 'NOT caught'}  {mutant.name}", file=sys.stderr, flush=True)
    print(json.dumps({"sown": len(mutants), "caught": caught, "seconds": round(time.monotonic() - began)}))
    return 0 if caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
