"""The way out through a proxy: where it comes from, what it sees, and what nobody sees of its password."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain import Gemini, InputError, Local, Secret, Service, TransportError
from packtrain._io.transport import open_transport
from packtrain._wire.gemini.batches import list_page
from packtrain.cli import perform
from packtrain.cli.exits import UsageError
from packtrain.cli.proxies import through
from tests.cli.terminals import Terminal, request_line
from tests.connect_proxy import HOST, ConnectProxy, open_connect_proxy, open_https_service

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sentinel-9f2"
KEY = "sentinel-key-1"
VARIABLES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the machine that runs the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def test_a_run_goes_through_a_tunnel_that_sees_neither_key_nor_request(
    terminal: Terminal, tmp_path: Path
) -> None:
    """B9: by HTTPS_PROXY, which is said once; the password is nowhere but in what the proxy gets."""
    (tmp_path / "a.jsonl").write_bytes(request_line(0))
    async with open_https_service(tmp_path) as port:
        proxy = ConnectProxy(port)
        async with open_connect_proxy(proxy) as place:
            environ = {
                **terminal.environ,
                "HTTPS_PROXY": f"http://user:{SECRET}@{place}",
                "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
                "GEMINI_API_KEY": KEY,
            }
            program = [sys.executable, "-m", "packtrain", "run", "a.jsonl", "--model", "m", "--out", "out", "--debug"]
            there = ["--service", f"https://{HOST}", "--wire", "gemini", "--poll", "100ms"]
            done = await anyio.run_process([*program, *there], cwd=tmp_path, env=environ, check=False)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert said.count(f"packtrain: {HOST} is reached through the proxy {place} (HTTPS_PROXY)") == 1
    assert (tmp_path / "out").read_bytes().count(b"\n") == 1
    assert {head.split(b"\r\n")[0] for head in proxy.heads} == {f"CONNECT {HOST}:443 HTTP/1.1".encode()}
    password = base64.b64encode(f"user:{SECRET}".encode())
    assert all(b"Proxy-Authorization: Basic " + password in head for head in proxy.heads)
    assert not any(KEY.encode() in head for head in proxy.heads)
    assert SECRET not in said + done.stdout.decode()
    assert not _files_with(tmp_path, SECRET.encode(), password)


def _files_with(directory: Path, *texts: bytes) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if any(text in path.read_bytes() for text in texts)]


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_proxy_that_gives_no_tunnel_is_named_and_nothing_was_sent(reachable: bool) -> None:
    """B9: an outage, not a refusal; and without the password."""
    proxy = ConnectProxy(refusal=b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    async with open_connect_proxy(proxy) as place:
        pass
    if reachable:
        async with open_connect_proxy(proxy) as place:
            error = await _failure(place)
        assert "(it answered 407)" in str(error)
    else:
        error = await _failure(place)
    assert f"{HOST} cannot be reached through the proxy {place} (" in str(error)
    assert (error.sent, SECRET in repr(error)) == (False, False)


async def _failure(place: str) -> TransportError:
    credentials = {"x-goog-api-key": Secret(KEY)}
    proxy = Secret(f"http://user:{SECRET}@{place}")
    async with open_transport(f"https://{HOST}", credentials=credentials, connections=1, proxy=proxy) as transport:
        with pytest.raises(TransportError) as raised:
            await transport.send(list_page(None), once=True)
    return raised.value


@pytest.mark.parametrize(
    ("environ", "given", "place"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://p:1"}, None, "p:1"),
        ({"https_proxy": "p:2", "HTTPS_PROXY": "http://p:1"}, None, "p:2"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://q:3", "q:3"),
        ({"HTTPS_PROXY": "http://p:1"}, "none", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other,.example"}, None, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, None, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.org"}, None, "p:1"),
        ({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, None, None),
    ],
)
def test_the_environment_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    given: str | None,
    place: str | None,
) -> None:
    """B9: lower case first, as curl has it; NO_PROXY exempts; an option comes before both."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = through(Gemini(KEY, origin="https://batch.example"), given, quiet=False)
    assert isinstance(found, Service)
    assert (found.tunnel.reveal() if found.tunnel else None) == (f"http://{place}" if place else None)
    assert capsys.readouterr().err.count("through the proxy") == (place is not None)


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:8787", "https://127.0.0.1", "https://localhost:1", "http://[::1]:8"]
)
def test_there_is_no_proxy_to_this_machine_and_none_for_plain_http(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], origin: str
) -> None:
    """B9: nor does the local service use one."""
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    found = through(Gemini(KEY, origin=origin), None, quiet=False)
    assert isinstance(found, Service)
    assert found.tunnel is None
    assert Service(origin="http://far.example", insecure_http=True, proxy=Secret("http://p:1")).tunnel is None
    assert through(Local(), None, quiet=False) == Local()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "address", ["socks5://p:1", f"http://user:{SECRET}@[bad", "http://p:99999", "http://p/x", "http://"]
)
def test_an_address_that_is_none_of_a_proxy_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """B9: it may have a password in it."""
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(UsageError, match="HTTPS_PROXY: proxy address") as raised:
        through(Gemini(KEY), None, quiet=True)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("arguments", [["--proxy", f"http://u:{SECRET}@p:1"], [f"--proxy=u:{SECRET}@p:1"]])
def test_a_password_on_the_command_line_is_refused_unseen(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """B9: as a key is."""
    assert perform(["run", "a.jsonl", "--model", "m", "--out", "o", *arguments]) == 2
    said = capsys.readouterr().err
    assert "set HTTPS_PROXY instead" in said
    assert SECRET not in said


@pytest.mark.parametrize("origin", ["https://[bad", "https://host:99999", "https://host:x"])
def test_an_address_of_a_service_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], origin: str) -> None:
    """Not every text has the parts of one."""
    with pytest.raises(InputError, match="service address"):
        Gemini(KEY, origin=origin)
    run = ["run", "a.jsonl", "--model", "m", "--out", "o", "--service", origin, "--wire", "gemini"]
    assert perform(run) == 2
    assert "packtrain: service address: it is no address" in capsys.readouterr().err
