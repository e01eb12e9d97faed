"""A later start that does not say which service the run is driven with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.terminals import listening, request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

CALL = ("run", "a.jsonl", "--model", "m", "--out", "o")


def test_a_forgotten_service_is_told_before_a_key_is_asked_for(terminal: Terminal) -> None:
    """By ``run``, with the options to give; ``retry`` and ``resolve`` take it from STATE, and ``status`` shows it."""
    (terminal.directory / "a.jsonl").write_bytes(request_line(1))
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0"))
    there = ("--service", origin, "--wire", "gemini")
    assert terminal(*CALL, *there).returncode == 0
    done = terminal(*CALL)
    assert (done.returncode, f"give {' '.join(there)}" in done.stderr) == (6, True), done.stderr
    assert terminal("retry", "o.packtrain", "--all").returncode == 0
    done = terminal("resolve", "o.packtrain", "--shard", "0", "--adopt", "batches/x")
    assert (done.returncode, "not quarantined" in done.stderr) == (3, True), done.stderr
    assert origin in terminal("status", "o.packtrain").stdout
    assert json.loads(terminal("status", "o.packtrain", "--json").stdout)["service"] == origin


def test_a_forgotten_service_of_this_program_is_told_as_well(terminal: Terminal) -> None:
    """It is ``local``, and not the directory that it keeps its files in."""
    (terminal.directory / "a.jsonl").write_bytes(request_line(1))
    assert terminal(*CALL, "--service", "local").returncode == 0
    done = terminal(*CALL)
    assert (done.returncode, "give --service local" in done.stderr) == (6, True), done.stderr
