"""SIGKILL at random instants to the client, the service, or both, and again while they recover.

``python -m tests.crash.kills --kills 2000`` is the long form. Many small runs are made, some side by side; each is
struck up to four times, the later times soon after the one before, and then left alone. Its files must be those of a
calm run, the service's record must show one job for each shard, an audit of the run must find nothing, and in the end
the service's directory is audited.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from packtrain.testing.audit.service import audit_service
from tests.crash import children
from tests.crash.run import free_port
from tests.crash.small_runs import Scenario, SmallRuns, undisturbed
from tests.forks import exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess

    from tests.crash.small_runs import Calm

RUN = Scenario(name="small")
#: Kills of one run: the first at any instant, the next ones during the recovery.
DEEP = 4
#: A life lasts at the most as long as a calm run; one that begins with a recovery, a part of that.
RECOVERY = 0.5
#: Runs that one service takes before another begins with an empty directory.
RUNS = 20
AGAIN = 75


class Verdict(Struct, frozen=True, kw_only=True):
    """``struck``: each instant at which somebody was killed, by whom that was."""

    struck: tuple[str, ...]
    wrong: tuple[str, ...]


class Lane:
    """A service, and the runs that are made with it one after the other."""

    def __init__(self, root: Path, calm: Calm, seed: str) -> None:
        root.mkdir(parents=True)
        self._root = root
        self._calm = calm
        self._chance = random.Random(seed)
        self._port = str(free_port())
        self._runs = SmallRuns(root, RUN, f"http://127.0.0.1:{self._port}")
        self._service: BaseProcess

    def judge(self, runs: int) -> list[Verdict]:
        self._serve()
        verdicts = [self._one() for _ in range(runs)]
        self._kill_service()
        return verdicts

    def audit(self) -> list[str]:
        """What is wrong with the service's directory, once a start has healed what the last kill left."""
        self._serve()
        self._kill_service()
        return audit_service(self._root / "service")

    def _one(self) -> Verdict:
        place, struck = self._runs.place(), list[str]()
        client = self._runs.start(place, self._calm.input)
        while len(struck) < DEEP:
            longest = self._calm.seconds * (RECOVERY if struck else 1.0)
            if connection.wait([client.sentinel], self._chance.uniform(0.0, longest)):
                break
            struck.append(self._chance.choice(("client", "client", "service", "both")))
            client = self._strike(struck[-1], client, place)
        code = exit_code(client)
        if code == AGAIN:
            code = self._runs.live(place, self._calm.input)
        wrong = self._runs.differences(place, self._calm, code, lives=len(struck))
        return Verdict(struck=tuple(struck), wrong=tuple(f"{text}, after {struck}" for text in wrong))

    def _strike(self, victim: str, client: BaseProcess, place: Path) -> BaseProcess:
        if victim != "client":
            self._kill_service()
        if victim != "service":
            client.kill()
            exit_code(client)
        if victim != "client":
            self._serve()
        return self._runs.start(place, self._calm.input) if victim != "service" else client

    def _serve(self) -> None:
        log = self._root / "service.log"
        self._service = children.serve(self._root / "service", log, "--port", self._port)
        children.address(self._service, log)

    def _kill_service(self) -> None:
        self._service.kill()
        exit_code(self._service)


def torture(root: Path, kills: int, seed: int, *, abreast: int = 3) -> tuple[Counter[str], list[str]]:
    """Until so many kills took place; what they were, and what was found."""
    for place in ("warm", "calm"):
        calm = undisturbed(root / place, [RUN])[RUN.name]
    figures, found, number = Counter[str](), list[str](), itertools.count()
    with ThreadPoolExecutor(abreast) as pool:
        while figures["kills"] < kills:
            runs = max(1, min(RUNS, (kills - figures["kills"]) // (DEEP * abreast)))
            lanes = [Lane(root / f"{at:04d}", calm, f"{seed} {at}") for at in itertools.islice(number, abreast)]
            for verdict in itertools.chain.from_iterable(pool.map(partial(Lane.judge, runs=runs), lanes)):
                deep = len(verdict.struck)
                figures += Counter({"runs": 1, "kills": deep, f"{deep} deep": 1}) + Counter(verdict.struck)
                found += verdict.wrong
            found += itertools.chain.from_iterable(pool.map(Lane.audit, lanes))
    return figures, found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--abreast", type=int, default=3, help="runs side by side")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        figures, found = torture(Path(name), chosen.kills, chosen.seed, abreast=chosen.abreast)
    for wrong in found:
        print(wrong, file=sys.stderr)
    seconds = round(time.monotonic() - began)
    print(
        json.dumps({"seed": chosen.seed, "seconds": seconds, **dict(sorted(figures.items())), "failures": len(found)})
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
