"""The seam through which everything goes that outlives the process: durable writes, and calls of the service.

    with effect("results.rename"):
        draft.rename(final)

Each effect is a point where a run may be killed, and where its disk or its network may fail. Armed failpoints make
that happen on purpose, before the effect or after it; unarmed, an effect costs a look at one variable.
"""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRACE = re.compile(r"trace(?:=(?P<path>.+))?")
_RULE = re.compile(
    r"(?P<point>[\w.]+\.(?:before|after))=(?P<action>kill|stop|hang|raise:(?P<error>E[A-Z0-9]+)|delay:(?P<ms>\d{1,9}))"
    r"(?:@(?:(?P<hit>[1-9]\d{0,8})|(?P<percent>\d{1,3}(?:\.\d+)?)%seed(?P<seed>\d{1,18})))?"
)
_FOR_EVER = 1e9


class Rule(Struct, frozen=True, kw_only=True):
    """What happens at one point: at its ``hit``-th hit, at a share of its hits, or at every one."""

    point: str
    action: str
    error: int = 0
    seconds: float = 0.0
    hit: int | None = None
    share: float = 1.0
    seed: int = 0
    #: As it was given.
    text: str = ""


class Failpoints:
    """Rules, and the hits so far. ``trace`` is a file, or ``-`` for standard error."""

    def __init__(self, rules: list[Rule], trace: str | None = None) -> None:
        self._rules = [(rule, random.Random(rule.seed)) for rule in rules]  # noqa: S311 - a schedule, not a secret
        self._trace = trace
        self._hits: dict[str, int] = {}
        self._lock = threading.Lock()

    def reach(self, point: str) -> float:
        """Do what the rules say about this hit; returns the seconds that the caller has to wait."""
        wait = 0.0
        for rule in self._due(point):
            match rule.action:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "raise":
                    raise OSError(rule.error, os.strerror(rule.error))
                case _:
                    wait += rule.seconds
        return wait

    def unreached(self) -> list[str]:
        """The rules, as they were given, whose hit has not come."""
        return [rule.text for rule, _ in self._rules if self._hits.get(rule.point, 0) < (rule.hit or 1)]

    def _due(self, point: str) -> list[Rule]:
        with self._lock:
            hit = self._hits[point] = self._hits.get(point, 0) + 1
            self._note(f"{point} {hit}\n")
            # Every share draws at every hit of its point, so that a seed stands for one schedule.
            return [
                rule
                for rule, chance in self._rules
                if rule.point == point and (rule.hit == hit if rule.hit else chance.random() < rule.share)
            ]

    def _note(self, line: str) -> None:
        if self._trace == "-":
            if sys.stderr is not None:  # as in a daemon
                sys.stderr.write(line)
        elif self._trace is not None:
            with Path(self._trace).open("a") as file:
                file.write(line)


_armed: ContextVar[Failpoints | None] = ContextVar("armed failpoints", default=None)


def armed(text: str) -> AbstractContextManager[Failpoints]:
    """Arm failpoints for a block, and for the tasks and threads that are started in it. Raises ValueError.

    The text is ``POINT=ACTION[@WHEN]`` and ``trace[=FILE]``, divided by semicolons. POINT is the name of an effect
    with ``.before`` or ``.after``. ACTION is ``kill`` (SIGKILL to itself), ``stop`` (SIGSTOP), ``hang``,
    ``delay:MILLISECONDS`` or ``raise:ENAME``. WHEN is a number, for that hit alone, or as in ``5%seed7`` a share of
    all hits; every hit without it. ``trace`` writes each point and its hit to FILE, or to standard error. Of what the
    block gets, ``unreached`` lists those that were not reached.
    """
    return _arm(_parsed(text))


@contextmanager
def _arm(failpoints: Failpoints) -> Iterator[Failpoints]:
    token = _armed.set(failpoints)
    try:
        yield failpoints
    finally:
        _armed.reset(token)


def _parsed(text: str) -> Failpoints:
    rules, trace = [], None
    for part in filter(None, map(str.strip, text.split(";"))):
        if match := _TRACE.fullmatch(part):
            trace = match["path"] or "-"
        else:
            rules.append(_rule(part))
    return Failpoints(rules, trace)


def _rule(text: str) -> Rule:
    match = _RULE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no failpoint; they look like create.post.after=kill@1")
    error = getattr(errno, match["error"], None) if match["error"] else 0
    if not isinstance(error, int):
        raise ValueError(f"{text!r}: there is no error {match['error']}")
    action = match["action"].partition(":")[0]
    return Rule(
        point=match["point"],
        action=action,
        error=error,
        seconds=_FOR_EVER if action == "hang" else int(match["ms"] or 0) / 1000,
        hit=int(match["hit"]) if match["hit"] else None,
        share=float(match["percent"] or 100) / 100,
        seed=int(match["seed"] or 0),
        text=text,
    )


def effect(*names: str) -> Effect:
    """The block of a ``with``, or of an ``async with`` where a wait must not block the loop, is this effect.

    Its points ``after`` are reached only when the block succeeds.
    """
    return Effect(names, _armed.get())


class Effect:
    __slots__ = ("_failpoints", "_names")

    def __init__(self, names: tuple[str, ...], failpoints: Failpoints | None) -> None:
        self._names = names
        self._failpoints = failpoints

    def __enter__(self) -> None:
        if self._failpoints:
            time.sleep(self._reach(self._failpoints, "before"))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._failpoints and kind is None:
            time.sleep(self._reach(self._failpoints, "after"))

    async def __aenter__(self) -> None:
        if self._failpoints:
            await anyio.sleep(self._reach(self._failpoints, "before"))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._failpoints and kind is None:
            await anyio.sleep(self._reach(self._failpoints, "after"))

    def _reach(self, failpoints: Failpoints, side: str) -> float:
        return sum(failpoints.reach(f"{name}.{side}") for name in self._names)
