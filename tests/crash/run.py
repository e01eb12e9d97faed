"""Kill a run again and again, and see whether anybody can tell from its output.

``python -m tests.crash.run --lines 1000000 --shards 8 --kills 60`` is the long form. Client and service are
processes of their own; at random instants one of them, or both, or a process that judges lines for the client, get
SIGKILL and are started again, the client each time with another number of workers. At the end the output must be, byte
for byte, that of a run that nobody disturbed, the service's own record must show one job for each shard, and an audit
of the run must find nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from packtrain.testing.audit.run import audit_run

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPLETE, AGAIN = 0, 75
VICTIMS = ("client", "client", "worker", "service", "both")
WORKERS = (1, 2, 4)


class Bench:
    """One service and one client, as processes, on files below ``root``."""

    def __init__(self, root: Path, *, lines: int, shards: int) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.input = root / "in.jsonl"
        self.requests = -(-lines // shards)
        self.shards = -(-lines // self.requests)
        self._port = free_port()
        self._service: subprocess.Popen[bytes] | None = None
        if not self.input.exists():
            write_requests(self.input, lines)

    def serve(self, name: str) -> None:
        directory = self.root / name
        command = [sys.executable, "-m", "packtrain", "serve", "--dir", str(directory), "--port", str(self._port)]
        self._service = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._service.stdout is not None
        line = self._service.stdout.readline()
        if not line.startswith(b"listening on"):
            raise RuntimeError(f"the service did not start: {line!r}")

    def kill_service(self) -> None:
        assert self._service is not None
        self._service.send_signal(signal.SIGKILL)
        self.reap()

    def reap(self) -> None:
        assert self._service is not None and self._service.stdout is not None
        self._service.stdout.close()
        self._service.wait()

    def start_client(self, name: str, workers: int = 1) -> subprocess.Popen[bytes]:
        out = self.root / f"{name}.jsonl"
        command = [sys.executable, "-m", "packtrain", "run", str(self.input), "--model", "m", "--out", str(out)]
        command += ["--service", f"http://127.0.0.1:{self._port}", "--wire", "gemini", "--json", "--quiet"]
        command += ["--max-shard-requests", str(self.requests), "--poll", "100ms", "--settle", "1s"]
        command += ["--workers", str(workers)]
        environment = os.environ | {"GEMINI_API_KEY": "none-needed"}
        with (self.root / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)

    def undisturbed(self) -> tuple[str, float]:
        """Digest of the output of a run that is left alone, and the seconds that it took."""
        began = time.monotonic()
        self.serve("calm-service")
        code, _ = finish(self.start_client("calm"))
        self.kill_service()
        if code != COMPLETE:
            raise RuntimeError(f"the undisturbed run ended with {code}; see {self.root / 'calm.log'}")
        return digest(self.root / "calm.jsonl"), time.monotonic() - began

    def disturbed(self, kills: int, seed: int, span: float) -> tuple[str, int]:
        """Digest of the output of a run with that many kills, spread over lives of up to ``span`` seconds."""
        chance = random.Random(seed)
        done, code = 0, AGAIN
        self.serve("torn-service")
        while code == AGAIN:
            client = self.start_client("torn", chance.choice(WORKERS))
            while done < kills:
                try:
                    client.wait(timeout=chance.uniform(0.05, span))
                    break
                except subprocess.TimeoutExpired:
                    done += 1
                    client = self._strike(client, chance)
            code, _ = finish(client)
        self.kill_service()
        if code != COMPLETE:
            raise RuntimeError(f"the torn run ended with {code}; see {self.root / 'torn.log'}")
        return digest(self.root / "torn.jsonl"), done

    def jobs(self) -> list[str]:
        """The display name of every job that the service ever made for the torn run."""
        with (self.root / "torn-service" / "truth.jsonl").open() as file:
            entries = [json.loads(line) for line in file]
        return [entry["displayName"] for entry in entries if entry["what"] == "batch_created"]

    def audit(self) -> list[str]:
        """What is wrong with the torn run."""
        out, state, service = (self.root / name for name in ("torn.jsonl", "torn.jsonl.packtrain", "torn-service"))
        return audit_run(inputs=[self.input], out=out, state=state, service=service, exit_code=COMPLETE)

    def _strike(self, client: subprocess.Popen[bytes], chance: random.Random) -> subprocess.Popen[bytes]:
        victim = chance.choice(VICTIMS)
        if victim == "worker":
            kill_children(client.pid)
            return client
        if victim in ("service", "both"):
            self.kill_service()
        if victim in ("client", "both"):
            client.send_signal(signal.SIGKILL)
            finish(client)
        if victim in ("service", "both"):
            self.serve("torn-service")
        return self.start_client("torn", chance.choice(WORKERS)) if victim in ("client", "both") else client


def write_requests(path: Path, lines: int) -> None:
    with path.open("w") as file:
        for number in range(lines):
            text = f"prompt number {number} " + "word " * (number % 40)
            body = {"contents": [{"parts": [{"text": text}]}]}
            file.write(json.dumps({"key": f"key-{number}", "request": body}) + "\n")


def kill_children(pid: int) -> None:
    """Those that a process has at this moment."""
    with contextlib.suppress(OSError):  # it may have ended
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                os.kill(int(child), signal.SIGKILL)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    output, _ = process.communicate()
    return process.returncode, output


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--longest-life", type=float, help="seconds between two kills at the most")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as root:
        return torture(Path(root), chosen)


def torture(root: Path, chosen: argparse.Namespace) -> int:
    bench = Bench(root, lines=chosen.lines, shards=chosen.shards)
    calm, seconds = bench.undisturbed()
    torn, kills = bench.disturbed(chosen.kills, chosen.seed, chosen.longest_life or seconds / 8)
    jobs, findings = bench.jobs(), bench.audit()
    verdict = {
        "lines": chosen.lines,
        "shards": bench.shards,
        "kills": kills,
        "seed": chosen.seed,
        "seconds_undisturbed": round(seconds, 1),
        "identical": calm == torn,
        "jobs": len(jobs),
        "tags": len(set(jobs)),
        "findings": findings,
    }
    print(json.dumps(verdict))
    one_each = len(jobs) == bench.shards == len({tag.rsplit(".", 3)[0] for tag in jobs})
    return 0 if calm == torn and one_each and not findings else 1


if __name__ == "__main__":
    sys.exit(main())
