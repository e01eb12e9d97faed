"""A key that is looked for everywhere after a run in which a lot went wrong, and an upload session's address."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import listening, request_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.terminals import Terminal

KEY = "SENTINEL-key-that-is-nowhere"
#: Every address of an upload session has this in it.
SESSION = "upload_id="
#: Redirects and an upload address that lead elsewhere, lost and late answers, a dead session, a cut body.
PLAN = """
rules = [
    {{ do = "header", route = "upload.start", times = 1, name = "X-Goog-Upload-URL", value = "{address}" }},
    {{ do = "status", route = "upload.start", calls = [2], status = 403 }},
    {{ do = "status", route = "files.get", calls = [2], status = 307, headers = {{ Location = "{elsewhere}" }} }},
    {{ do = "status", route = "batches.create", calls = [1], status = 308, headers = {{ Location = "{elsewhere}" }} }},
    {{ do = "drop", route = "batches.create", calls = [2], acted = true }},
    {{ do = "status", route = "batches.list", calls = [1], status = 503 }},
    {{ do = "expire", route = "upload.data", calls = [1] }},
    {{ do = "drop", route = "upload.data", calls = [3], acted = true }},
    {{ do = "delay", route = "files.download", calls = [1], seconds = 0.5 }},
    {{ do = "truncate", route = "files.download", calls = [2], at = 100 }},
]
"""
RULES = PLAN.count(" do = ")
#: Starts that a run may take: a refused upload ends one.
STARTS = 6


class Elsewhere:
    """Another origin, to which nothing must be sent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/elsewhere"
        self.callers = 0
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                self._listener.accept()[0].close()
                self.callers += 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with contextlib.closing(Elsewhere()) as found:
        yield found


def watched(process: subprocess.Popen[bytes]) -> bytes:
    """What anybody may see of a process and its children in /proc, until it ends: arguments; of children also more."""
    seen = bytearray()
    while process.poll() is None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # a process ends when it likes
            seen += Path(f"/proc/{process.pid}/cmdline").read_bytes()
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    seen += b"".join(Path(f"/proc/{child}/{name}").read_bytes() for name in ("cmdline", "environ"))
            process.wait(0.05)
    return bytes(seen)


def told(terminal: Terminal, arguments: list[str], environ: dict[str, str]) -> tuple[int, str]:
    """One start: its exit code, and all that it let anybody see."""
    log = terminal.directory / "told"
    with log.open("wb") as file:
        process = terminal.program(*arguments, stderr=file.fileno(), **environ)
        seen = watched(process)
    assert b"packtrain" in seen
    assert process.stdout is not None
    said = process.stdout.read() + log.read_bytes()
    log.unlink()
    return process.returncode, (seen + said).decode()


@pytest.mark.parametrize("given", ["by the environment", "in a file"])
def test_137_no_artefact_holds_the_key_or_an_upload_session(
    terminal: Terminal, elsewhere: Elsewhere, given: str
) -> None:
    """State, output, lists, messages, tracebacks, arguments, children, the service's record: not one of them."""
    place = terminal.directory
    (place / "in.jsonl").write_bytes(b"".join(map(request_line, range(20))) + b"rubbish\n")
    (place / "plan.toml").write_text(PLAN.format(elsewhere=elsewhere.url, address=f"{elsewhere.url}?{SESSION}1"))
    keys = place / "keys"
    keys.touch(0o600)
    keys.write_text(KEY)
    served = ["serve", "--dir", "service", "--port", "0", "--api-key-file", "keys", "--faults", "plan.toml", "--debug"]
    service = terminal.start(*served)
    call = [
        "run",
        "in.jsonl",
        "--out",
        "out.jsonl",
        "--model",
        "m",
        "--service",
        listening(service),
        "--wire",
        "gemini",
    ]
    call += ["--max-shard-requests", "10", "--poll", "50ms", "--settle", "300ms", "--debug", "--json"]
    call, environ = (call, {"GEMINI_API_KEY": KEY}) if "env" in given else ([*call, "--api-key-file", "keys"], {})
    starts: list[tuple[int, str]] = []
    while not starts or (starts[-1][0] not in (0, 1) and len(starts) < STARTS):
        starts.append(told(terminal, call, environ))
    service.terminate()
    assert service.stderr is not None
    texts = [text for _, text in starts] + [service.stderr.read().decode()]
    assert starts[-1][0] == 1, texts[-2][-2000:]
    truth = [json.loads(line) for line in (place / "service" / "truth.jsonl").read_text().splitlines()]
    assert len({(entry["do"], entry["route"]) for entry in truth if entry["what"] == "fault"}) == RULES
    assert any("Traceback" in text for text in texts)
    assert not [text for text in texts if KEY in text or SESSION in text]
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path != keys}
    assert {place / "out.jsonl", place / "out.jsonl.packtrain" / "manifest.db"} <= files.keys()
    assert not [path for path, content in files.items() if KEY.encode() in content]
    ours = [path for path in files if path.parent.name != "service" and path.name != "plan.toml"]
    assert not [path for path in [*ours, place / "service" / "truth.jsonl"] if SESSION.encode() in files[path]]
    assert elsewhere.callers == 0
