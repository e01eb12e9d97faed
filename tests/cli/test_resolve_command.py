"""From a quarantine, by a person's word, to the end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.cli.terminals import listening, request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

LOST = """
[[rules]]
do = "drop"
route = "batches.create"
calls = [1]
"""


#: The job that is created stays at the service.
AT_WORK = """
[[scripts]]
jobs = [1]
[[scripts.steps]]
state = "RUNNING"
looks = 1000000
"""


def test_a_quarantined_shard_is_decided_about_and_the_run_goes_on(terminal: Terminal) -> None:
    """5 names the shard, status repeats it, resolve decides offline, and the same command ends with 0."""
    (terminal.directory / "in.jsonl").write_bytes(request_line(1))
    (terminal.directory / "plan.toml").write_text(LOST)
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0", "--faults", "plan.toml"))
    run = ["run", "in.jsonl", "--model", "m", "--out", "out.jsonl", "--service", origin, "--wire", "gemini"]
    run += ["--on-ambiguous", "quarantine", "--settle", "100ms", "--poll", "50ms"]
    stopped = terminal(*run)
    assert stopped.returncode == 5
    state = "out.jsonl.packtrain"
    assert f"pay again      packtrain resolve {state} --shard 0 --retry\n" in stopped.stderr
    assert re.search(r"a job of it would be called pt1\.[a-z2-7]{26}\.0\.0\.1\.", stopped.stderr, re.MULTILINE)
    told = terminal("status", state).stdout
    assert "needs you   shard 0: the create of attempt 1 left no job" in told
    assert f"give up lines  packtrain resolve {state} --shard 0 --drop\n" in told
    refused = terminal("resolve", state, "--shard", "1", "--retry")
    assert (refused.returncode, "there is no shard 1; shards are 0 to 0" in refused.stderr) == (3, True)
    unknown = ["--adopt", "batches/none", "--service", origin, "--wire", "gemini"]
    assert terminal("resolve", state, "--shard", "0", *unknown).returncode == 3
    decided = terminal("resolve", state, "--shard", "0", "--retry")
    assert (decided.returncode, decided.stderr) == (0, "")
    assert decided.stdout.startswith("shard 0: now uploading, tried once more by a person's decision")
    assert terminal(*run).returncode == 0


def test_a_decision_is_handed_to_the_running_driver(terminal: Terminal) -> None:
    """While another shard is still at the service, a second process decides; 3 says why a request was refused."""
    (terminal.directory / "in.jsonl").write_bytes(request_line(1) + request_line(2))
    (terminal.directory / "plan.toml").write_text(LOST + AT_WORK)
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0", "--faults", "plan.toml"))
    run = ["run", "in.jsonl", "--model", "m", "--out", "out.jsonl", "--service", origin, "--wire", "gemini"]
    run += ["--on-ambiguous", "quarantine", "--settle", "100ms", "--poll", "50ms", "--max-shard-requests", "1"]
    driver = terminal.start(*run)
    state = "out.jsonl.packtrain"
    while not (found := terminal("status", state, "--json").stdout) or not json.loads(found)["quarantined"]:
        assert driver.poll() is None
    needy = next(iter(json.loads(found)["quarantined"]))
    assert f"driver      process {driver.pid} on " in terminal("status", state).stdout
    decided = terminal("resolve", state, "--shard", needy, "--drop")
    assert (decided.returncode, decided.stdout) == (0, "taken by the driver of the run, which goes on with it\n")
    again = terminal("resolve", state, "--shard", needy, "--drop")
    assert (again.returncode, f"shard {needy} is not quarantined" in again.stderr) == (3, True)
    asked = terminal("retry", state)
    assert (asked.returncode, "asks failed lines again once the run is published" in asked.stdout) == (75, True)
    assert driver.poll() is None


def test_there_is_nothing_to_resolve_without_a_run(terminal: Terminal) -> None:
    """And no state directory comes into being by asking."""
    assert terminal("resolve", "nowhere", "--shard", "0", "--drop").returncode == 3
    assert not (terminal.directory / "nowhere").exists()
