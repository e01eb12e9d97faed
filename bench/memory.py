"""Peak memory against the size of the input: ``python bench/memory.py --gigabytes 0.1 1 10``.

``check`` reads lines of 1 kB from a generator through its standard input, so that nothing of that size must lie
anywhere; ``run`` takes a file through a local service in a process of its own, up to ``--most-run`` gigabytes, and
needs five times as much room in ``--directory``. Prints a JSON line a run, then a table; memory is that of the largest
process.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from trials import MB, Rival, Trial, compete, local_service

if TYPE_CHECKING:
    from collections.abc import Sequence

LINES = Path(__file__).with_name("lines.py")
PACKTRAIN = (sys.executable, "-m", "packtrain")


def check(directory: Path, megabytes: int) -> Trial:
    piped = f"{sys.executable} {LINES} --megabytes {megabytes} | {sys.executable} -m packtrain check -"
    return _once("check", ["sh", "-c", piped], directory, megabytes)


def run(directory: Path, megabytes: int) -> Trial:
    source, out, state = directory / "in.jsonl", directory / "out.jsonl", directory / "out.jsonl.packtrain"
    with source.open("wb") as file:
        subprocess.run([sys.executable, LINES, "--megabytes", str(megabytes)], stdout=file, check=True)
    with local_service(directory / "service") as origin:
        command = [*PACKTRAIN, "run", "in.jsonl", "--model", "m", "--out", "out.jsonl", "--quiet"]
        command += ["--service", origin, "--wire", "gemini", "--poll", "1s"]
        trial = _once("run", command, directory, megabytes)
    for path in (source, out):
        path.unlink()
    for path in (state, directory / "service"):
        shutil.rmtree(path)
    return trial


def _once(name: str, command: Sequence[str], directory: Path, megabytes: int) -> Trial:
    rival = Rival(name=name, command=command)
    return compete("memory", [rival], size=megabytes * MB, rounds=1, directory=directory)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.1, 1, 10])
    parser.add_argument("--most-run", type=float, default=1)
    parser.add_argument("--directory", type=Path)
    chosen = parser.parse_args()
    trials = []
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        for gigabytes in chosen.gigabytes:
            trials.append(check(Path(name), round(gigabytes * 1000)))
            if gigabytes <= chosen.most_run:
                trials.append(run(Path(name), round(gigabytes * 1000)))
    print("| input GB | | peak MB | seconds | CPU seconds |\n|---|---|---|---|---|")
    for trial in trials:
        gigabytes = trial.bytes / 1e9
        print(
            f"| {gigabytes:g} | {trial.rival} | {trial.peak_mb:.0f} | {trial.seconds:.0f} | {trial.cpu_seconds:.0f} |"
        )


if __name__ == "__main__":
    main()
