"""The flow's own create and reconcile, and the rules below them, in virtual time through random schedules.

One schedule: a few shards, one service, and drivers that are killed, or paused and replaced, while creates are lost,
late, repeated or refused, the list lags, fails, repeats its pages or lies, files and jobs expire, users cancel, and
the machine's clock jumps. All of it is drawn from a seed, so a failure is one number.

What must hold is asked while it runs (``VirtualService``) and at its end (``_audit``): a shard has one job at most, no
create leaves without its recorded intent or goes out twice, the history goes along the table, every job is adopted,
and every shard is settled in the end, by a person only when all attempts came to nothing.

usage: python -m tests.model.simulator [--schedules N] [--first SEED] [--processes N]
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import logging
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, cast

from packtrain._errors import PacktrainError
from packtrain._flow.run import Changes, ClientContext
from packtrain._flow.shares import Shares
from packtrain._io.spool import Spool
from packtrain._model import JobState, Limits, Run, Shard, ShardRow, State
from packtrain._options import Options, Policy
from packtrain._rules.lifecycle import AMBIGUOUS, CREATE, SETTLED, TABLE, WATCHED, JobAdopted, JobEnded
from packtrain._rules.submission import was_cancelled

from .lanes import CARRY, Lanes
from .schedules import HOUR, LONGEST, POLICIES, SERVICE, draw
from .service import VirtualJob, VirtualRemote, VirtualService
from .virtual import Ledger, Time, Violation, VirtualClock, VirtualManifest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from packtrain._manifest.base import Manifest
    from packtrain._providers.base import Provider

    from .schedules import Schedule

RUN = Run(
    id="r",
    token="a" * 26,
    fingerprint="f",
    model="m",
    task="generate",
    limits=Limits(shard_bytes=1, live_jobs=100, stored_bytes=1000),
)
SPOOL = Spool(Path("nowhere"))
OPTIONS = {policy: Options(on_ambiguous=policy) for policy in POLICIES}
POLICY = Policy()
#: Makes of a driver's provider the one that it is given.
Wrap = Callable[["Provider"], "Provider"]


def whole(provider: Provider) -> Provider:
    """The provider as it is."""
    return provider


class Killed(BaseException):
    """A driver dies on the spot, as by SIGKILL: nothing of it runs any more."""


class Quiet(Changes):
    """Notifies the simulator instead of an event loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.notify = wake  # type: ignore[method-assign]  # the one thing that the flow calls


@dataclass(eq=False)
class Task:
    process: Process
    coroutine: Coroutine[float, None, None]
    #: What it has work in; it is not woken for anything else.
    states: frozenset[State]
    #: Idle tasks go on at the next change.
    idle: bool = False
    #: Which wait is the current one; older timers are void.
    wait: int = 0


@dataclass(eq=False)
class Process:
    """One life of the program."""

    manifest: VirtualManifest
    tasks: list[Task] = field(default_factory=list)
    alive: bool = True
    paused_until: float = 0.0


class Simulation:
    """One schedule from its start until every shard is settled. Raises Violation."""

    def __init__(self, schedule: Schedule, random: Random, policy: Policy = POLICY, wrap: Wrap = whole) -> None:
        self.schedule = schedule
        self._policy = policy
        self._wrap = wrap
        self._random = random
        self._time = Time()
        shards = {(index, 0): _shard(index) for index in schedule.shards}
        self.ledger = Ledger(shards, {key: ShardRow(run=RUN.id, shard=key[0]) for key in shards})
        starts = Random(schedule.seed)
        self.service = VirtualService(self._time, random, schedule.weather, self.ledger, starts)
        self._heap: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._processes: list[Process] = []
        self._crashes_left = schedule.crashes
        self._running: Task | None = None
        self.lives = 0
        for when, by in schedule.jumps:
            self._later(when, self._jump, by)
        if schedule.wiped_at is not None:
            self._later(schedule.wiped_at, self.service.files.clear)

    def run(self) -> None:
        began = self._time.now
        self._start()
        while self._heap:
            self._time.now, _, call, values = heapq.heappop(self._heap)
            if self._time.now - began > LONGEST:
                raise Violation(f"no progress: {[job.state.value for job in self.ledger.rows.values()]}")
            call(*values)
        self._audit()

    def _later(self, seconds: float, call: Callable[..., object], *values: object) -> None:
        heapq.heappush(self._heap, (self._time.now + seconds, next(self._order), call, values))

    def _jump(self, by: float) -> None:
        self._time.skew += by

    # Processes

    def _start(self) -> None:
        clock = VirtualClock(self._time, self._random)
        process = Process(VirtualManifest(self.ledger, RUN, clock, self._maybe_crash))
        self._processes.append(process)
        self.lives += 1
        provider = VirtualRemote(self.service, self._time, self._random, self.schedule.weather, self._later)
        context = ClientContext(
            service=SERVICE,
            options=OPTIONS[self.schedule.policy],
            shares=Shares(OPTIONS[self.schedule.policy]),
            policy=self._policy,
            spool=SPOOL,
            # Both have the verbs that create and reconcile use, and no others.
            manifest=cast("Manifest", process.manifest),
            provider=self._wrap(cast("Provider", provider)),
            clock=clock,
            changes=Quiet(lambda: self._wake(process)),
        ).context(RUN)
        lanes = Lanes(context, self.ledger, self.service)
        for coroutine, states in (
            (lanes.watch(), WATCHED | AMBIGUOUS),
            (lanes.create(), CREATE),
            (lanes.carry(), CARRY),
        ):
            task = Task(process, coroutine, states)
            process.tasks.append(task)
            self._later(0.0, self._step, task, 0)

    def _step(self, task: Task, wait: int) -> None:
        if not task.process.alive or task.wait != wait:
            return
        if task.process.paused_until > self._time.now:
            self._later(task.process.paused_until - self._time.now, self._step, task, wait)
            return
        task.wait += 1
        task.idle = False
        self._running = task
        try:
            seconds = task.coroutine.send(None)
        except StopIteration:
            return
        except Killed:
            self._end(task.process, restart=self._random.random() * 60)
            return
        except PacktrainError:
            # An error that no retry can heal ends the program; it is started again later.
            self._end(task.process, restart=HOUR)
            return
        finally:
            self._running = None
        task.idle = seconds < 0
        self._later(abs(seconds), self._step, task, task.wait)

    def _wake(self, process: Process) -> None:
        states = {job.state for job in self.ledger.rows.values()}
        for task in process.tasks:
            if task.idle and (not states.isdisjoint(task.states) or states <= SETTLED):
                task.idle = False
                task.wait += 1
                self._later(0.0, self._step, task, task.wait)

    def _end(self, process: Process, restart: float) -> None:
        process.alive = False
        process.manifest.close()
        for task in process.tasks:
            task.coroutine.close()
        if not any(other.alive for other in self._processes):
            self._later(restart, self._start_if_needed)

    def _start_if_needed(self) -> None:
        if not any(process.alive for process in self._processes) and not self.ledger.settled:
            self._start()

    def _maybe_crash(self) -> None:
        if not self._crashes_left or self._random.random() >= self.schedule.crash_chance:
            return
        self._crashes_left -= 1
        if self.schedule.overlaps and self._running is not None:
            # It is paused, a second driver takes over, and later the first goes on as if nothing had happened.
            self._running.process.paused_until = self._time.now + self._random.random() * 2 * HOUR
            self._later(self._random.random() * 10, self._start)
            return
        raise Killed

    # What must be true in the end

    def _audit(self) -> None:
        for key, job in self.ledger.rows.items():
            jobs = self.service.started(key)
            refused = {made.name for made in self.service.jobs if made.key == key} - {made.name for made in jobs}
            names = {event.job for event in self.ledger.events(key, JobAdopted) if isinstance(event, JobAdopted)}
            names -= refused
            self._audit_history(key)
            if job.state not in SETTLED:
                raise Violation(f"shard {key} ended as {job.state}")
            if len(names) > 1 or not names <= {made.name for made in jobs}:
                raise Violation(f"shard {key} adopted {names} of {[made.name for made in jobs]}")
            if names and not self._ended_in_truth(key):
                raise Violation(f"shard {key}: {names} has results, or was cancelled, and its lines are asked again")
            if job.state is State.CLOSED and not names and not all(made.refused_aloud for made in jobs):
                raise Violation(f"shard {key} is closed, and {[made.tag for made in jobs]} was never adopted")
            if job.state is State.QUARANTINED and self.schedule.policy != "quarantine":
                # The sweep shows a person the job of a create that was refused aloud, and has cancelled duplicates.
                known = self.ledger.duplicate_jobs
                self._audit_quarantine(job, not all(made.refused_aloud or made.name in known for made in jobs))
            self._audit_duplicates(jobs, names)

    def _ended_in_truth(self, key: tuple[int, int]) -> bool:
        """Whether the shard's job ended by itself without results, if that is how it was recorded."""
        fruitless = any(getattr(event, "result", None) is None for event in self.ledger.events(key, JobEnded))
        adopted = {getattr(event, "job", None) for event in self.ledger.events(key, JobAdopted)}
        ends = [made.state(self._time.now) for made in self.service.jobs if made.name in adopted]
        return not fruitless or not {JobState.SUCCEEDED, JobState.CANCELLED} & set(ends)

    def _audit_history(self, key: tuple[int, int]) -> None:
        state = State.SEALED
        for entry in self.ledger.history.get(key, []):
            allowed, after = TABLE[type(entry.event)]
            if entry.before is not state or state not in allowed or entry.after is not (after or state):
                raise Violation(f"shard {key}: {type(entry.event).__name__} from {entry.before} to {entry.after}")
            state = entry.after

    def _audit_quarantine(self, job: ShardRow, made: bool) -> None:
        """A person is called only when all attempts are used up and none left a job, or the job was cancelled."""
        own = next((other for other in self.service.jobs if other.name == job.job), None)
        if own is not None and own.state(self._time.now) is JobState.CANCELLED and was_cancelled(job):
            return
        if made or job.attempt < self._policy.attempts:
            raise Violation(
                f"shard {job.shard} is quarantined in attempt {job.attempt}, job made: {made}: {job.reason}"
            )

    def _audit_duplicates(self, jobs: list[VirtualJob], adopted: set[str]) -> None:
        """Every job that the last sweep could see, and that no shard adopted, is reported."""
        at, (begin, end) = self.ledger.swept_at, self.schedule.weather.lies
        for made in jobs:
            seen = at is not None and made.visible_at <= at and not begin <= at < end
            if seen and made.name not in adopted | self.ledger.duplicate_jobs.keys():
                raise Violation(f"{made.name} of {made.tag} was paid for, and is in no record")


def _shard(index: int) -> Shard:
    return Shard(run=RUN.id, index=index, bytes=1, lines=10, sha256="ab" * 32, first=0, last=9)


def simulate(seed: int, policy: Policy = POLICY, wrap: Wrap = whole) -> Counter[str]:
    """Counts of what happened in the schedule of a seed. Raises Violation, which names the seed."""
    schedule, random = draw(seed)
    simulation = Simulation(schedule, random, policy, wrap)
    try:
        simulation.run()
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}; {schedule}") from violation
    seen: Counter[str] = Counter(schedules=1, lives=simulation.lives, jobs=len(simulation.service.jobs))
    for entries in simulation.ledger.history.values():
        seen.update(type(entry.event).__name__ for entry in entries)
    return seen


def simulate_all(seeds: range, policy: Policy = POLICY, wrap: Wrap = whole) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        seen += simulate(seed, policy, wrap)
    return seen


def _parts(first: int, schedules: int, size: int = 1000) -> Iterator[range]:
    for begin in range(first, first + schedules, size):
        yield range(begin, min(begin + size, first + schedules))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model.simulator", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed; each schedule has its own")
    parser.add_argument("--processes", type=int, default=None)
    chosen = parser.parse_args(arguments)
    logging.getLogger("packtrain").setLevel(logging.ERROR)  # thousands of duplicate jobs are found and reported
    began, seen = monotonic(), Counter[str]()
    with multiprocessing.Pool(chosen.processes) as pool:
        for part in pool.imap_unordered(simulate_all, _parts(chosen.first, chosen.schedules)):
            seen += part
    last = chosen.first + chosen.schedules - 1
    seeds, seconds = [chosen.first, last], round(monotonic() - began)
    print(json.dumps({"campaign": "schedules", "seeds": seeds, "violations": 0, "seconds": seconds, "seen": seen}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
