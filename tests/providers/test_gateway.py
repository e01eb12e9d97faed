"""Answers in place of the service's: they never say that a file or a job is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from packtrain import ApiError, GatewayError
from packtrain._options import Policy
from packtrain._providers.gemini import GeminiProvider
from packtrain._wire.gemini.errors import encode_error
from tests.flow.test_download import Script, remote_of, reply

Calls = dict[str, Callable[[GeminiProvider], Awaitable[object]]]
CALLS: Calls = {
    "look-up of a file": lambda provider: provider.find_file("files/a"),
    "deletion of a file": lambda provider: provider.delete_file("files/a"),
    "look-up of a job": lambda provider: provider.find_job("batches/a"),
    "cancellation of a job": lambda provider: provider.cancel("batches/a"),
    "list of jobs": lambda provider: provider.list_page(None),
    "query of an upload": lambda provider: provider.query_upload("/upload"),
}
PAGES = {
    "403 with a page": reply(b"<html>", status="403 Forbidden"),
    "404 with a word": reply(b'{"detail":"no"}', status="404 Not Found"),
    "404 with nothing": reply(b"", status="404 Not Found"),
    "200 with a page": reply(b"<html>log in", "Content-Type: text/html"),
    "302": reply(b"", "Location: http://127.0.0.2/", status="302 Found"),
}


@pytest.fixture
def anyio_backend() -> Any:
    """The server is asyncio's own."""
    return "asyncio", {"use_uvloop": False}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("call", CALLS)
async def test_a8_what_a_proxy_answers_is_an_outage_in_every_call(call: str, page: str) -> None:
    """Taken for an absence, it would revoke an input file that is still there, and pay for a job twice."""
    async with remote_of(Script(*[PAGES[page]] * Policy().call_attempts)) as provider:
        with pytest.raises(GatewayError, match=call):
            await CALLS[call](provider)


async def test_a8_the_service_s_own_word_is_believed() -> None:
    """A file that is not there is absent, and a key that is not valid ends the run."""
    absent = reply(encode_error(404, "no"), status="404 Not Found")
    barred = reply(encode_error(401, "no"), status="401 Unauthorized")
    async with remote_of(Script(absent, barred)) as provider:
        assert await provider.find_file("files/a") is None
        with pytest.raises(ApiError):
            await provider.find_file("files/a")
