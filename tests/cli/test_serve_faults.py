"""A plan of faults given to ``serve``."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import TYPE_CHECKING

from tests.cli.terminals import listening

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

PLAN = """
[[rules]]
do = "status"
route = "batches.list"
status = 503
"""


def test_serve_misbehaves_as_the_plan_says(terminal: Terminal) -> None:
    """From its first call on."""
    (terminal.directory / "plan.toml").write_text(PLAN)
    service = terminal.start("serve", "--dir", "service", "--port", "0", "--faults", "plan.toml")
    connection = HTTPConnection(listening(service).removeprefix("http://"))
    connection.request("GET", "/v1beta/batches")
    assert connection.getresponse().status == 503
    connection.close()


def test_serve_does_not_start_with_a_plan_that_it_cannot_read(terminal: Terminal) -> None:
    """And says what is wrong with it."""
    (terminal.directory / "plan.toml").write_text(PLAN.replace("status =", "statis ="))
    ended = terminal("serve", "--dir", "service", "--port", "0", "--faults", "plan.toml")
    assert ended.returncode == 3
    assert "plan.toml: not a plan of faults" in ended.stderr
    assert "statis" in ended.stderr
