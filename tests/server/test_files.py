"""Files over real HTTP: get, list, delete, download."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain.server.files import FILE_LIFE, Files
from packtrain.server.paging import Window
from packtrain.server.store import open_store

from .service_calls import Calls, blobs, digest_of, sha256, truth

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both_loops

DATA = b"".join(b"line %d\n" % number for number in range(400_000))


async def test_get_gives_the_bare_file(calls: Calls) -> None:
    """Not wrapped; its life is 48 hours."""
    file = await calls.upload(b"x", name="files/abc")
    got = (await calls.call("GET", "/v1/files/abc")).json
    assert got == file
    assert got["createTime"][11:] == got["expirationTime"][11:]
    assert got["createTime"] < got["expirationTime"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_missing_file_is_forbidden(calls: Calls, method: str) -> None:
    """As in the real service, which does not distinguish missing files from those of others."""
    assert (await calls.call(method, "/v1beta/files/none")).error == (403, "PERMISSION_DENIED")


async def test_delete_removes_file_and_bytes(calls: Calls, directory: Path) -> None:
    """A second delete is refused; the log has the first."""
    await calls.upload(b"x", name="files/abc")
    assert (await calls.call("DELETE", "/v1beta/files/abc")).json == {}
    assert (await calls.call("DELETE", "/v1beta/files/abc")).error[0] == 403
    assert blobs(directory) == []
    assert [line["name"] for line in truth(directory, "file_deleted")] == ["files/abc"]
    await calls.upload(b"y", name="files/abc")


async def test_empty_list_is_an_empty_object(calls: Calls) -> None:
    """Empty members are omitted."""
    assert (await calls.call("GET", "/v1beta/files")).json == {}


async def test_list_in_pages_newest_first(calls: Calls) -> None:
    """Ten per page by default, and each file once although files are added."""
    for number in range(13):
        await calls.upload(b"x", name=f"files/f{number}")
    page = (await calls.call("GET", "/v1beta/files")).json
    assert len(page["files"]) == 10
    await calls.upload(b"x", name="files/late")
    rest = (await calls.call("GET", f"/v1beta/files?pageToken={page['nextPageToken']}&pageSize=100")).json
    assert "nextPageToken" not in rest
    names = [file["name"] for file in page["files"] + rest["files"]]
    assert names == [f"files/f{number}" for number in reversed(range(13))]


@pytest.mark.parametrize("query", ["pageToken=x", "pageToken=YmVmb3JlOng=", "pageSize=-1", "pageSize=ten"])
async def test_bad_page_query_is_refused(calls: Calls, query: str) -> None:
    """A token must have been issued, a size must be a number."""
    assert (await calls.call("GET", f"/v1beta/files?{query}")).error == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("prefix", ["/v1", "/v1beta", "/v1alpha", "/download/v1", "/download/v1beta"])
async def test_download_on_all_paths(calls: Calls, prefix: str) -> None:
    """The SDK and the guide use different paths; length and ETag are sent."""
    await calls.upload(DATA, name="files/abc")
    answer = await calls.call("GET", f"{prefix}/files/abc:download?alt=media")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Content-Length"] == str(len(DATA))
    assert answer.headers["ETag"] == f'"{sha256(DATA)}"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=1048577-", 1048577, None), ("bytes=5-2000000", 5, 2000001), ("bytes=-7", -7, None)],
)
async def test_range_gives_the_part(calls: Calls, asked: str, start: int, stop: int | None) -> None:
    """206 with Content-Range."""
    await calls.upload(DATA, name="files/abc")
    answer = await calls.call("GET", "/v1beta/files/abc:download", headers={"Range": asked})
    assert (answer.status, answer.body) == (206, DATA[start:stop])
    first = start % len(DATA)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(DATA)}"


async def test_range_beyond_the_end_is_refused(calls: Calls) -> None:
    """416 with the length, so that a client sees that it has everything."""
    await calls.upload(b"12345", name="files/abc")
    answer = await calls.call("GET", "/v1beta/files/abc:download", headers={"Range": "bytes=5-"})
    assert answer.error == (416, "OUT_OF_RANGE")
    assert answer.headers["Content-Range"] == "bytes */5"


async def test_if_range_decides_between_part_and_whole(calls: Calls) -> None:
    """The part only if the ETag is still valid."""
    await calls.upload(b"12345", name="files/abc")
    same = {"Range": "bytes=2-", "If-Range": f'"{sha256(b"12345")}"'}
    other = {"Range": "bytes=2-", "If-Range": '"other"'}
    assert (await calls.call("GET", "/v1beta/files/abc:download", headers=same)).status == 206
    whole = await calls.call("GET", "/v1beta/files/abc:download", headers=other)
    assert (whole.status, whole.body) == (200, b"12345")


async def test_malformed_range_is_ignored(calls: Calls) -> None:
    """As HTTP requires."""
    await calls.upload(b"12345", name="files/abc")
    answer = await calls.call("GET", "/v1beta/files/abc:download", headers={"Range": "lines=1-2"})
    assert (answer.status, answer.body) == (200, b"12345")


async def test_escaped_slash_is_a_slash(calls: Calls) -> None:
    """Some SDKs send ``files%2Fabc``."""
    file = await calls.upload(b"x", name="files/abc")
    assert (await calls.call("GET", "/v1beta/files%2Fabc")).json == file


async def test_names_of_clients_are_not_paths(calls: Calls, directory: Path) -> None:
    """Nothing outside the directory is reached, and no blob has a client's name."""
    await calls.upload(b"x", name="files/abc")
    for name in ("..%2F..%2Fservice.db", "%2e%2e", "abc%00", "service.db"):
        assert (await calls.call("GET", f"/v1beta/files/{name}:download")).error[0] in (403, 404)
    assert [len(blob.name) for blob in (directory / "blobs").iterdir()] == [32]


async def test_expired_file_is_gone(directory: Path) -> None:
    """After 48 hours it is neither found nor listed, its name is free, and a sweep removes its bytes."""
    now = [1_000_000.0]
    async with open_store(directory, clock=lambda: now[0]) as store:
        files = Files(store)
        await _finished(files, b"x", store.blobs.digest)
        now[0] += FILE_LIFE - 1
        assert await files.get("files/abc")
        now[0] += 1
        assert await files.get("files/abc") is None
        assert await files.page(Window(10, 10**9)) == []
        await _finished(files, b"yy", store.blobs.digest)
        now[0] += FILE_LIFE
        await files.sweep()
    assert blobs(directory) == []
    assert [line["reason"] for line in truth(directory, "file_deleted")] == ["expired", "expired"]


async def _finished(files: Files, data: bytes, digest_of_blob: object) -> None:
    from packtrain.server.blobs import Digest
    from packtrain.server.files import NewUploadSession

    session = await files.start(NewUploadSession(name="files/abc", display_name="", mime_type="", size=None))
    digest = Digest()
    digest.update(data)
    assert await files.finalise(session, digest)


async def test_hash_is_of_the_stored_bytes(calls: Calls) -> None:
    """The content has the reported hash."""
    file = await calls.upload(DATA, name="files/abc")
    got = await calls.call("GET", "/v1beta/files/abc:download")
    assert sha256(got.body) == digest_of(file)


async def test_download_during_a_delete_is_complete_or_refused(calls: Calls) -> None:
    """Never a 500."""
    statuses: Counter[int] = Counter()

    async def load(name: str) -> None:
        answer = await calls.call("GET", f"/v1beta/{name}:download?alt=media")
        statuses[answer.status] += 1

    for number in range(15):
        name = (await calls.upload(b"x" * 1000, name=f"files/f{number}"))["name"]
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(load, name)
            tasks.start_soon(calls.call, "DELETE", f"/v1beta/{name}")
            for _ in range(4):
                tasks.start_soon(load, name)
    assert set(statuses) <= {200, 403}, statuses
