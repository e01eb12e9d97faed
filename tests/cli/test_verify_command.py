"""``packtrain verify``: its exit codes and what it prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.terminals import request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

RUN = ["run", "in.jsonl", "--service", "local", "--model", "m", "--out", "out.jsonl", "--quiet"]
STATE = "out.jsonl.packtrain"


def test_sound_is_0_findings_are_1_damage_is_6(terminal: Terminal) -> None:
    """Each finding is a line that begins with where it is."""
    (terminal.directory / "in.jsonl").write_bytes(b"".join(map(request_line, range(9))))
    assert terminal(*RUN).returncode == 0
    sound = terminal("verify", STATE, "--read-data")
    assert (sound.returncode, sound.stdout[:6]) == (0, "sound:"), sound.stdout

    out = terminal.directory / "out.jsonl"
    out.write_bytes(out.read_bytes().replace(b"t3", b"t4"))
    found = terminal("verify", STATE, "--read-data", "--json")
    (finding,) = json.loads(found.stdout)["findings"]
    assert (found.returncode, finding["where"]) == (1, "out.jsonl")
    told = terminal("verify", STATE, "--read-data")
    assert told.stdout.splitlines()[0].startswith("out.jsonl: shard 0: its bytes are not what they were")

    (terminal.directory / STATE / "manifest.db").write_bytes(b"no database")
    assert terminal("verify", STATE).returncode == 6
    assert terminal("verify", "nowhere").returncode == 3
