"""How long it takes until a command begins: whole processes, in turn, on an otherwise idle machine.

    python bench/startup.py --rounds 15

``python -c pass`` is what the interpreter takes by itself. The second start is that of a complete run, which does
nothing. Prints a JSON line a run, then a table of medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from trials import Rival, compete, table


def commands(directory: Path) -> dict[str, list[str]]:
    python, packtrain = [sys.executable, "-c"], [sys.executable, "-m", "packtrain"]
    source, out = directory / "in.jsonl", directory / "out.jsonl"
    rows = [{"key": f"k{n}", "request": {"contents": [{"parts": [{"text": "hi"}]}]}} for n in range(1000)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = [*packtrain, "run", str(source), "--model", "m", "--out", str(out), "--service", "local"]
    subprocess.run(run, check=True, capture_output=True)
    return {
        "python -c pass": [*python, "pass"],
        "import packtrain": [*python, "import packtrain"],
        "import aiohttp": [*python, "import aiohttp"],
        "import google.genai": [*python, "import google.genai"],
        "curl --help all": ["curl", "--help", "all"],
        "packtrain --help": [*packtrain, "--help"],
        "packtrain run, complete": run,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rivals = [Rival(name=name, command=command) for name, command in commands(directory).items()]
        trials = compete("startup", rivals, size=0, rounds=rounds, directory=directory)
    print(f"\n{table(trials, against='python -c pass')}")


if __name__ == "__main__":
    main()
