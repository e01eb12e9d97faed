"""Schedules drawn from a seed: shards, weather and accidents, within stated bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from packtrain._model import JobState
from packtrain._options import CREATE_TIMEOUT
from packtrain._providers.service import Service

if TYPE_CHECKING:
    from packtrain._options import Ambiguity

HOUR = 3600.0
#: When every schedule begins.
START = 1e9
JOB_LIFE = 48 * HOUR
SERVICE = Service(origin="http://127.0.0.1", poll=(60.0, 600.0))
#: 1 and 10, so that a prefix too short would mix them up.
SHARDS = ((1,), (1,), (1, 10), (1, 2, 10))
POLICIES: tuple[Ambiguity, ...] = ("revoke", "revoke", "revoke", "wait", "quarantine")
#: Seconds by which the machine's clock may jump, twice at most. No wait goes by it that decides anything.
JUMPS = (-72 * HOUR, -12 * HOUR, -HOUR, -5.0, 5.0, 20.0, 600.0, 3 * HOUR, 72 * HOUR)
#: How often a driver may be paused and replaced by a second one, and wake up again, where revocation allows for it.
OVERLAPS = 0.3
#: A schedule that is not over by then makes no progress.
LONGEST = 40 * 24 * HOUR


@dataclass(frozen=True)
class Weather:
    """What may go wrong in one schedule. Probabilities, and bounds in seconds."""

    checks_file: bool
    delivers_twice: bool
    #: A create may arrive this much later than its sender's patience.
    longest_late: float
    longest_lag: float
    trouble: float
    page_trouble: float
    #: From when to when the list is falsely empty.
    lies: tuple[float, float]
    #: From when to when every page fails.
    outage: tuple[float, float]
    longest_job: float
    #: A create may be accepted and answered with a refusal, such as a 429.
    accepts_refused: bool
    #: The probability that a look at a job shows a false end without results; at most once a job.
    false_ends: float
    #: Answers carry the service's time; and the probability that one is days off.
    shows_time: bool
    misdated: float
    #: The probability that a job is refused after its creation, before it runs.
    never_starts: float
    #: The list shows tags; otherwise a job is found by its input file alone.
    shows_tags: bool

    def draw_lag(self, random: Random) -> float:
        return random.random() * self.longest_lag if random.random() < 0.5 else 0.0

    def draw_late(self, random: Random) -> float:
        """Half of those that come late come about when somebody concludes that they never will."""
        return random.choice((random.random(), random.gauss(0.04, 0.003))) * self.longest_late

    def draw_end(self, random: Random, now: float) -> tuple[float, JobState]:
        lasts = 30 + random.random() ** 3 * self.longest_job
        if lasts > JOB_LIFE:
            return now + JOB_LIFE, JobState.EXPIRED
        ends = (JobState.SUCCEEDED,) * 18 + (JobState.FAILED, JobState.CANCELLED)
        return now + lasts, random.choice(ends)


@dataclass(frozen=True)
class Schedule:
    """The schedule of one seed."""

    seed: int
    shards: tuple[int, ...]
    policy: Ambiguity
    weather: Weather
    #: A driver may be paused and replaced by a second one, and wake up again.
    overlaps: bool
    crashes: int
    crash_chance: float
    #: When the machine's clock jumps, and by how much.
    jumps: tuple[tuple[float, float], ...]
    #: When somebody deletes all input files at the service.
    wiped_at: float | None


def draw(seed: int) -> tuple[Schedule, Random]:
    """The schedule of a seed, within the bounds for which safety is claimed."""
    random, later = Random(seed), Random(f"what was added later to {seed}")
    checks_file = random.random() < 0.6
    twice = random.random() < 0.05
    policy = random.choice(POLICIES)
    revokes = checks_file and policy != "wait"
    settle = SERVICE.settle
    lag = settle / 3 - 5
    late = 6 * HOUR if revokes else 120.0
    # Without a control, absence is believed after twice the wait; the list must not lie for all of it.
    waits = settle / 3 if revokes else settle - (late + CREATE_TIMEOUT) / 2
    longest_lie = 2 * waits - lag
    weather = Weather(
        checks_file=checks_file,
        delivers_twice=twice,
        # Where the service refuses a create without its file, it may come as late as it likes.
        longest_late=late,
        longest_lag=lag,
        trouble=random.choice((0.05, 0.3, 0.8)),
        page_trouble=random.choice((0.0, 0.0, 0.05, 0.3)),
        lies=_window(random, 0.2, longest_lie),
        outage=_window(random, 0.08, 1.5 * HOUR),
        longest_job=random.choice((300.0, 600.0, 1800.0)) if random.random() < 0.995 else 60 * HOUR,
        accepts_refused=random.random() < 0.3,
        false_ends=random.choice((0.0, 0.0, 0.05, 0.5)),
        shows_time=random.random() < 0.7,
        never_starts=later.choice((0.0, 0.0, 0.0, 0.5)),
        shows_tags=later.random() < 0.8,
        misdated=later.choice((0.0, 0.0, 0.1)),
    )
    jumps = tuple((random.random() * 3000, random.choice(JUMPS)) for _ in range(2))
    jumps = jumps if random.random() < 0.1 else ()
    if jumps:  # of two clocks, one is right
        weather = replace(weather, misdated=0.0)
    schedule = Schedule(
        seed=seed,
        shards=random.choice(SHARDS),
        policy=policy,
        weather=weather,
        overlaps=revokes and random.random() < OVERLAPS,
        crashes=random.choice((0, 1, 2, 4)),
        crash_chance=random.choice((0.02, 0.1, 0.3)),
        jumps=jumps,
        wiped_at=random.random() * 100 if random.random() < 0.1 else None,
    )
    return schedule, random


def _window(random: Random, chance: float, longest: float) -> tuple[float, float]:
    """From when to when; nearly always at the time of the first creates, or never."""
    begin = START + random.random() * 300 - 100 if random.random() < chance else START + 10 * LONGEST
    return begin, begin + random.random() * longest
