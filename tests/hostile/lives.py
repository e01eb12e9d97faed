"""Runs against a service that lies, in this process: short waits, and a clock that goes faster than ours."""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio

import packtrain
from packtrain import Options, PacktrainError, Policy, Secret, Service, exit_code, serving
from packtrain._exits import leading_error
from packtrain._io.clock import SystemClock
from packtrain.testing.hostile import open_hostile
from tests.flow.place import read_lines, request_line, write_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from packtrain.testing.hostile import Hostile
    from tests.hostile.scenarios import Scenario

#: Times of the transport are real.
POLICY = Policy(
    connect_timeout=2.0,
    read_timeout=1.5,
    create_timeout=1.5,
    notice_after=0.3,
    idle_look=4.0,
    report_every=600.0,
    requests_every=600.0,
)
LINES, SHARDS = 4, 2
#: A run that takes longer hangs.
LONGEST = 60.0
AGAIN = 75


class FastClock(SystemClock):
    """Runs ``pace`` times as fast as the machine's."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._start = super().now()
        self._began = super().monotonic()

    def monotonic(self) -> float:
        return self._began + (super().monotonic() - self._began) * self._pace

    def now(self) -> float:
        return self._start + self.monotonic() - self._began

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds / self._pace)


async def judge(scenarios: Iterable[Scenario], root: Path, *, abreast: int = 8) -> list[str]:
    """What was found against the client, each with the name of its scenario."""
    found: list[str] = []
    slots = anyio.CapacityLimiter(abreast)

    async def one(scenario: Scenario, place: Path, origin: str) -> None:
        async with slots:
            found.extend(f"{scenario.name}: {wrong}" for wrong in await _judge(scenario, place, origin))

    with _listening():
        async with serving_all(root) as origin, anyio.create_task_group() as tasks:
            for number, scenario in enumerate(scenarios):
                place = root / f"{number:03d}"
                place.mkdir()
                tasks.start_soon(one, scenario, place, origin)
    return found


def serving_all(root: Path) -> AbstractAsyncContextManager[str]:
    """The service that scenarios without faults share."""
    return serving(root / "service")


@asynccontextmanager
async def service_of(scenario: Scenario, place: Path, origin: str) -> AsyncIterator[tuple[str, Path]]:
    """The common service, or one of the scenario's own with its faults; and where its record is."""
    if scenario.faults is None:
        yield origin, place.parent / "service"
        return
    async with serving(place / "service", faults=scenario.faults) as own:
        yield own, place / "service"


async def _judge(scenario: Scenario, place: Path, origin: str) -> list[str]:
    write_lines(place / "in.jsonl", map(request_line, range(LINES)))
    async with service_of(scenario, place, origin) as (target, record), open_hostile(target, scenario.lies) as hostile:
        said: list[str] = []
        _said.set(said)
        with anyio.move_on_after(LONGEST) as limit:
            wrong = [f"{text}; said last: {said[-2:]}" for text in await _live(scenario, place, hostile)]
        if limit.cancelled_caught:
            return [f"it hangs; said last: {said[-2:]}"]
        wrong += verdict(scenario, hostile, place / "out.jsonl", record, "\n".join(said))
    return wrong


async def _live(scenario: Scenario, place: Path, hostile: Hostile) -> list[str]:
    code = await _start(scenario, place, hostile)
    if code not in scenario.ends:
        return [f"the first start ended with {code}"]
    hostile.heal()
    if code == 0:
        return []
    code = await _start(scenario, place, hostile)
    return [] if code in scenario.last else [f"the last start ended with {code}"]


async def _start(scenario: Scenario, place: Path, hostile: Hostile) -> int:
    service = Service(origin=hostile.origin, poll=(2.0, 8.0), settle=20.0, key=Secret("sentinel-key"))
    patience = 90.0 if scenario.mode == "patience" and hostile.lies else 3600.0
    options = Options(shard_requests=LINES // SHARDS, patience=patience)
    opened = packtrain.open_client(
        place / "state", service=service, options=options, policy=POLICY, clock=FastClock(20.0)
    )
    try:
        async with opened as client, anyio.create_task_group() as tasks:
            if scenario.mode == "stop" and hostile.lies:

                async def stop() -> None:
                    await hostile.lied.wait()
                    client.stop()

                tasks.start_soon(stop)
            try:
                summary = await client.run(place / "in.jsonl", model="m", out=place / "out.jsonl")
            finally:
                tasks.cancel_scope.cancel()
    except (PacktrainError, BaseExceptionGroup) as error:
        logging.getLogger("packtrain").warning("ended with: %s", leading_error(error))
        return exit_code(error)
    if not summary.complete:
        return AGAIN
    return 1 if summary.failed or summary.rejected else 0


def verdict(scenario: Scenario, hostile: Hostile, out: Path, record: Path, said: str) -> list[str]:
    """What is wrong once all is over."""
    wrong = []
    answered = [row["key"] for row in read_lines(out)] if out.exists() else []
    if scenario.last == {0} and answered != [f"key-{at}" for at in range(LINES)]:
        wrong.append("the output is not whole")
    if hostile.trapped:
        wrong.append(f"{hostile.trapped} connections were made elsewhere")
    if scenario.told and not hostile.told:
        wrong.append("no lie was told")
    most = max(_jobs(record, out.parent / "state").values(), default=0)
    if most > scenario.jobs:
        wrong.append(f"{most} jobs for one shard")
    if scenario.jobs > 1 and most > 1 and "duplicate job" not in said:
        wrong.append("a second job was not reported")
    if scenario.says and not re.search(scenario.says, said):
        wrong.append(f"nothing was said of it: {said[-300:]!r}")
    return wrong


def _jobs(record: Path, state: Path) -> Counter[str]:
    """Jobs by shard, of the run of this state directory alone."""
    tokens = re.findall(r"\b[a-z2-7]{26}\b", (state / "manifest.run").read_text())
    made = [entry["displayName"] for entry in read_lines(record / "truth.jsonl") if entry["what"] == "batch_created"]
    return Counter(".".join(tag.split(".")[1:4]) for tag in made if tag.split(".")[1] in tokens)


_said: ContextVar[list[str] | None] = ContextVar("_said", default=None)


class _Listener(logging.Handler):
    """Keeps what is logged by the tasks of each scenario."""

    def emit(self, record: logging.LogRecord) -> None:
        if (said := _said.get()) is not None:
            said.append(record.getMessage())


@contextmanager
def _listening() -> Iterator[None]:
    listener = _Listener(logging.WARNING)
    logger = logging.getLogger("packtrain")
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
