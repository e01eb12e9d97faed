"""All scenarios of a service that lies, each against the real command line with its real waits.

``python -m tests.hostile.campaign`` is ``scripts/torture hostile``. Judged are exit codes, the output, jobs by shard,
that nothing is sent elsewhere, the memory of the client, the time until the first clear message, and how fast a stop is
heeded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from packtrain.testing.hostile import Hostile, open_hostile
from tests.flow.place import request_line, write_lines
from tests.hostile.lives import LINES, SHARDS, service_of, serving_all, verdict
from tests.hostile.scenarios import Scenario, scenarios

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The bars: memory in bytes, and seconds.
MEMORY, FIRST_MESSAGE, STOP, LONGEST = 300 * 10**6, 30.0, 15.0, 420.0
#: What is given to a run that shall lose its patience.
PATIENCE = 8
_CLEAR = re.compile(r"trying again in|waiting for up to|is not known whether|could not be deleted|^packtrain: ", re.M)
_COMMAND = [sys.executable, "-c", "from packtrain.cli import main; main()"]


@dataclass
class Life:
    """One process of the client."""

    code: int = 0
    seconds: float = 0.0
    #: By the monotonic clock.
    ended: float = 0.0
    memory: int = 0
    #: Of a clear message, by the monotonic clock.
    first_message: float | None = None
    said: list[str] = field(default_factory=list)


class Client:
    """The command line in a process; what it says is read as it comes."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.life = Life()
        self._began = time.monotonic()
        environment = os.environ | {"GEMINI_API_KEY": "sentinel-key"}
        self._process = subprocess.Popen(
            [*_COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.life.said.append(line)
            if self.life.first_message is None and _CLEAR.search(line):
                self.life.first_message = time.monotonic()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> Life:
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = self.life.code = os.waitstatus_to_exitcode(status)
        self.life.ended = time.monotonic()
        self.life.seconds, self.life.memory = self.life.ended - self._began, usage.ru_maxrss * 1024
        return self.life


class Campaign:
    """What all scenarios came to."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.found: list[str] = []
        self.memory = 0
        self.slowest_message = self.slowest_stop = 0.0

    async def judge(self, number: int, scenario: Scenario, origin: str) -> None:
        place = self._root / f"{number:03d}"
        place.mkdir()
        write_lines(place / "in.jsonl", map(request_line, range(LINES)))
        wrong: list[str] = []
        async with (
            service_of(scenario, place, origin) as (target, record),
            open_hostile(target, scenario.lies) as hostile,
        ):
            lives = await self._lives(scenario, place, hostile, wrong)
            said = "".join(line for life in lives for line in life.said)
            wrong += verdict(scenario, hostile, place / "out.jsonl", record, said)
        self._measure(scenario, lives, hostile, wrong)
        last = lives[-1].said[-2:]
        self.found += [f"{scenario.kind}: {scenario.name}: {text}; said last: {last}" for text in wrong]
        print(
            f"{scenario.kind}: {scenario.name}: {[(life.code, round(life.seconds)) for life in lives]}", file=sys.stderr
        )

    async def _lives(self, scenario: Scenario, place: Path, hostile: Hostile, wrong: list[str]) -> list[Life]:
        lives = [await self._live(scenario, place, hostile, wrong)]
        if lives[0].code not in scenario.ends:
            wrong.append(f"the first start ended with {lives[0].code}")
        hostile.heal()
        if lives[0].code != 0:
            lives.append(await self._live(scenario, place, hostile, wrong))
            if lives[1].code not in scenario.last:
                wrong.append(f"the last start ended with {lives[1].code}")
        return lives

    async def _live(self, scenario: Scenario, place: Path, hostile: Hostile, wrong: list[str]) -> Life:
        lying = bool(hostile.lies)
        patience = f"{PATIENCE}s" if scenario.mode == "patience" and lying else "1h"
        client = Client(
            [
                *("run", str(place / "in.jsonl"), "-m", "m", "-o", str(place / "out.jsonl")),
                *("--state", str(place / "state"), "--service", hostile.origin, "--wire", "gemini"),
                *("--poll", "1s", "--settle", "5s", "--patience", patience),
                *("--max-shard-requests", str(LINES // SHARDS)),
            ]
        )
        async with anyio.create_task_group() as tasks:
            if scenario.mode == "stop" and lying:
                tasks.start_soon(self._stop, client, hostile, wrong)
            tasks.start_soon(self._kill, client, wrong)
            life = await anyio.to_thread.run_sync(client.wait, limiter=anyio.CapacityLimiter(1))
            tasks.cancel_scope.cancel()
        return life

    async def _stop(self, client: Client, hostile: Hostile, wrong: list[str]) -> None:
        await hostile.lied.wait()
        await anyio.sleep(1.0)
        client.signal(signal.SIGTERM)
        began = time.monotonic()
        try:
            await anyio.sleep(STOP)
            wrong.append(f"it did not stop within {STOP:.0f} s")
            client.signal(signal.SIGTERM)
            await anyio.sleep(STOP)
        finally:
            self.slowest_stop = max(self.slowest_stop, time.monotonic() - began)

    async def _kill(self, client: Client, wrong: list[str]) -> None:
        await anyio.sleep(LONGEST)
        wrong.append(f"it hung for {LONGEST:.0f} s")
        client.signal(signal.SIGKILL)

    def _measure(self, scenario: Scenario, lives: list[Life], hostile: Hostile, wrong: list[str]) -> None:
        memory = max(life.memory for life in lives)
        self.memory = max(self.memory, memory)
        if memory > MEMORY:
            wrong.append(f"{memory / 1e6:.0f} MB of memory")
        if scenario.mode == "stop" or scenario.quiet or hostile.first_told is None or hostile.last_ended is None:
            return
        # The event loop's clock is the monotonic one. What was over sooner needs no message.
        if lives[0].first_message is not None:
            wait = max(0.0, lives[0].first_message - hostile.first_told)
        else:
            wait = hostile.last_ended - hostile.first_told
        if hostile.last_ended - hostile.first_told > FIRST_MESSAGE:
            self.slowest_message = max(self.slowest_message, wait)
            if wait > FIRST_MESSAGE:
                wrong.append(f"{wait:.0f} s until the first clear message")


async def _torture(root: Path, chosen: Sequence[Scenario], abreast: int) -> Campaign:
    campaign, slots = Campaign(root), anyio.CapacityLimiter(abreast)

    async def one(number: int, scenario: Scenario, origin: str) -> None:
        async with slots:
            await campaign.judge(number, scenario, origin)

    async with serving_all(root) as origin, anyio.create_task_group() as tasks:
        for number, scenario in enumerate(chosen):
            tasks.start_soon(one, number, scenario, origin)
    return campaign


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="REGEX", help="scenarios whose kind and name match")
    parser.add_argument("--abreast", type=int, default=8, metavar="N", help="runs side by side")
    given = parser.parse_args(arguments)
    chosen = [each for each in scenarios() if re.search(given.only, f"{each.kind}: {each.name}")]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        campaign = anyio.run(partial(_torture, Path(name), chosen, given.abreast))
    for wrong in campaign.found:
        print(wrong, file=sys.stderr)
    figures = {
        "scenarios": len(chosen),
        "seconds": round(time.monotonic() - began),
        "peak_mb": round(campaign.memory / 1e6),
        "slowest_first_message_s": round(campaign.slowest_message, 1),
        "slowest_stop_s": round(campaign.slowest_stop, 1),
        "failures": len(campaign.found),
    }
    print(json.dumps(figures))
    return 1 if campaign.found else 0


if __name__ == "__main__":
    sys.exit(main())
