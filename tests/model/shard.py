"""One shard, one service and some drivers: every state they can be in together, and every step out of it.

The model answers one question: can two jobs of one shard be live at one instant? It knows no time and no chance. Any
step that is possible may be the next one, so every party may pause for as long as it likes between two of its steps,
and any driver may work on the shard at any moment: there are no leases, and a takeover is always possible. Waits
appear as what they are meant to ensure: "no create is on its way any more", "the list shows every job".

A state is a value, so that a search can tell whether it was there before. ``steps`` is the whole model.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Attempts that a shard may have, each with an input file of its own.
ATTEMPTS = 3


class Message(NamedTuple):
    """A create on its way. Equal messages are one: the network keeps no count and no order."""

    attempt: int
    sender: int
    #: The service took it once already, and a proxy will deliver it again.
    repeated: bool = False


class Job(NamedTuple):
    """A create that was accepted. Live until cancelled or killed; it never ends by itself."""

    attempt: int
    live: bool
    #: Whether the list shows it.
    visible: bool


class Cell(enum.IntEnum):
    """What the manifest's one durable, atomic cell says of the shard."""

    READY = enum.auto()
    INTENT = enum.auto()
    REVOKE = enum.auto()
    DONE = enum.auto()
    #: The create was refused, and another may follow.
    REFUSED = enum.auto()


class At(enum.IntEnum):
    """The control point of a driver, which a crash makes it forget."""

    START = enum.auto()
    SEND = enum.auto()
    WAIT = enum.auto()
    SAVE = enum.auto()
    RECONCILE = enum.auto()
    DELETE = enum.auto()
    CHECK = enum.auto()
    END = enum.auto()
    #: With a refusal that is not recorded yet, and before the next create of the same attempt.
    REFUSED = enum.auto()
    LOOK = enum.auto()


#: A control point or a cell, with its attempt or its job.
Driver = tuple[At, int]
Manifest = tuple[Cell, int]


class State(NamedTuple):
    network: frozenset[Message]
    #: In the order in which they were accepted.
    jobs: tuple[Job, ...]
    #: Attempts whose input file exists.
    files: frozenset[int]
    manifest: Manifest
    drivers: tuple[Driver, ...]
    crashes_left: int
    #: The most jobs that were ever live at one instant.
    most_live: int
    #: Creates that the service may still answer with a refusal.
    refusals_left: int


class Absence(enum.Enum):
    """What a driver does about an ambiguous create of which the list shows no job."""

    RETRY = "begin the next attempt"
    STOP = "leave it to a person"
    REVOKE = "revoke the attempt's input file, look again, then begin the next attempt"


class Protocol(NamedTuple):
    name: str
    absence: Absence = Absence.RETRY
    #: False: nothing is recorded before the create, and whatever has no answer is sent again.
    records_intent: bool = True
    #: Absence counts only when no create of the attempt is on its way and the list shows every job.
    settles: bool = False
    #: After the revocation, absence counts only when the list shows every job.
    waits_for_list: bool = False
    #: The revocation has a manifest value of its own, and the deletion is a step that does not look at the manifest.
    revokes_in_two: bool = False
    #: A reply is recorded only while the manifest is at the intent of that very attempt.
    saves_guarded: bool = False
    #: After a refusal absence counts while the list may lag: a bet that it shows the job of such a create at once.
    bets: bool = False

    @property
    def attempts(self) -> int:
        return 1 if self.absence is Absence.STOP else ATTEMPTS


class World(NamedTuple):
    """What the service and the network may do."""

    #: A create may still be on its way when its sender has given up waiting.
    late: bool = False
    #: The list may show a job later than it exists.
    lag: bool = False
    #: The service refuses a create whose input file is gone (H1).
    checks_file: bool = True
    #: A job reads its input file lazily: deleting the file kills the accepted job.
    deletion_kills: bool = False
    #: Some proxy may deliver one create twice.
    delivers_twice: bool = False
    #: So many creates may be answered with a refusal, and be accepted or not.
    refusals: int = 0


def start(drivers: int, crashes: int, world: World) -> State:
    points = ((At.START, 0),) * drivers
    return State(frozenset(), (), frozenset({1}), (Cell.READY, 0), points, crashes, 0, world.refusals)


def steps(state: State, protocol: Protocol, world: World) -> Iterator[tuple[str, State]]:
    """Every step that anybody may take next, with its name."""
    yield from _network_steps(state, world)
    for who, (at, _) in enumerate(state.drivers):
        name = "ABC"[who]
        if state.crashes_left and at not in (At.START, At.END):
            yield f"{name} crashes", _move(state, who, At.START)._replace(crashes_left=state.crashes_left - 1)
        for what, after in _DRIVER_STEPS[at](state, who, protocol, world):
            yield f"{name} {what}", after


def terminal_fault(state: State, protocol: Protocol) -> bool:
    """Whether it is wrong that nothing can happen any more in this state.

    Right is exactly one live job; or none, with the manifest at the intent of the last attempt: a quarantine.
    """
    live = _count_live(state.jobs)
    return live != 1 and not (live == 0 and state.manifest == (Cell.INTENT, protocol.attempts))


# The service and the network


def _network_steps(state: State, world: World) -> Iterator[tuple[str, State]]:
    for message in state.network:
        post = f"POST {message.attempt} of {'ABC'[message.sender]}"
        gone = state._replace(network=state.network - {message})
        yield f"{post} is lost, or refused", gone
        if _hears_refusal(gone, message):
            yield f"{post} is refused, and that is heard", _refused(gone, message)
        if message.attempt in state.files or not world.checks_file:
            yield from _accepted(gone, message, post, world)
    for number, job in enumerate(state.jobs):
        if not job.visible:
            yield f"job {number} becomes visible", _with_job(state, number, job._replace(visible=True))


def _accepted(gone: State, message: Message, post: str, world: World) -> Iterator[tuple[str, State]]:
    jobs = (*gone.jobs, Job(message.attempt, live=True, visible=not world.lag))
    taken = _counted(gone._replace(jobs=jobs))
    if world.delivers_twice and not message.repeated:
        taken = taken._replace(network=taken.network | {message._replace(repeated=True)})
    yield f"{post} is accepted, the reply lost", taken
    if _hears_refusal(gone, message):
        yield f"{post} is accepted, and answered with a refusal", _refused(taken, message)
    if gone.drivers[message.sender] == (At.WAIT, message.attempt):
        yield f"{post} is accepted", _move(taken, message.sender, At.SAVE, len(jobs) - 1)


def _hears_refusal(state: State, message: Message) -> bool:
    return state.refusals_left > 0 and state.drivers[message.sender] == (At.WAIT, message.attempt)


def _refused(state: State, message: Message) -> State:
    told = _move(state, message.sender, At.REFUSED, message.attempt)
    return told._replace(refusals_left=state.refusals_left - 1)


# The drivers


def _start(state: State, who: int, protocol: Protocol, _: World) -> Iterator[tuple[str, State]]:
    cell, argument = state.manifest
    if cell is Cell.DONE:
        yield "finds the shard done", _move(state, who, At.END)
    elif cell is Cell.INTENT:
        yield f"finds intent {argument}", _move(state, who, At.RECONCILE, argument)
    elif cell is Cell.REVOKE:
        yield f"finds revocation {argument}", _move(state, who, At.DELETE, argument)
    elif cell is Cell.REFUSED:
        yield f"finds refusal {argument}", _move(state, who, At.LOOK, argument)
    elif protocol.records_intent:
        yield "writes intent 1", _move(_write(state, Cell.INTENT, 1), who, At.SEND, 1)
    else:
        yield "begins", _move(state, who, At.SEND, 1)


def _send(state: State, who: int, _: Protocol, __: World) -> Iterator[tuple[str, State]]:
    attempt = state.drivers[who][1]
    sent = state._replace(network=state.network | {Message(attempt, who)})
    yield f"sends POST {attempt}", _move(sent, who, At.WAIT, attempt)


def _wait(state: State, who: int, protocol: Protocol, world: World) -> Iterator[tuple[str, State]]:
    attempt = state.drivers[who][1]
    if not world.late and _in_flight(state, attempt):
        return
    if protocol.records_intent:
        yield f"gives up waiting for POST {attempt}", _move(state, who, At.RECONCILE, attempt)
    elif attempt < protocol.attempts:
        yield f"gives up and tries {attempt + 1}", _move(_with_file(state, attempt + 1), who, At.SEND, attempt + 1)


def _save(state: State, who: int, protocol: Protocol, _: World) -> Iterator[tuple[str, State]]:
    job = state.drivers[who][1]
    if state.manifest[0] is Cell.DONE:
        yield "throws its reply away", _move(state, who, At.END)
    elif protocol.saves_guarded and state.manifest != (Cell.INTENT, state.jobs[job].attempt):
        yield "may not record its reply", _move(state, who, At.START)
    else:
        yield f"records job {job}", _move(_write(state, Cell.DONE, job), who, At.END)


def _reconcile(state: State, who: int, protocol: Protocol, world: World) -> Iterator[tuple[str, State]]:
    attempt = state.drivers[who][1]
    if state.manifest != (Cell.INTENT, attempt):
        yield "finds the manifest changed", _move(state, who, At.START)
        return
    listed = _listed(state)
    if listed:
        adopted = _write(_cancel(state, listed[1:]), Cell.DONE, listed[0])
        yield f"adopts job {listed[0]} and cancels {listed[1:]}", _move(adopted, who, At.END)
        return
    settled = not protocol.settles or (not _in_flight(state, attempt) and _all_visible(state))
    if attempt == protocol.attempts or not settled:
        return
    if protocol.absence is Absence.RETRY:
        yield _next_attempt(state, who, attempt)
    elif protocol.revokes_in_two:
        yield f"writes revocation {attempt}", _move(_write(state, Cell.REVOKE, attempt), who, At.DELETE, attempt)
    else:
        yield f"deletes file {attempt}", _move(_delete(state, attempt, world), who, At.CHECK, attempt)


def _delete_file(state: State, who: int, _: Protocol, world: World) -> Iterator[tuple[str, State]]:
    attempt = state.drivers[who][1]
    yield f"deletes file {attempt}", _move(_delete(state, attempt, world), who, At.CHECK, attempt)


def _check(state: State, who: int, protocol: Protocol, _: World) -> Iterator[tuple[str, State]]:
    attempt = state.drivers[who][1]
    if state.manifest != (Cell.REVOKE if protocol.revokes_in_two else Cell.INTENT, attempt):
        yield "finds the manifest changed", _move(state, who, At.START)
    elif listed := _listed(state):
        yield f"adopts job {listed[0]}", _move(_write(state, Cell.DONE, listed[0]), who, At.END)
    elif _all_visible(state) or not protocol.waits_for_list:
        yield _next_attempt(state, who, attempt)


def _record_refusal(state: State, who: int, _: Protocol, __: World) -> Iterator[tuple[str, State]]:
    attempt = state.drivers[who][1]
    if state.manifest != (Cell.INTENT, attempt):
        yield "finds the manifest changed", _move(state, who, At.START)
    else:
        yield f"records refusal {attempt}", _move(_write(state, Cell.REFUSED, attempt), who, At.LOOK, attempt)


def _look(state: State, who: int, protocol: Protocol, _: World) -> Iterator[tuple[str, State]]:
    attempt = state.drivers[who][1]
    if state.manifest != (Cell.REFUSED, attempt):
        yield "finds the manifest changed", _move(state, who, At.START)
    elif listed := _listed(state):
        adopted = _write(_cancel(state, listed[1:]), Cell.DONE, listed[0])
        yield f"adopts job {listed[0]} and cancels {listed[1:]}", _move(adopted, who, At.END)
    elif protocol.bets or _all_visible(state):
        again = _move(_write(state, Cell.INTENT, attempt), who, At.SEND, attempt)
        yield f"sees no job, writes intent {attempt} again", again


def _end(state: State, _: int, __: Protocol, ___: World) -> Iterator[tuple[str, State]]:
    cell, job = state.manifest
    duplicate_jobs = [number for number in _listed(state) if number != job]
    if cell is Cell.DONE and duplicate_jobs:
        yield f"sweeps: cancels {duplicate_jobs}", _cancel(state, duplicate_jobs)


_DRIVER_STEPS = {
    At.START: _start,
    At.SEND: _send,
    At.WAIT: _wait,
    At.SAVE: _save,
    At.RECONCILE: _reconcile,
    At.DELETE: _delete_file,
    At.CHECK: _check,
    At.END: _end,
    At.REFUSED: _record_refusal,
    At.LOOK: _look,
}


# Helpers


def _next_attempt(state: State, who: int, attempt: int) -> tuple[str, State]:
    begun = _with_file(_write(state, Cell.INTENT, attempt + 1), attempt + 1)
    return f"sees no job, writes intent {attempt + 1}", _move(begun, who, At.SEND, attempt + 1)


def _move(state: State, who: int, at: At, argument: int = 0) -> State:
    drivers = state.drivers
    return state._replace(drivers=(*drivers[:who], (at, argument), *drivers[who + 1 :]))


def _write(state: State, cell: Cell, argument: int) -> State:
    return state._replace(manifest=(cell, argument))


def _with_file(state: State, attempt: int) -> State:
    return state._replace(files=state.files | {attempt})


def _with_job(state: State, number: int, job: Job) -> State:
    return state._replace(jobs=(*state.jobs[:number], job, *state.jobs[number + 1 :]))


def _delete(state: State, attempt: int, world: World) -> State:
    if world.deletion_kills:
        state = _cancel(state, [number for number, job in enumerate(state.jobs) if job.attempt == attempt])
    return state._replace(files=state.files - {attempt})


def _cancel(state: State, numbers: list[int]) -> State:
    for number in numbers:
        state = _with_job(state, number, state.jobs[number]._replace(live=False))
    return state


def _listed(state: State) -> list[int]:
    return [number for number, job in enumerate(state.jobs) if job.live and job.visible]


def _all_visible(state: State) -> bool:
    return all(job.visible for job in state.jobs)


def _in_flight(state: State, attempt: int) -> bool:
    return any(message.attempt == attempt for message in state.network)


def _count_live(jobs: tuple[Job, ...]) -> int:
    return sum(job.live for job in jobs)


def _counted(state: State) -> State:
    return state._replace(most_live=max(state.most_live, _count_live(state.jobs)))
