"""Backends: functions, interactive endpoints, and their errors."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientSession, web
from msgspec import Raw

from packtrain import InputError, Secret
from packtrain._model import RowError, Task
from packtrain.server import serving
from packtrain.server.backends.forward import TRIES, ApiFormat, Forward, GeminiFormat, OpenAIFormat
from packtrain.server.backends.json_answers import encode_json

from .service_calls import Calls, generate_line, generate_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from packtrain.server.backends.backend import Backend

MODULE = """
import asyncio, sys

ODD_VECTORS = {
    "text": ["a"],
    "nan": [float("nan")],
    "infinite": {"embedding": {"values": [float("inf")]}},
    "empty": {},
    "text_only": "x",
}

async def answer(request, task, model):
    text = (request.get("content") or request["contents"][0])["parts"][0]["text"]
    if text == "bad 1":
        raise KeyError("secret")
    if text == "bad 2":
        return 5
    if text == "exit":
        sys.exit(1)
    if text == "cancel":
        raise asyncio.CancelledError
    if text == "cancel itself":
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
    if text in ODD_VECTORS:
        return ODD_VECTORS[text]
    if text == "whole 3":
        return {"candidates": [], "modelVersion": model}
    return [0.5, 0.5] if task == "embed" else text.upper()

def blocking(request, task, model):
    return ""
"""


@asynccontextmanager
async def calls_of(directory: Path, backend: str | Backend, key: Secret | None = None) -> AsyncIterator[Calls]:
    async with serving(directory, backend=backend, backend_key=key) as origin, ClientSession() as session:
        yield Calls(session, origin)


async def rows_of(calls: Calls, lines: bytes, task: str = "generate") -> list[Any]:
    file = await calls.upload(lines)
    operation = await calls.ended(await calls.job(file["name"], task=task))
    assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    return await calls.results(operation)


def text_of(row: Any) -> Any:
    return row["response"]["candidates"][0]["content"]["parts"][0]["text"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "somebodys_model.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "somebodys_model"


async def test_function_answers_each_row(directory: Path, module: str) -> None:
    """A text, a vector or a whole response; an exception is the error of its row, without its message."""
    async with calls_of(directory, f"{module}:answer") as calls:
        lines = b"".join(
            generate_line(str(at), text) for at, text in enumerate(["good 0", "bad 1", "bad 2", "whole 3"])
        )
        good, bad, useless, whole = await rows_of(calls, lines)
        assert text_of(good) == "GOOD 0"
        assert bad["error"] == {"code": 13, "message": "The backend failed: KeyError."}
        assert useless["error"]["code"] == 15
        assert whole["response"] == {"candidates": [], "modelVersion": "models/m-1"}
        embed = json.dumps({"key": "e", "request": {"content": {"parts": [{"text": "x"}]}}}).encode()
        (row,) = await rows_of(calls, embed, "embed")
        assert row["response"]["embedding"]["values"] == [0.5, 0.5]


async def test_any_exception_of_a_function_is_the_error_of_its_line(directory: Path, module: str) -> None:
    """Including CancelledError and SystemExit; the other lines of the block are answered."""
    texts = ["good", "exit", "cancel", "cancel itself", "good"] * 2
    async with calls_of(directory, f"{module}:answer") as calls:
        rows = await rows_of(calls, b"".join(generate_line(str(at), text) for at, text in enumerate(texts)))
    outcomes = [row["error"]["message"].split()[-1] if "error" in row else text_of(row) for row in rows]
    assert outcomes == ["GOOD", "SystemExit.", "CancelledError.", "CancelledError.", "GOOD"] * 2


async def test_vectors_of_a_function_are_numbers(directory: Path, module: str) -> None:
    """An invalid vector is an error of its line, or of an interactive call, in the format of its wire."""
    texts = ["text", "nan", "infinite", "empty", "text_only", "good"]
    requests = [{"content": {"parts": [{"text": text}]}} for text in texts]
    lines = "\n".join(json.dumps({"key": "k", "request": request}) for request in requests)
    async with calls_of(directory, f"{module}:answer") as calls:
        rows = await rows_of(calls, lines.encode(), "embed")
        assert [row.get("error", {}).get("code") for row in rows] == [15] * 5 + [None]
        path = "/v1beta/models/m:batchEmbedContents"
        assert (await calls.call("POST", path, json={"requests": requests[:1]})).error == (500, "INTERNAL")
    async with calls_of(directory / "other", Falling()) as calls:
        answer = await calls.call("POST", path, json={"requests": requests[:1]})
    assert answer.error == (500, "INTERNAL")
    assert "no embedding" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "name", ["nothing", "somebodys_model:none", "no_such_module:answer", "somebodys_model:blocking", "forward:here"]
)
async def test_unusable_backends_are_input_errors(directory: Path, module: str, name: str) -> None:
    """The error is raised at the start, not with the first job."""
    with pytest.raises(InputError, match="backend"):
        async with serving(directory, backend=name):
            pass


class Falling:
    """Works only for the first block."""

    rows = 2

    def __init__(self) -> None:
        self.calls = 0

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[bytes | RowError]:
        self.calls += 1
        if self.calls > 1:
            raise ZeroDivisionError
        return [b"{}"] * len(requests)


async def test_failing_backend_does_not_end_the_service(directory: Path) -> None:
    """Its rows have code 13; the job ends, and so does the next one."""
    async with calls_of(directory, Falling()) as calls:
        rows = await rows_of(calls, generate_lines(5))
        assert [row.get("error", {}).get("code") for row in rows] == [None, None, 13, 13, 13]
        assert len(await rows_of(calls, generate_lines(1))) == 1


async def test_forward_to_a_gemini_endpoint(tmp_path: Path) -> None:
    """Requests are sent unchanged; an error of the endpoint is the error of that row only."""
    key = Secret("k" * 40)
    async with (
        serving(tmp_path / "model", key=key) as endpoint,
        calls_of(tmp_path / "batch", f"forward:{endpoint}/v1beta", key) as calls,
    ):
        bad = b'{"key": "bad", "request": {"contents": []}}\n'
        good, refused = await rows_of(calls, generate_line("good", "hello") + bad)
        assert text_of(good) == "hello"
        assert refused["error"]["code"] == 3
        embed = json.dumps({"key": "e", "request": {"content": {"parts": [{"text": "x"}]}}}).encode()
        (row,) = await rows_of(calls, embed, "embed")
        assert len(row["response"]["embedding"]["values"]) == 256


class Endpoint:
    """A chat endpoint with scripted answers, which records the calls."""

    def __init__(self, reply: Callable[[Any], Awaitable[web.Response]]) -> None:
        self.asked: list[Any] = []
        self.most = self.active = 0
        self._reply = reply

    async def handle(self, request: web.Request) -> web.Response:
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            self.asked.append(await request.json())
            return await self._reply(self.asked[-1])
        finally:
            self.active -= 1

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/{path:.*}", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        await runner.cleanup()


def chat(text: str) -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    return web.json_response({"id": "c-1", "model": "m", "choices": [choice]})


async def test_forward_to_an_openai_endpoint_with_bounded_concurrency(directory: Path) -> None:
    """A slow endpoint never has more than 16 requests; the rows keep their order."""

    full = anyio.Event()

    async def reply(request: Any) -> web.Response:
        if endpoint.active == 16:
            full.set()
        with anyio.fail_after(100):
            await full.wait()
        return chat(request["messages"][-1]["content"].upper())

    endpoint = Endpoint(reply)
    async with endpoint.open() as url, calls_of(directory, f"forward:{url}") as calls:
        rows = await rows_of(calls, generate_lines(100))
    assert [text_of(row) for row in rows] == [f"HELLO {at}" for at in range(100)]
    assert rows[0]["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert endpoint.most == 16
    assert endpoint.asked[0]["model"] == "m-1"


async def test_fields_without_counterpart_are_refused(directory: Path) -> None:
    """They are not dropped silently; fields with a counterpart are translated."""

    async def reply(asked: Any) -> web.Response:
        return chat("{}")

    request = {
        "contents": [
            {"role": "model", "parts": [{"text": "a"}]},
            {"parts": [{"inline_data": {"mimeType": "image/png", "data": "AA"}}]},
        ],
        "system_instruction": {"parts": [{"text": "be brief"}]},
        "generation_config": {
            "max_output_tokens": 5,
            "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER", "nullable": True}}},
        },
    }
    lines = json.dumps({"key": "a", "request": request}) + "\n"
    lines += json.dumps({"key": "b", "request": {**request, "tools": [{"googleSearch": {}}]}})
    endpoint = Endpoint(reply)
    async with endpoint.open() as url, calls_of(directory, f"forward:{url}") as calls:
        good, refused = await rows_of(calls, lines.encode())
    assert "response" in good
    assert refused["error"]["code"] == 3
    (asked,) = endpoint.asked
    assert asked["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
    ]
    assert asked["max_tokens"] == 5
    assert asked["response_format"]["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
    }


class QuickClock:
    """Sleeps return at once and are recorded."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.now()

    def jitter(self) -> float:
        return 1.0

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


REQUEST = Raw(b'{"contents": [{"parts": [{"text": "x"}]}]}')


async def forwarded(endpoint: Endpoint, clock: QuickClock, api_format: ApiFormat | None = None) -> bytes | RowError:
    async with endpoint.open() as url, ClientSession() as session:
        forward = Forward(session, url, api_format or OpenAIFormat(), clock=clock)
        (answer,) = await forward.answer([REQUEST], task="generate", model="models/m")
        return answer


async def test_retries_wait_as_long_as_the_endpoint_asks() -> None:
    """Retry-After applies where it is longer than the backoff; then the answer is used."""

    async def reply(asked: Any) -> web.Response:
        if len(endpoint.asked) > 2:
            return chat("at last")
        return web.Response(status=429, headers={"Retry-After": "7"} if len(endpoint.asked) == 1 else {})

    endpoint, clock = Endpoint(reply), QuickClock()
    assert isinstance(await forwarded(endpoint, clock), bytes)
    assert clock.waits == [7.0, 1.0]


@pytest.mark.parametrize(("status", "code", "asked"), [(503, 14, TRIES), (429, 8, TRIES), (400, 3, 1), (302, 13, 1)])
async def test_endpoint_errors_are_row_errors(status: int, code: int, asked: int) -> None:
    """Transient errors are retried, others are not."""

    async def reply(asked: Any) -> web.Response:
        return web.json_response({"error": {"message": "no", "type": "x", "code": None}}, status=status)

    endpoint = Endpoint(reply)
    answer = await forwarded(endpoint, QuickClock())
    assert isinstance(answer, RowError)
    assert answer.code == code
    assert len(endpoint.asked) == asked


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": 1}', b"\xff"])
async def test_malformed_endpoint_responses_are_row_errors(body: bytes) -> None:
    """Status 200 is not enough."""

    async def reply(asked: Any) -> web.Response:
        return web.Response(body=body)

    answer = await forwarded(Endpoint(reply), QuickClock())
    assert isinstance(answer, RowError)
    assert answer.code == (15 if body else 13)


CHAT = b'{"choices":[{"message":{"content":%b},"finish_reason":"stop"}]}'


@pytest.mark.parametrize("value", [b"NaN", b'"\xff"', b'"a\tb"', b"-Infinity"])
@pytest.mark.parametrize("api_format", [OpenAIFormat(), GeminiFormat()])
async def test_an_answer_that_is_no_json_fails_its_line_for_good(value: bytes, api_format: ApiFormat) -> None:
    """A6, of both formats: with a code that does not pass, so that nothing is asked, and paid for, again."""

    async def reply(asked: Any) -> web.Response:
        return web.Response(body=CHAT % value)

    endpoint = Endpoint(reply)
    answer = await forwarded(endpoint, QuickClock(), api_format)
    assert isinstance(answer, RowError)
    assert answer.code == 15
    assert "not JSON" in answer.message
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize("body", [CHAT % b'"half \\ud83d"', b"\xef\xbb\xbf" + CHAT % b'"half \\ud83d"'])
async def test_half_a_surrogate_pair_is_passed_on_and_a_byte_order_mark_is_not(body: bytes) -> None:
    """A6 and B13, as an escape."""

    async def reply(asked: Any) -> web.Response:
        return web.Response(body=body)

    answer = await forwarded(Endpoint(reply), QuickClock())
    assert isinstance(answer, bytes)
    assert b'"text": "half \\ud83d"' in answer


@pytest.mark.parametrize(
    ("value", "text"),
    [({"t": "half \ud83d"}, b'{"t": "half \\ud83d"}'), ({"t": None}, b'{"t":null}'), ({"t": 1.5}, b'{"t":1.5}')],
)
def test_a_value_of_a_function_is_json(value: object, text: bytes) -> None:
    """A6: half a surrogate pair stays, as an escape."""
    assert encode_json(value) == text


def test_a_value_without_a_json_form_is_refused() -> None:
    """A6: NaN does not become null in silence."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json({"score": float("nan"), "none": None})


async def test_dead_endpoint_is_unavailable() -> None:
    """Code 14 after all attempts."""
    clock = QuickClock()
    async with ClientSession() as session:
        forward = Forward(session, "http://127.0.0.1:1/v1", OpenAIFormat(), clock=clock)
        (answer,) = await forward.answer([REQUEST], task="generate", model="models/m")
    assert isinstance(answer, RowError)
    assert answer.code == 14
    assert len(clock.waits) == TRIES - 1
