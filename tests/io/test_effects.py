"""The seam of effects, and what failpoints make of it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from packtrain._io.effects import effect
from packtrain.testing import armed

if TYPE_CHECKING:
    from pathlib import Path

PERFORM = """
import sys
from packtrain._io.effects import effect
from packtrain.testing import armed
with armed(sys.argv[1]):
    for _ in range(3):
        with effect("a.b"):
            print("done", flush=True)
"""


def perform(name: str = "a.b", *, times: int = 1) -> int:
    """How many of the effects were reached and succeeded."""
    done = 0
    for _ in range(times):
        try:
            with effect(name):
                done += 1
        except OSError as error:
            assert error.errno == errno.EIO
    return done


def child(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PERFORM, text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("text", "done"),
    [("a.b.before=kill@1", 0), ("a.b.after=kill@1", 1), ("a.b.before=kill@3", 2), ("a.b.before=kill@4", 3)],
)
def test_kill_strikes_before_or_after_the_hit_that_was_asked_for(text: str, done: int) -> None:
    """Nothing of the process runs behind it."""
    process = child(text)
    out, _ = process.communicate(timeout=100)
    assert out == "done\n" * done
    assert process.returncode == (0 if done == 3 else -signal.SIGKILL)


def test_stop_waits_for_somebody_to_go_on() -> None:
    """SIGSTOP, as a debugger or a full terminal would."""
    process = child("a.b.after=stop@1")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=100)[0] == "done\n" * 3


def test_trace_lists_every_point_with_its_hit() -> None:
    """On standard error, in the order in which they were reached."""
    _, err = child("trace").communicate(timeout=100)
    assert err.split("\n")[:-1] == [f"a.b.{side} {hit}" for hit in (1, 2, 3) for side in ("before", "after")]


def test_trace_to_a_file_is_there_after_a_kill(tmp_path: Path) -> None:
    """Each line is out before its point acts."""
    child(f"trace={tmp_path / 'trace'}; a.b.before=kill@2").communicate(timeout=100)
    assert (tmp_path / "trace").read_text() == "a.b.before 1\na.b.after 1\na.b.before 2\n"


def test_an_error_before_an_effect_keeps_it_from_happening() -> None:
    """And one behind it comes when it has happened."""
    with armed("a.b.before=raise:EIO@2"):
        assert perform(times=3) == 2
    with armed("a.b.after=raise:EIO@2"):
        assert perform(times=3) == 3
    with armed("a.b.after=raise:EIO"), pytest.raises(OSError, match="Input/output error"), effect("x.y", "a.b"):
        pass


def test_an_effect_that_fails_by_itself_does_not_reach_its_second_point() -> None:
    """A failpoint behind it is about what took place."""
    with armed("a.b.after=raise:EIO"), pytest.raises(KeyError), effect("a.b"):
        raise KeyError


def test_a_share_is_the_same_for_the_same_seed() -> None:
    """A seed stands for one schedule, other points or not."""

    def struck(text: str) -> list[bool]:
        with armed(text):
            return [not perform() for _ in range(200)]

    first = struck("a.b.before=raise:EIO@20%seed7")
    assert first == struck("x.y.before=kill; a.b.before=raise:EIO@20%seed7")
    assert first != struck("a.b.before=raise:EIO@20%seed8")
    assert 20 < sum(first) < 60


def test_nothing_strikes_outside_the_block() -> None:
    """Failpoints end with the block that armed them."""
    with armed("a.b.before=raise:EIO"):
        assert perform() == 0
    assert perform() == 1


async def test_threads_and_tasks_of_the_block_are_struck_too() -> None:
    """The worker threads of a run, and its task groups."""
    with armed("a.b.before=raise:EIO"):
        assert await to_thread.run_sync(perform) == 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(to_thread.run_sync, perform))
            with pytest.raises(OSError, match="Input/output"):
                async with effect("a.b"):
                    pass


async def test_a_hang_in_a_task_can_be_cancelled() -> None:
    """The loop goes on meanwhile."""
    with armed("a.b.before=hang"), anyio.move_on_after(0.05) as scope:
        async with effect("a.b"):
            pytest.fail("it was to hang")
    assert scope.cancelled_caught


def test_a_delay_is_in_milliseconds() -> None:
    """And holds up the effect alone."""
    began = time.monotonic()
    with armed("a.b.before=delay:30@1"):
        assert perform(times=2) == 2
    assert time.monotonic() - began >= 0.03


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "create.post=kill",
        "a.b.before=explode",
        "a.b.before=kill@0",
        "a.b.before=kill@5%",
        "a.b.before=raise:ENOTHING",
        "a.b.before=delay:soon",
        "a.b.before=kill@1@2",
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    """A failpoint that never strikes would prove nothing."""
    with pytest.raises(ValueError, match=r"failpoint|no error"):
        armed(text)
