"""Authentication and listen addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from packtrain import InputError
from packtrain._model import Secret
from packtrain.server import serving

from .service_calls import Calls

if TYPE_CHECKING:
    from pathlib import Path

KEY = "k" * 32


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-goog-api-key": KEY}, ""),
        ({"Authorization": f"Bearer {KEY}"}, ""),
        ({"authorization": f"bearer {KEY}"}, ""),
        ({}, f"?key={KEY}"),
    ],
)
async def test_key_is_accepted_in_three_places(directory: Path, headers: dict[str, str], query: str) -> None:
    """As header, as bearer token, in the query."""
    async with serving(directory, key=Secret(KEY)) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        assert (await calls.call("GET", f"/v1beta/files{query}", headers=headers)).status == 200


@pytest.mark.parametrize("wrong", ["x", KEY + "k", KEY[:-1], "\u00e9"])
async def test_wrong_key_is_refused(directory: Path, wrong: str) -> None:
    """400 as in the real service, 403 without a key, for unknown routes too."""
    async with serving(directory, key=Secret(KEY)) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        answer = await calls.call("GET", "/v1beta/files", headers={"x-goog-api-key": wrong})
        assert answer.error == (400, "INVALID_ARGUMENT")
        assert (await calls.call("GET", "/v1beta/files")).error == (403, "PERMISSION_DENIED")
        assert (await calls.start(size=1)).error == (403, "PERMISSION_DENIED")


async def test_data_calls_need_no_key(directory: Path) -> None:
    """The SDKs send none: the upload id authorises the call."""
    async with serving(directory, key=Secret(KEY)) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        headers = {"x-goog-api-key": KEY, "X-Goog-Upload-Command": "start"}
        start = await calls.call("POST", "/upload/v1beta/files", headers=headers)
        answer = await calls.command(start.headers["X-Goog-Upload-URL"], "upload, finalize", offset=0, data=b"x")
        assert answer.status == 200


async def test_any_key_is_accepted_without_a_configured_one(calls: Calls) -> None:
    """Clients that always send a key are accepted."""
    assert (await calls.call("GET", "/v1beta/files", headers={"x-goog-api-key": "any"})).status == 200


@pytest.mark.parametrize("key", [None, Secret("k" * 31)])
async def test_public_address_needs_a_long_key(directory: Path, key: Secret | None) -> None:
    """Any address but loopback needs a key of 32 bytes."""
    with pytest.raises(InputError, match="at least 32 bytes"):
        async with serving(directory, host="0.0.0.0", key=key):  # noqa: S104 - refused is what we want to see
            pass


async def test_port_in_use_is_an_input_error(directory: Path, tmp_path: Path) -> None:
    """The error itself, not in a group, naming the port."""
    async with serving(directory) as origin:
        port = int(origin.rpartition(":")[2])
        with pytest.raises(InputError, match=f"port {port}"):
            async with serving(tmp_path / "other", port=port):
                pass


async def test_unknown_backend_is_an_input_error(directory: Path) -> None:
    """And nothing is created for it."""
    with pytest.raises(InputError, match="not known"):
        async with serving(directory, backend="parrot"):
            pass
    assert not _exists(directory)


def _exists(directory: Path) -> bool:
    return directory.exists()


async def test_errors_of_the_caller_are_not_wrapped(directory: Path) -> None:
    """The task group inside shows in no traceback of a user's own exception type."""
    with pytest.raises(LookupError, match="mine"):
        async with serving(directory):
            raise LookupError("mine")
