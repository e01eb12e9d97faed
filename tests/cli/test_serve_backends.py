"""``serve`` with its options for who answers, what clients may have, and who may be told."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.terminals import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.terminals import Terminal
    from tests.forks import Child

SERVE = ("serve", "--dir", "service", "--port", "0")
MODULE = """
async def answer(request, task, model):
    return f"{task} by {model}: " + request["contents"][0]["parts"][0]["text"]
"""


def call(service: Child, path: str, body: object) -> tuple[int, Any]:
    connection = HTTPConnection(listening(service).removeprefix("http://"))
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    return response.status, found


def ask(service: Child) -> str:
    """The text of an answer."""
    body = {"contents": [{"parts": [{"text": "hello"}]}]}
    status, found = call(service, "/v1beta/models/m-1:generateContent", body)
    assert status == 200, found
    return str(found["candidates"][0]["content"]["parts"][0]["text"])


def test_a_function_of_the_working_directory_answers(terminal: Terminal) -> None:
    """Named as module:function."""
    (terminal.directory / "mymodels.py").write_text(MODULE)
    assert ask(terminal.start(*SERVE, "--backend", "mymodels:answer")) == "generate by models/m-1: hello"


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("nowhere:answer", "No module named 'nowhere'"),
        ("json:dumps", "it is not an async function"),
        ("forward:ftp://host", "give an address"),
        ("magic", "give echo, forward:URL, or module:function"),
    ],
)
def test_a_backend_that_cannot_be_had(terminal: Terminal, backend: str, reason: str) -> None:
    """The service does not start, and says why."""
    ended = terminal(*SERVE, "--backend", backend)
    assert ended.returncode == 3
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr


class Endpoint(HTTPServer):
    """A model server that wants a key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Authorization"])
        answer = {"choices": [{"message": {"role": "assistant", "content": "from afar"}, "finish_reason": "stop"}]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_key_of_an_endpoint_comes_from_a_file(terminal: Terminal, endpoint: Endpoint) -> None:
    """It is shown to the endpoint, and asked of nobody."""
    key = terminal.directory / "key"
    key.write_text("their-own-key\n")
    key.chmod(0o600)
    service = terminal.start(*SERVE, "--backend", f"forward:{endpoint.url}", "--backend-key-file", "key")
    assert ask(service) == "from afar"
    assert endpoint.keys == ["Bearer their-own-key"]


def test_a_key_file_that_others_can_read_is_refused(terminal: Terminal) -> None:
    """As that of the service's own key."""
    key = terminal.directory / "key"
    key.write_text("secret")
    key.chmod(0o644)
    ended = terminal(*SERVE, "--backend", "forward:http://127.0.0.1:9/v1", "--backend-key-file", "key")
    assert ended.returncode == 4
    assert "chmod 600" in ended.stderr
    assert "secret" not in ended.stderr


@pytest.mark.parametrize(("options", "expected"), [((), 200), (("--quotas",), 429)])
def test_quotas_are_those_of_the_real_service(terminal: Terminal, options: tuple[str, ...], expected: int) -> None:
    """With the option, a job of more than three million tokens is too much for this model."""
    request = {"contents": [{"parts": [{"text": "x" * 12_000_100}]}]}
    batch = {"batch": {"inputConfig": {"requests": {"requests": [{"request": request}]}}}}
    service = terminal.start(*SERVE, *options)
    status, found = call(service, "/v1beta/models/gemini-2.5-flash:batchGenerateContent", batch)
    assert status == expected
    assert found.get("error", {}).get("status") == ("RESOURCE_EXHAUSTED" if options else None)


def test_events_go_to_the_origins_named(terminal: Terminal) -> None:
    """Each option adds one, and loopback is none of them; what is no origin is refused."""
    options = ("--webhooks-to", "https://hooks.example", "--webhooks-to", "http://127.0.0.1:9000")
    origin = listening(terminal.start(*SERVE, *options)).removeprefix("http://")
    expected = {"https://hooks.example/x": 200, "http://127.0.0.1:9000/x": 200, "http://127.0.0.1:9001/x": 400}
    for uri, status in expected.items():
        connection = HTTPConnection(origin)
        body = {"uri": uri, "subscribed_events": ["batch.failed"]}
        connection.request("POST", "/v1beta/webhooks", json.dumps(body))
        assert connection.getresponse().status == status, uri
        connection.close()
    ended = terminal(*SERVE, "--webhooks-to", "hooks.example")
    assert ended.returncode == 3
    assert "give an origin" in ended.stderr
