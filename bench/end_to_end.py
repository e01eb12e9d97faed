"""One whole run through the local service, checked row by row: ``python bench/end_to_end.py --lines 1000000``.

Client and service share the process here, as with ``--service local``. Prints one JSON line with the counts of the
run, the seconds, and the peak memory of the process in megabytes (1 MB = 10**6 bytes).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def prompt(number: int) -> str:
    return f"prompt number {number} " + "word " * (number % 40)


def write_requests(path: Path, lines: int) -> None:
    with path.open("w") as file:
        for number in range(lines):
            body = {"contents": [{"parts": [{"text": prompt(number)}]}]}
            file.write(json.dumps({"key": f"key-{number}", "request": body}) + "\n")


def run(directory: Path, lines: int, shards: int) -> dict[str, Any]:
    """The summary that ``run --json`` printed. Raises CalledProcessError for an exit code but 0."""
    command = [sys.executable, "-m", "packtrain", "run", "in.jsonl", "--model", "m", "--out", "out.jsonl"]
    command += ["--service", "local", "--json", "--quiet", "--max-shard-requests", str(-(-lines // shards))]
    ended = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, check=True)
    summary: dict[str, Any] = json.loads(ended.stdout)
    return summary


def check(out: Path, lines: int) -> None:
    """Every key once, in order, with the text of its own prompt. Raises ValueError at the first that is not."""
    count = 0
    with out.open() as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            text = row["response"]["candidates"][0]["content"]["parts"][0]["text"]
            if row["key"] != f"key-{number}" or text != prompt(number):
                raise ValueError(f"line {number + 1} of the output is not the answer to line {number + 1} of the input")
            count += 1
    if count != lines:
        raise ValueError(f"{count} answers to {lines} lines")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_requests(directory / "in.jsonl", chosen.lines)
        summary = run(directory, chosen.lines, chosen.shards)
        check(directory / "out.jsonl", chosen.lines)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    print(json.dumps(summary | {"peak_mb": round(peak), "every_row_checked": True}))


if __name__ == "__main__":
    main()
