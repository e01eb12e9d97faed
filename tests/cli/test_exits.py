"""Which error leads to which exit code."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from packtrain import (
    ApiError,
    DecisionNeeded,
    IncompleteRun,
    InputError,
    IntegrityError,
    ManifestError,
    PacktrainError,
    ProtocolError,
    Summary,
    TransportError,
    exit_code,
)
from packtrain._exits import leading_error
from packtrain.cli.advice import message
from packtrain.cli.exits import CredentialError, Exit, UsageError, code, expected, of_summary

STUCK = DecisionNeeded("1 shard", state=Path("s"), run="main", token="t", shards={0: "refused"}, candidates={})


@pytest.mark.parametrize(
    ("error", "exit"),
    [
        (UsageError("no such service"), 2),
        (InputError("a.jsonl: no such file"), 3),
        (ApiError("key not valid", status=400), 4),
        (ApiError("quota", status=429), 4),
        (ApiError("permission", status=403), 4),
        (CredentialError("no key"), 4),
        (ManifestError("in use"), 6),
        (IntegrityError("shard 3: other bytes"), 6),
        (ApiError("overloaded", status=503), 75),
        (TransportError("no route"), 75),
        (IncompleteRun("stopped"), 75),
        (STUCK, 5),
        (KeyboardInterrupt(), 75),
        (ProtocolError("answer without a name"), 75),
        (RuntimeError("a defect"), 70),
        (PacktrainError("of no kind"), 70),
    ],
    ids=repr,
)
def test_every_error_has_its_exit_code(error: BaseException, exit: int) -> None:
    """The codes are a contract; whatever is not raised on purpose is a defect, never 1."""
    assert code(error) == exit


@pytest.mark.parametrize(
    ("changes", "exit"),
    [
        ({}, Exit.COMPLETE),
        ({"failed": 1}, Exit.SOME_FAILED),
        ({"rejected": 1}, Exit.SOME_FAILED),
        ({"complete": False}, Exit.AGAIN),
        ({"complete": False, "failed": 1}, Exit.AGAIN),
    ],
)
def test_a_summary_has_its_exit_code(changes: dict[str, int], exit: Exit) -> None:
    """Not finished comes before everything else, a single lost line before success."""
    needed = [field.name for field in msgspec.structs.fields(Summary) if field.required]
    figures = dict.fromkeys(needed, 0) | {"run": "main", "complete": True} | changes
    assert of_summary(msgspec.convert(figures, Summary)) is exit


def test_the_gravest_error_of_a_group_counts() -> None:
    """A defect outweighs everything, a damaged manifest outweighs the network."""
    network, manifest, defect = TransportError("reset"), ManifestError("damaged"), KeyError("x")
    group = BaseExceptionGroup("", [network, ExceptionGroup("", [manifest])])
    assert (leading_error(group), exit_code(group)) == (manifest, 6)
    whole = BaseExceptionGroup("", [group, defect])
    assert (leading_error(whole), exit_code(whole)) == (defect, 70)


def test_an_error_that_passes_says_how_to_go_on() -> None:
    """With 75, the message names the way to resume; otherwise it stays alone."""
    assert "same command" in message(TransportError("no route to the service"))
    assert message(InputError("a.jsonl: no such file")) == "packtrain: a.jsonl: no such file"


def test_only_errors_raised_on_purpose_go_without_a_traceback() -> None:
    """A defect is shown whole."""
    assert expected(InputError("x"))
    assert not expected(RuntimeError("x"))
