"""Files, through the ``openai`` package."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import openai
import pytest
from aiohttp import ClientSession
from openai import OpenAI

from packtrain import Secret
from packtrain.server import serving
from tests.server.service_calls import Calls, blobs, truth

from .openai_clients import MOUNTS, client_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mount", MOUNTS)
async def test_create_read_and_delete_a_file(origin: str, tmp_path: Path, mount: str) -> None:
    """Create, retrieve, read, stream and delete; its blob is removed."""
    data = b"a line\n" * 300_000
    async with client_of(origin, mount) as client:
        made = await client.files.create(file=("my input.jsonl", data), purpose="batch")
        assert made.id.startswith("files/")
        assert (made.bytes, made.filename, made.purpose, made.status) == (
            len(data),
            "my input.jsonl",
            "batch",
            "processed",
        )
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).content == data
        async with client.files.with_streaming_response.content(made.id) as response:
            assert b"".join([piece async for piece in response.iter_bytes()]) == data
        (fact,) = truth(tmp_path / "service", "file_finalised")
        assert (fact["name"], fact["sha256"]) == (made.id, hashlib.sha256(data).hexdigest())
        assert (await client.files.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError) as error:
            await client.files.retrieve(made.id)
        assert error.value.type == "invalid_request_error"
        assert error.value.param == "id"
        for call in (client.files.delete, client.files.content):
            with pytest.raises(openai.NotFoundError):
                await call(made.id)
    assert blobs(tmp_path / "service") == []


@pytest.mark.parametrize("mount", MOUNTS)
def test_sync_client(origin: str, mount: str, tmp_path: Path) -> None:
    """The same through the sync client, from a file on disk and back to one."""
    source, target = tmp_path / "source.jsonl", tmp_path / "target.jsonl"
    source.write_bytes(b"x" * 3_000_000)
    with OpenAI(base_url=origin + mount, api_key="any") as client:
        made = client.files.create(file=source, purpose="user_data")
        assert made.filename == "source.jsonl"
        with client.files.with_streaming_response.content(made.id) as response:
            response.stream_to_file(target)
        assert target.read_bytes() == source.read_bytes()
        assert [file.id for file in client.files.list()] == [made.id]
        assert client.files.delete(made.id).deleted


@pytest.mark.parametrize("mount", MOUNTS)
async def test_listing_over_many_pages(origin: str, mount: str) -> None:
    """Every file once, in both orders, of one purpose or of all."""
    async with client_of(origin, mount) as client:
        made = [
            (await client.files.create(file=(f"{at}", b"x"), purpose="batch" if at % 2 else "vision")).id
            for at in range(7)
        ]
        assert [file.id async for file in client.files.list(limit=2)] == made[::-1]
        assert [file.id async for file in client.files.list(limit=3, order="asc")] == made
        assert [file.id async for file in client.files.list(limit=1, purpose="batch")] == made[1::2][::-1]
        page = await client.files.list(limit=7)
        assert not page.has_more
        with pytest.raises(openai.BadRequestError) as error:
            await client.files.list(limit=0)
        assert error.value.param == "limit"
        with pytest.raises(openai.BadRequestError):
            await client.files.list(after="files/none")


async def test_expires_after(origin: str) -> None:
    """expires_after counts from creation; the default is 30 days."""
    async with client_of(origin) as client:
        file = await client.files.create(
            file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
        )
        assert file.expires_at == file.created_at + 7200
        file = await client.files.create(file=b"x", purpose="batch")
        assert file.expires_at == file.created_at + 30 * 24 * 3600
        with pytest.raises(openai.BadRequestError) as error:
            await client.files.create(file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 5})
        assert error.value.param == "expires_after[seconds]"


async def test_refused_forms_leave_nothing(origin: str, tmp_path: Path) -> None:
    """An unknown purpose, no file, no form: 400 in OpenAI's format, and no bytes kept."""
    async with client_of(origin) as client:
        with pytest.raises(openai.BadRequestError) as error:
            await client.files.create(file=b"x" * 2_000_000, purpose="nonsense")  # type: ignore[arg-type]  # on purpose
        assert error.value.param == "purpose"
    async with ClientSession() as session:
        calls = Calls(session, origin)
        for data in ({"purpose": "batch"}, {}, b"{}", b""):
            answer = await calls.call("POST", "/v1/files", data=data)
            assert answer.status == 400
            assert answer.json["error"]["type"] == "invalid_request_error"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nabc'
        answer = await calls.call("POST", "/v1/files", data=cut, headers=headers)
        assert answer.status == 400
    assert blobs(tmp_path / "service") == []


async def test_file_before_its_purpose(origin: str) -> None:
    """The parts of a form may have any order."""
    async with ClientSession() as session:
        calls = Calls(session, origin)
        data = {"file": io.BytesIO(b"abc"), "purpose": "batch"}
        answer = await calls.call("POST", "/v1/files", data=data)
        assert answer.status == 200
        # openai 1.x sends the slash of an id as it is.
        raw = await calls.call("GET", f"/v1/files/{answer.json['id']}/content")
        assert raw.body == b"abc"


async def test_both_wires_on_the_paths_they_share(origin: str) -> None:
    """``/v1/files`` is the list of the wire whose key is sent; single files differ by path."""
    async with client_of(origin) as client, ClientSession() as session:
        calls = Calls(session, origin)
        uploaded = await calls.upload(b"abc", name="files/mine", displayName="shown")
        made = await client.files.create(file=("in.jsonl", b"abcd"), purpose="batch")
        page = (await calls.call("GET", "/v1/files")).json
        assert [file["name"] for file in page["files"]] == [made.id, "files/mine"]
        page = (await calls.call("GET", "/v1/files?key=k", headers={"Authorization": "Bearer k"})).json
        assert "files" in page
        assert [file.filename async for file in client.files.list()] == ["in.jsonl", "shown"]
        assert (await client.files.content(uploaded["name"])).content == b"abc"
        assert (await calls.call("GET", f"/v1/{made.id}")).json["displayName"] == "in.jsonl"
        download = await calls.call("GET", f"/v1/{made.id}:download?alt=media")
        assert download.body == b"abcd"
        missing = await calls.call("GET", "/v1/files/none")
        assert missing.error == (403, "PERMISSION_DENIED")
        nowhere = await calls.call("GET", "/v1beta/openai/nowhere")
        assert nowhere.json["error"]["type"] == "invalid_request_error"


async def test_wrong_key(tmp_path: Path) -> None:
    """401 with OpenAI's code, so that the SDK raises AuthenticationError; nothing is stored."""
    async with serving(tmp_path / "service", key=Secret("k" * 32)) as origin:
        async with client_of(origin) as client:
            with pytest.raises(openai.AuthenticationError) as error:
                await client.files.create(file=b"x", purpose="batch")
            assert error.value.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                await client.files.list()
        async with openai.AsyncOpenAI(base_url=f"{origin}/v1", api_key="k" * 32) as client:
            assert [file async for file in client.files.list()] == []
    assert blobs(tmp_path / "service") == []
