"""``packtrain serve`` on a disk without room, which here is a limit to the size of its files."""

from __future__ import annotations

import json
import resource
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.terminals import Terminal, listening

if TYPE_CHECKING:
    from tests.forks import Child

BATCH = {"displayName": "b", "inputConfig": {"requests": {"requests": [{"request": {"contents": []}}]}}}
CREATE = json.dumps({"batch": BATCH}).encode()
#: Seconds after which what is waited for will never be.
PATIENCE = 100.0


class Service:
    def __init__(self, process: Child, connection: HTTPConnection) -> None:
        self.process = process
        self._connection = connection

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, headers and JSON."""
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())

    def limit(self, size: int) -> None:
        most = resource.RLIM_INFINITY
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most if size < 0 else size, most))

    def jobs(self) -> dict[str, str]:
        """Every job with its state."""
        status, _, page = self.call("GET", "/v1beta/batches?pageSize=100")
        assert status == 200
        return {job["name"]: job["metadata"]["state"] for job in page.get("operations", [])}


@pytest.mark.parametrize("limit", [0, 40_000, 150_000])
def test_a_full_disk_refuses_what_writes_and_serves_what_reads(terminal: Terminal, limit: int) -> None:
    """On both wires; with room again it goes on, and nothing that was promised is missing."""
    process = terminal.start("serve", "--dir", "service", "--port", "0")
    with closing(HTTPConnection(listening(process).removeprefix("http://"))) as connection:
        promised = fill(Service(process, connection), limit)
    process.terminate()
    _, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert b"Traceback" not in complaint
    told = [json.loads(line) for line in (terminal.directory / "service/truth.jsonl").read_bytes().splitlines()]
    created = [fact["name"] for fact in told if fact["what"] == "batch_created"]
    assert len(created) == len(set(created))
    assert set(promised) <= set(created)


def fill(service: Service, limit: int) -> list[str]:
    """The jobs that were promised."""
    promised = [service.call("POST", "/v1beta/models/m:batchGenerateContent", CREATE)[2]["name"]]
    service.limit(limit)
    for _ in range(200):
        status, headers, found = service.call("POST", "/v1beta/models/m:batchGenerateContent", CREATE)
        if status != 200:
            break
        promised.append(found["name"])
    assert (status, found["error"]["status"]) == (503, "UNAVAILABLE")
    assert headers["Retry-After"]
    assert set(promised) <= set(service.jobs())
    kept = json.dumps({"purpose": "batch", "filename": "f", "bytes": 1, "mime_type": "text/plain"}).encode()
    for _ in range(200):
        status, _, found = service.call("POST", "/v1/uploads", kept, Authorization="Bearer k")
        if status != 200:
            break
    assert (status, found["error"]["type"]) == (503, "server_error")
    assert service.process.poll() is None
    service.limit(-1)
    deadline = time.monotonic() + PATIENCE
    while any(service.jobs()[name] != "BATCH_STATE_SUCCEEDED" for name in promised):
        assert time.monotonic() < deadline, service.jobs()
    assert service.call("POST", "/v1beta/models/m:batchGenerateContent", CREATE)[0] == 200
    return promised


def test_a_port_that_is_taken_ends_with_3(terminal: Terminal) -> None:
    """What it was given cannot be used, and it says which port."""
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0"))
    ended = terminal("serve", "--dir", "other", "--port", origin.rpartition(":")[2])
    assert ended.returncode == 3
    assert f"port {origin.rpartition(':')[2]}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (terminal.directory / "other").exists()


@pytest.mark.parametrize("backend", ["parrot", "no.such.module:answer", "json:loads", "forward:nowhere"])
def test_a_backend_that_cannot_be_had_ends_with_3(terminal: Terminal, backend: str) -> None:
    """Before anything is begun."""
    ended = terminal("serve", "--dir", "service", "--port", "0", "--backend", backend)
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    assert not (terminal.directory / "service").exists()


def test_a_plan_that_is_not_there_ends_with_3(terminal: Terminal) -> None:
    """As one does that cannot be understood."""
    ended = terminal("serve", "--dir", "service", "--port", "0", "--faults", "plan.toml")
    assert ended.returncode == 3
    assert "plan.toml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_directory_in_use_ends_with_6(terminal: Terminal) -> None:
    """Another service has it."""
    listening(terminal.start("serve", "--dir", "service", "--port", "0"))
    ended = terminal("serve", "--dir", "service", "--port", "0")
    assert ended.returncode == 6
    assert "another service" in ended.stderr
    assert "Traceback" not in ended.stderr


#: Answers the first line, and refuses the second, when the disk has just become full.
MODULE = """
import resource


async def answer(request, task, model):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    if "bad" in str(request):
        raise ValueError("a bad line")
    return "answered"
"""
LINE = '{"custom_id": "%s", "method": "POST", "url": "/v1/chat/completions", "body": %s}\n'
FORM = "--b\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"


def test_a_batch_that_the_disk_has_no_room_for_waits(terminal: Terminal) -> None:
    """On the OpenAI wire as on the other; its two files get each line once."""
    (terminal.directory / "mymodels.py").write_text(MODULE)
    process = terminal.start("serve", "--dir", "service", "--port", "0", "--backend", "mymodels:answer")
    with closing(HTTPConnection(listening(process).removeprefix("http://"))) as connection:
        service = Service(process, connection)
        body = [json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}) for text in ("good", "bad")]
        lines = "".join(LINE % (name, one) for name, one in zip("ab", body, strict=True))
        form = FORM % ("purpose", "batch") + FORM % ('file; filename="f"', lines) + "--b--\r\n"
        made = openai(service, "POST", "/v1/files", form, "multipart/form-data; boundary=b")
        wish = {"input_file_id": made["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = openai(service, "POST", "/v1/batches", json.dumps(wish))
        assert process.stderr is not None
        while b"cannot write to its disk" not in (said := process.stderr.readline()):
            assert said, "the service has ended"
        service.limit(-1)
        deadline = time.monotonic() + PATIENCE
        while (batch := openai(service, "GET", f"/v1/batches/{batch['id']}"))["status"] != "completed":
            assert batch["status"] in ("in_progress", "finalizing"), batch
            assert time.monotonic() < deadline, batch
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}


def openai(service: Service, method: str, path: str, body: str | None = None, kind: str = "application/json") -> Any:
    sent = None if body is None else body.encode()
    status, _, found = service.call(method, path, sent, **{"Authorization": "Bearer k", "Content-Type": kind})
    assert status == 200, found
    return found
