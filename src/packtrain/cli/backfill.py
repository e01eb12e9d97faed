"""``packtrain backfill``: one run driven to its end, however often it is interrupted."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from packtrain._signals import stop_signals

from . import arguments as arg
from .console import say
from .exits import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

#: Seconds before the second start; each further wait is twice as long.
FIRST_WAIT = 10.0


class Stop:
    """Whether a signal asked us to end. Each is handed on to the run, for which a second one means at once."""

    def __init__(self) -> None:
        self.asked = False
        self.run: subprocess.Popen[bytes] | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.run is not None:
            self.run.terminate()


def backfill(
    *arguments: Annotated[
        str, Parameter(allow_leading_hyphen=True, metavar="ARGUMENTS", help="Inputs and options of `packtrain run`.")
    ],
    max_hours: Annotated[
        float, Parameter(metavar="H", validator=Number(gt=0), show_default=False, help="Stop the run after H hours.")
    ] = float("inf"),
    max_wait: Annotated[
        float, Parameter(metavar="MINUTES", validator=Number(gt=0), help="The longest wait between two starts.")
    ] = 15.0,
) -> int:
    given = ["-" if token == arg.STDIN else token for token in arguments]
    program = [sys.executable, "-P", "-m", "packtrain", "run"]  # -P: no code from the current directory
    return repeat(program, given, seconds=max_hours * 3600, longest=max_wait * 60)


def repeat(program: Sequence[str], arguments: Sequence[str], *, seconds: float, longest: float) -> int:
    """Start ``program`` with the arguments of ``packtrain run`` until it ends with another code than 75; that code.

    0 when another backfill works for the same state directory; 75 after ``seconds`` or a signal.
    Raises UsageError when the arguments name no output.
    """
    state = _state_of(arguments)
    if state is None:
        raise UsageError("give --out OUT, as to packtrain run; see packtrain backfill --help")
    lock = _hold(state)
    if lock is None:
        say("packtrain backfill: another one is at work on this output; nothing to do")
        return Exit.COMPLETE
    stop = Stop()
    for number in stop_signals():
        signal.signal(number, stop)
    return _drive([*program, *arguments], lock, stop, seconds, longest)


def _state_of(arguments: Sequence[str]) -> Path | None:
    """The state directory of the run, which two starts must not share. None when nothing names it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", "-o", default=os.environ.get("PACKTRAIN_OUT"))
    parser.add_argument("--state", default=os.environ.get("PACKTRAIN_STATE"))
    found, _ = parser.parse_known_args(arguments)
    if found.state or found.out:
        return Path(found.state or found.out.rstrip("/") + ".packtrain")
    return None


def _hold(state: Path) -> int | None:
    """The lock of this backfill, as a descriptor; None when another one has it.

    The run inherits it: if only this process is killed, the lock stays until the run has ended.
    """
    path = state.with_name(state.name + ".backfill")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return lock


def _drive(command: Sequence[str], lock: int, stop: Stop, seconds: float, longest: float) -> int:
    end, wait = time.monotonic() + seconds, FIRST_WAIT
    while True:
        began = time.monotonic()
        status = _run_once(command, lock, stop, end - began)
        if status != Exit.AGAIN or stop.asked or time.monotonic() >= end:
            return status
        if time.monotonic() - began > longest:  # it worked for a while, so this is a new trouble
            wait = FIRST_WAIT
        wait = min(wait, longest)
        say(f"packtrain backfill: not finished; the next start is in {wait:.0f} s")
        if _pause(min(wait, end - time.monotonic()), stop) or time.monotonic() >= end:
            return Exit.AGAIN
        wait *= 2


def _run_once(command: Sequence[str], lock: int, stop: Stop, seconds: float) -> int:
    # In a group of its own, so that Ctrl-C reaches it once, through us. S603: the program is this one.
    run = stop.run = subprocess.Popen(command, pass_fds=[lock], process_group=0)  # noqa: S603
    if stop.asked:  # while it was being started
        run.terminate()
    try:
        return _ended(run.wait(None if seconds == float("inf") else max(0.0, seconds)))
    except subprocess.TimeoutExpired:
        run.terminate()
        return _ended(run.wait())
    finally:
        stop.run = None


def _pause(seconds: float, stop: Stop) -> bool:
    """Sleep, unless asked to stop; True when that was the case."""
    end = time.monotonic() + seconds
    while not stop.asked and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))
    return stop.asked


def _ended(status: int) -> int:
    """A run that was killed by a signal, as by the system when memory is short, is not finished either."""
    return Exit.AGAIN if status < 0 else status
