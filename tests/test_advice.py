"""Commands that messages advise."""

from __future__ import annotations

import pickle
import shlex
from copy import copy
from pathlib import Path

import pytest

from packtrain import DecisionNeeded, InputChanged
from packtrain.cli.advice import advice, command, decisions, message


@pytest.mark.parametrize(
    ("state", "run", "resolve"),
    [
        ("a.packtrain", "main", "packtrain resolve a.packtrain --shard 3"),
        ("my state", "monday", "packtrain resolve 'my state' --shard 3 --run monday"),
        ("-x.packtrain", "main", "packtrain resolve ./-x.packtrain --shard 3"),
    ],
)
def test_a_decision_can_be_pasted_into_a_shell(state: str, run: str, resolve: str) -> None:
    """The run is named where it is not "main"; a name with blanks is one word, one with a dash no option."""
    text = decisions(Path(state), run, None, {3: "refused", 5: "refused"}, {})
    assert f"  pay again      {resolve} --retry\n" in text
    assert f"{resolve} --drop" in text
    assert f"{resolve} --adopt NAME" in text


def test_a_known_job_is_named_for_adoption() -> None:
    """The candidate of the shard stands in the command."""
    error = DecisionNeeded(
        "1 shard", state=Path("s"), run="main", token="t", shards={0: "two jobs"}, candidates={0: "batches/a"}
    )
    assert "packtrain resolve s --shard 0 --adopt batches/a\n" in message(error)


def test_a_damaged_file_of_the_state_is_to_be_put_back_first() -> None:
    """The reason names the file; without it, no decision but --drop helps."""
    text = decisions(Path("s"), "main", None, {0: "s/shards/a.jsonl is gone"}, {})
    assert text.startswith("First put s/shards/a.jsonl back as it was")
    assert "packtrain recover INPUT..." in text


def test_a_name_in_a_command_is_quoted() -> None:
    """A shell takes each word as it is."""
    assert shlex.split(command("adopt", Path("a b"))) == ["packtrain", "adopt", "a b"]
    changed = InputChanged("a b.jsonl was written to", name="a b.jsonl", mtime_ns=1_500_000_000)
    assert "`touch -d @1.500000000 'a b.jsonl'`" in advice(changed)


def test_a_copied_error_keeps_its_facts() -> None:
    """Every caller that waits for one commit gets the error of that commit, facts included."""
    again = copy(InputChanged("changed", name="a.jsonl", mtime_ns=1))
    assert (str(again), again.name, again.mtime_ns) == ("changed", "a.jsonl", 1)
    assert pickle.loads(pickle.dumps(again)).name == "a.jsonl"  # noqa: S301 - our own bytes
