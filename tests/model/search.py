"""Breadth-first search through all states of the model, so that the first counterexample met is a shortest one."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from .shard import start, steps, terminal_fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .shard import Protocol, State, World


class Bounds(NamedTuple):
    """``crashes`` is one budget for all drivers."""

    drivers: int
    crashes: int


class Findings(NamedTuple):
    states: int
    #: The most live jobs at one instant, in any state seen.
    most_live: int
    #: A shortest way to two live jobs, step by step; None if there is none.
    counterexample: list[str] | None
    #: States in which nothing can happen any more.
    terminals: list[State]
    #: A shortest way to a terminal state that should not be one.
    dead_end: list[str] | None


def explore(protocol: Protocol, world: World, bounds: Bounds, *, whole: bool = True) -> Findings:
    """Every reachable state; unless ``whole``, no more than it takes to meet two live jobs."""
    first = start(*bounds, world)
    #: For each state, the step that first led to it, and whence.
    reached: dict[State, tuple[str, State] | None] = {first: None}
    queue = deque([first])
    terminals: list[State] = []
    doubled: State | None = None
    while queue and (whole or doubled is None):
        state = queue.popleft()
        if doubled is None and state.most_live > 1:
            doubled = state
        is_terminal = True
        for step, after in steps(state, protocol, world):
            is_terminal = is_terminal and after == state
            if after not in reached:
                reached[after] = (step, state)
                queue.append(after)
        if is_terminal:
            terminals.append(state)
    wrong = next((state for state in terminals if terminal_fault(state, protocol)), None)
    return Findings(
        states=len(reached),
        most_live=max(state.most_live for state in reached),
        counterexample=_way(doubled, reached),
        terminals=terminals,
        dead_end=_way(wrong, reached),
    )


def replay(way: Iterable[str], protocol: Protocol, world: World, bounds: Bounds) -> State:
    """The state at the end of a way. Raises KeyError for a step that is not possible."""
    state = start(*bounds, world)
    for step in way:
        state = dict(steps(state, protocol, world))[step]
    return state


def _way(state: State | None, reached: dict[State, tuple[str, State] | None]) -> list[str] | None:
    if state is None:
        return None
    way: list[str] = []
    while came := reached[state]:
        step, state = came
        way.append(step)
    return way[::-1]
