"""``packtrain recover`` and ``packtrain adopt``: the ways on that an error names, and their exit codes."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING

from tests.cli.terminals import listening, request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal


def test_each_refusal_names_a_way_on_that_works(terminal: Terminal) -> None:
    """A state directory that was copied, then one that is gone: refused with 6, and complete in the end."""
    (terminal.directory / "in.jsonl").write_bytes(b"".join(map(request_line, range(9))))
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0"))
    common = ["--service", origin, "--wire", "gemini", "--model", "m", "--out", "out.jsonl"]
    run = ["run", "in.jsonl", *common, "--settle", "300ms", "--poll", "50ms", "--max-shard-requests", "3", "--json"]
    state = terminal.directory / "out.jsonl.packtrain"
    calm = json.loads(terminal(*run).stdout)

    shutil.copytree(state, terminal.directory / "copy")
    refused = terminal(*run, "--state", "copy")
    assert (refused.returncode, "packtrain adopt copy" in refused.stderr) == (6, True)
    adopted = terminal("adopt", "copy", "--json")
    assert (adopted.returncode, json.loads(adopted.stdout)["ambiguous"]) == (0, 0)
    assert terminal(*run, "--state", "copy").returncode == 0

    (state / "manifest.db").unlink()
    refused = terminal(*run)
    assert (refused.returncode, f"--run {calm['run']}" in refused.stderr) == (6, True)
    shutil.rmtree(state)
    (terminal.directory / "out.jsonl").unlink()
    recovered = terminal("recover", "in.jsonl", "--run", calm["run"], *common, "--max-shard-requests", "3")
    assert recovered.returncode == 0, recovered.stderr
    assert "3 shards, 3 of them with a job" in recovered.stdout
    done = terminal(*run)
    assert (done.returncode, json.loads(done.stdout)["answered"]) == (0, 9), done.stderr


def test_after_a_kill_the_log_of_a_lost_manifest_is_moved_away_first(terminal: Terminal) -> None:
    """SQLite would play it into the new manifest, which would then know of the first shards alone."""
    (terminal.directory / "in.jsonl").write_bytes(b"".join(map(request_line, range(9))))
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0"))
    common = ["in.jsonl", "--service", origin, "--wire", "gemini", "--model", "m", "--out", "out.jsonl"]
    common += ["--max-shard-requests", "3"]
    run = ["run", *common, "--settle", "300ms", "--poll", "50ms", "--json"]
    killed = terminal(*run, PACKTRAIN_FAILPOINTS="create.post.after=kill@2")
    assert killed.returncode == -signal.SIGKILL
    state = terminal.directory / "out.jsonl.packtrain"
    token = json.loads((state / "manifest.run").read_text())["run"]
    log = state / "manifest.db-wal"
    left = log.read_bytes()

    (state / "manifest.db").unlink()
    refused = terminal("recover", *common, "--run", token)
    assert (refused.returncode, "move manifest.db-wal away" in refused.stderr) == (6, True), refused.stderr
    assert ((state / "manifest.db").exists(), log.read_bytes() == left) == (False, True)

    log.rename(state / "old-wal")
    recovered = terminal("recover", *common, "--run", token)
    assert recovered.returncode == 0, recovered.stderr
    done = terminal(*run)
    assert (done.returncode, json.loads(done.stdout)["answered"]) == (0, 9), done.stderr
    truth = (terminal.directory / "service" / "truth.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["what"] == "batch_created" for line in truth) == 3


def test_without_a_manifest_there_is_nothing_to_adopt(terminal: Terminal) -> None:
    """And none is made."""
    done = terminal("adopt", "nowhere")
    assert (done.returncode, list(terminal.directory.iterdir())) == (3, [])
