"""Make the archives and digests beside this file with the code of the release 36f42c7.

git worktree add ../release-before 36f42c7
PYTHONPATH=../release-before/src .venv/bin/python -m tests.release_36f42c7.make
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.release_36f42c7.cases import LINES_A_SHARD, OUTPUTS, STATES, digests, plain_lines, write_input

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PROGRAM = (sys.executable, "-m", "packtrain")
PACE = ("--poll", "50ms", "--settle", "200ms")


@contextmanager
def service(place: Path, faults: str) -> Iterator[str]:
    command = [*PROGRAM, "serve", "--dir", "service", "--port", "0", "--quiet"]
    if faults:
        (place / "faults.toml").write_text(faults)
        command += ["--faults", "faults.toml"]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.terminate()
    process.wait()


def run(place: Path, origin: str, out: str, options: tuple[str, ...], failpoints: str = "") -> int:
    command = [*PROGRAM, "run", "in.jsonl", "--out", out, "--model", "m", "--service", origin, "--wire", "gemini"]
    command += ["--max-shard-requests", str(LINES_A_SHARD), "--quiet", *PACE, *options]
    environ = {**os.environ, "GEMINI_API_KEY": "none-needed", "PACKTRAIN_FAILPOINTS": failpoints}
    return subprocess.run(command, cwd=place, env=environ, check=False).returncode


def main() -> None:
    outputs = {}
    for each in OUTPUTS:
        with tempfile.TemporaryDirectory() as name, service(Path(name), each.faults) as origin:
            write_input(Path(name), each.lines)
            code = run(Path(name), origin, each.out, each.options)
            outputs[each.name] = {"code": code, "files": digests(Path(name))}
    made_at = {}
    for state in STATES:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            with service(place, state.faults) as origin:
                write_input(place, tuple(plain_lines()))
                code = run(place, origin, "out.jsonl", state.options, state.failpoints)
            expected = -signal.SIGKILL if "kill" in state.failpoints else 5 if "quarantined" in state.name else 1
            assert code == expected, state.name
            made_at[state.name] = time.time()
            with tarfile.open(HERE / f"{state.name.replace(' ', '-')}.tar.xz", "w:xz", preset=9) as archive:
                for path in sorted(place.iterdir()):
                    archive.add(path, path.name, filter=anonymous)
    (HERE / "made.json").write_text(json.dumps({"made_at": made_at, "outputs": outputs}, indent=1) + "\n")


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
