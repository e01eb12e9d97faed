"""Untrusted hosts, origins and names."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession
from anyio import to_thread

from packtrain._model import Secret
from packtrain.server import serving
from packtrain.server.connections import RESPONSE_HEADERS
from packtrain.server.limits import Limits

from .raw_http import error_of, exchange, head, statuses
from .service_calls import Calls, generate_line, truth

if TYPE_CHECKING:
    from pathlib import Path

KEY = "k" * 32
CLOSE = "Connection: close"
EVIL = (
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%2e%2e%2fservice.db",
    "..%5c..%5cservice.db",
    "%252e%252e%252fservice.db",
    "/etc/passwd",
    "%00",
    "a%00.jsonl",
    "%ff%fe",
    "%0d%0aSet-Cookie:x",
    "'%20OR%201=1--",
    "x" * 7000,
)
ROUTES = (
    ("GET", "/v1beta/files/{}"),
    ("GET", "/v1beta/files/{}:download?alt=media"),
    ("GET", "/download/v1beta/files/{}:download?alt=media"),
    ("DELETE", "/v1beta/files/{}"),
    ("POST", "/upload/v1beta/files?upload_id={}"),
    ("POST", "/v1beta/models/{}:batchGenerateContent"),
    ("POST", "/v1beta/models/{}:generateContent"),
    ("GET", "/v1beta/batches/{}"),
    ("POST", "/v1beta/batches/{}:cancel"),
    ("DELETE", "/v1beta/batches/{}"),
    ("GET", "/v1/files/{}/content"),
    ("GET", "/v1beta/openai/files/{}"),
    ("DELETE", "/v1/files/files%2F{}"),
    ("GET", "/v1/batches/{}"),
    ("POST", "/v1/batches/{}/cancel"),
    ("POST", "/v1/uploads/{}/parts"),
    ("POST", "/v1/uploads/{}/complete"),
    ("GET", "/{}"),
)


@pytest.mark.parametrize("local", ["localhost", "LOCALHOST:80", "127.0.0.1:8787", "127.1.2.3", "[::1]:1"])
async def test_loopback_names_are_served(calls: Calls, local: str) -> None:
    """With any port, in Host and Origin."""
    for fields in ((f"Host: {local}",), (f"Host: {local}", f"Origin: http://{local}")):
        data = "\r\n".join(["GET /v1beta/files HTTP/1.1", *fields, CLOSE, "", ""]).encode()
        assert statuses(await exchange(calls.origin, data)) == [200]


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("Host: evil.example",),
        ("Host: evil.example:8787",),
        ("Host: 127.evil.example",),
        ("Host: localhost.evil.example",),
        ("Host: evil.example@localhost",),
        ("Host: localhost@evil.example",),
        ("Host: 10.0.0.1",),
        ("Host: 0.0.0.0",),
        ("Host:",),
        ("Host: localhost", "Origin: https://evil.example"),
        ("Host: localhost", "Origin: null"),
        ("Host: localhost", "Origin: http://localhost.evil.example"),
    ],
)
@pytest.mark.parametrize("path", ["/v1beta/files", "/v1/batches", "/v1beta/openai/files"])
async def test_web_pages_of_other_sites_are_refused(calls: Calls, path: str, fields: tuple[str, ...]) -> None:
    """By DNS rebinding (Host) and by cross-site calls (Origin)."""
    data = "\r\n".join([f"GET {path} HTTP/1.1", *fields, CLOSE, "", ""]).encode()
    answer = await exchange(calls.origin, data)
    assert statuses(answer) in ([403], [400])
    assert error_of(answer)["message"]


async def test_two_host_headers_are_refused(calls: Calls) -> None:
    """A proxy may use the other one."""
    answer = await exchange(calls.origin, head("GET", "/v1beta/files", "Host: localhost", CLOSE))
    assert statuses(answer) in ([400], [403])


async def test_public_service_accepts_any_host_name(directory: Path) -> None:
    """The key, which no web page has, is the protection."""
    async with serving(directory, host="0.0.0.0", key=Secret(KEY)) as origin:  # noqa: S104 - with a key
        here = origin.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        request = "GET /v1beta/files HTTP/1.1\r\nHost: batch.example\r\nConnection: close\r\n"
        assert statuses(await exchange(here, f"{request}\r\n".encode())) == [403]
        assert statuses(await exchange(here, f"{request}x-goog-api-key: {KEY}\r\n\r\n".encode())) == [200]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_name_never_becomes_a_path(calls: Calls, directory: Path, method: str, path: str) -> None:
    """It is only a name without a file."""
    data = b"".join(
        head(method, path.format(name), "Content-Length: 2", *([CLOSE] if name is EVIL[-1] else [])) + b"{}"
        for name in EVIL
    )
    answers = await exchange(calls.origin, data)
    found = statuses(answers)
    assert len(found) == len(EVIL), found
    assert set(found) <= {400, 403, 404}, found
    for wrong in (b"root:", b"SQLite", b"Traceback", b"Set-Cookie:x\r\n", str(directory).encode()):
        assert wrong not in answers
    assert await _entries(directory) == {"blobs", "lock", "service.db", "service.db-wal", "truth.jsonl"}
    assert truth(directory) == []


async def test_a_name_chosen_for_a_file_never_becomes_a_path(calls: Calls, directory: Path) -> None:
    """Invalid names are refused; display names may be anything."""
    for name in (
        "../x",
        "files/../x",
        "files/..",
        "files//etc/passwd",
        "files/a\\b",
        "files/a\0b",
        "files/" + "x" * 41,
    ):
        assert (await calls.start(size=1, name=name)).status == 400
    for shown in ("../../x", "/etc/passwd", "a\\..\\b"):
        file = await calls.upload(generate_line("k", "t"), displayName=shown)
        assert file["displayName"] == shown
    assert await _entries(directory) == {"blobs", "lock", "service.db", "service.db-wal", "truth.jsonl"}
    assert all(re.fullmatch("[0-9a-f]{32}", blob) for blob in await _entries(directory / "blobs"))


async def _entries(directory: Path) -> set[str]:
    return {path.name for path in await to_thread.run_sync(lambda: list(directory.iterdir()))}


async def test_what_the_service_names_cannot_be_guessed(calls: Calls) -> None:
    """At least 128 bits in every id that grants access."""
    file = await calls.upload(generate_line("k", "t"))
    job = await calls.job(file["name"])
    upload = (await calls.url(size=1)).partition("upload_id=")[2].partition("&")[0]
    kept = {"purpose": "batch", "filename": "f", "bytes": 1, "mime_type": "text/plain"}
    parts = (await calls.call("POST", "/v1/uploads", json=kept)).json["id"]
    for name, letters in ((file["name"], 36), (job, 36), (upload, 64), (parts.removeprefix("upload_"), 16)):
        assert len(name.rpartition("/")[2]) * math.log2(letters) >= 128, name


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("GET", "/v1beta/files", CLOSE), 200),
        (head("GET", "/v1beta/files/none", CLOSE), 403),
        (head("GET", "/v1/batches/none", CLOSE), 404),
        (head("GET", "/", CLOSE), 404),
        (head("OPTIONS", "/v1beta/files", CLOSE, "Access-Control-Request-Method: POST"), 404),
        (head("POST", "/v1beta/models/m:generateContent", "Content-Length: 1", CLOSE) + b"{", 400),
        (head("POST", "/v1beta/models/m:generateContent", "Content-Length: 9", CLOSE), 408),
        (b"no HTTP\r\n\r\n", 400),
    ],
)
async def test_responses_have_security_headers(directory: Path, data: bytes, status: int) -> None:
    """No caching, no sniffing, no CORS, no version of the server."""
    async with serving(directory, limits=Limits(idle_time=0.3)) as origin:
        answer = await exchange(origin, data)
    assert statuses(answer) == [status]
    fields = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    found = dict(field.split(": ", 1) for field in fields)
    assert {name: found[name] for name in RESPONSE_HEADERS} == RESPONSE_HEADERS
    assert RESPONSE_HEADERS == {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "packtrain"}
    assert not any(name.lower().startswith("access-control-") for name in found)
    for banner in (b"aiohttp", b"Python/", b"Traceback"):
        assert banner not in answer


async def test_downloads_have_security_headers(calls: Calls) -> None:
    """They take another code path."""
    file = await calls.upload(generate_line("k", "t"))
    async with ClientSession() as session:
        answer = await Calls(session, calls.origin).call("GET", f"/v1beta/{file['name']}:download?alt=media")
    assert answer.status == 200
    assert {name: answer.headers[name] for name in RESPONSE_HEADERS} == RESPONSE_HEADERS
