"""Protocols and worlds of the comparison, and the expected result of each: the table of docs/internals/model.md."""

from __future__ import annotations

from typing import NamedTuple

from .search import Bounds
from .shard import Absence, Protocol, World

NAIVE = Protocol("naive: no record before the create, send again", records_intent=False)
LIST_ONCE = Protocol("intent + list once")
SETTLE = Protocol("intent + settle", settles=True)
QUARANTINE = Protocol("quarantine", Absence.STOP)
REVOKE = Protocol("revoke", Absence.REVOKE)
REVOKE_WAIT = Protocol("revoke + wait for the list", Absence.REVOKE, waits_for_list=True)
SETTLE_REVOKE_WAIT = Protocol("settle + revoke + wait for the list", Absence.REVOKE, settles=True, waits_for_list=True)
#: As packtrain does it: REVOKE_INTENT is a state of its own, and every write is conditional on state and attempt.
OURS = SETTLE_REVOKE_WAIT._replace(name="packtrain", revokes_in_two=True, saves_guarded=True)

WORLDS = {
    "strict": World(),
    "late": World(late=True),
    "lag": World(lag=True),
    "late + lag": World(late=True, lag=True),
}
ONE = Bounds(drivers=1, crashes=2)
TWO = Bounds(drivers=2, crashes=1)
TWO_TWICE = Bounds(drivers=2, crashes=2)
THREE = Bounds(drivers=3, crashes=1)


class Cell(NamedTuple):
    """What a search must find. ``steps`` to two live jobs, None for never; ``states`` in all, None where a search
    need not look at all of them."""

    steps: int | None
    states: int | None = None


def yes(*steps: int) -> tuple[Cell, ...]:
    """One cell a world, in the order of WORLDS."""
    return tuple(Cell(each) for each in steps)


def no(*states: int) -> tuple[Cell, ...]:
    return tuple(Cell(None, each) for each in states)


Row = tuple[Protocol, Bounds]

TABLE: dict[Row, tuple[Cell, ...]] = {
    (NAIVE, ONE): yes(6, 6, 6, 6),
    (LIST_ONCE, ONE): yes(8, 7, 7, 7),
    (SETTLE, ONE): no(87, 90, 123, 126),
    (QUARANTINE, ONE): no(23, 24, 31, 32),
    (REVOKE, ONE): (*no(182, 264), *yes(8, 8)),
    (REVOKE_WAIT, ONE): no(182, 264, 293, 407),
    (SETTLE_REVOKE_WAIT, ONE): no(101, 104, 137, 140),
    (OURS, ONE): no(111, 114, 147, 150),
    (NAIVE, TWO): yes(6, 6, 6, 6),
    (LIST_ONCE, TWO): yes(7, 7, 7, 7),
    (SETTLE, TWO): yes(7, 7, 7, 7),
    (QUARANTINE, TWO): no(81, 85, 114, 118),
    (REVOKE, TWO): (*no(1659, 3761), *yes(8, 8)),
    (REVOKE_WAIT, TWO): no(1659, 3761, 2720, 5718),
    (SETTLE_REVOKE_WAIT, TWO): no(1295, 2029, 1812, 2782),
    (OURS, TWO): no(2125, 4429, 3002, 6100),
}

#: The same, when the service accepts a create whose input file is gone.
WITHOUT_FILE_CHECK: dict[Row, tuple[Cell, ...]] = {
    (REVOKE_WAIT, ONE): yes(9, 8, 9, 8),
    (SETTLE_REVOKE_WAIT, ONE): no(101, 104, 137, 140),
    (OURS, ONE): no(111, 114, 147, 150),
    (REVOKE_WAIT, TWO): yes(8, 8, 8, 8),
    (SETTLE_REVOKE_WAIT, TWO): yes(8, 8, 8, 8),
    (OURS, TWO): yes(9, 9, 9, 9),
}

_IN_TWO = REVOKE_WAIT._replace(name="revoke in two steps + wait", revokes_in_two=True)
_GUARDED = REVOKE_WAIT._replace(name="revoke + wait, guarded save", saves_guarded=True)
_BOTH = _IN_TWO._replace(name="revoke in two steps + wait, guarded save", saves_guarded=True)

#: Finer steps and more parties; the verdict must stay.
REFINEMENTS: dict[Row, tuple[Cell, ...]] = {
    (_IN_TWO, ONE): no(223, 339, 339, 467),
    (_GUARDED, ONE): no(182, 264, 293, 407),
    (_BOTH, ONE): no(223, 339, 339, 467),
    (_IN_TWO, TWO): no(2421, 5629, 3656, 7838),
    (_GUARDED, TWO): no(1659, 3761, 2720, 5718),
    (_BOTH, TWO): no(2409, 5613, 3598, 7758),
    (REVOKE_WAIT, TWO_TWICE): no(3660, 5930, 5820, 9014),
    (SETTLE_REVOKE_WAIT, TWO_TWICE): no(2448, 3214, 3370, 4378),
    (OURS, TWO_TWICE): no(4418, 7024, 6168, 9638),
}

#: A create may be accepted and answered with a refusal, once. That the list then shows its job within 20 s is a bet.
BETS = OURS._replace(name="packtrain, refused once", bets=True)
_PATIENT = OURS._replace(name="the same, if the list shows every job in time")
REFUSALS: dict[Row, tuple[Cell, ...]] = {
    (BETS, ONE): (*no(275, 281), *yes(7, 7)),
    (_PATIENT, ONE): no(275, 281, 375, 381),
}

#: Too long for every run of the tests: ``python -m tests.model --largest``.
LARGEST: dict[Row, tuple[Cell, ...]] = {
    (REVOKE_WAIT, THREE): no(22563, 57222, 36132, 85080),
    (_BOTH, THREE): no(40005, 104445, 58061, 144116),
    (SETTLE_REVOKE_WAIT, THREE): no(18144, 33816, 25500, 46434),
    (OURS, THREE): no(36720, 95157, 52106, 131264),
}
