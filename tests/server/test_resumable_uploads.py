"""The resumable upload protocol, over real HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientSession

from packtrain.server import serving
from packtrain.server.replies import HttpError
from packtrain.server.uploads import check_range

from .service_calls import GRANULARITY, Calls, blobs, digest_of, sha256, truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.both_loops

DATA = bytes(range(256)) * (5 * GRANULARITY // 512)  # two and a half chunks


async def test_one_shot_upload_is_final_with_the_file(calls: Calls, directory: Path) -> None:
    """``upload, finalize`` gives 200, ``final`` and ``{"file": …}`` with size and hash of the bytes."""
    file = await calls.upload(DATA, display_name="shard", mime_type="application/jsonl")
    assert file["sizeBytes"] == str(len(DATA))
    assert digest_of(file) == sha256(DATA)
    assert (file["displayName"], file["mimeType"], file["state"]) == ("shard", "application/jsonl", "ACTIVE")
    entries = truth(directory, "file_finalised")
    assert [(line["name"], line["bytes"], line["sha256"]) for line in entries] == [
        (file["name"], len(DATA), sha256(DATA))
    ]


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
async def test_start_answers_with_an_absolute_url_from_the_host_header(calls: Calls, version: str) -> None:
    """The SDK uses the URL unchanged, so it must lead back here; the granularity is announced."""
    answer = await calls.start(size=10, version=version)
    assert answer.status == 200
    assert answer.headers["X-Goog-Upload-Status"] == "active"
    assert answer.headers["X-Goog-Upload-URL"].startswith(f"{calls.origin}/upload/{version}/files?upload_id=")
    assert answer.headers["X-Goog-Upload-Chunk-Granularity"] == str(GRANULARITY)
    other = await calls.start(size=10, version=version)
    assert other.headers["X-Goog-Upload-URL"] != answer.headers["X-Goog-Upload-URL"]


async def test_start_goes_without_a_body(calls: Calls) -> None:
    """Name, size and the rest are optional; the service then chooses a name of 25 characters."""
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    url = (await calls.call("POST", "/upload/v1/files", headers=headers)).headers["X-Goog-Upload-URL"]
    answer = await calls.command(url, "upload, finalize", offset=0, data=b"x")
    assert len(answer.json["file"]["name"]) == len("files/") + 25


async def test_chunks_query_and_finalize(calls: Calls) -> None:
    """Each response has the stored size; ``finalize`` alone ends a complete upload."""
    url = await calls.url(size=len(DATA))
    for offset in range(0, len(DATA), GRANULARITY):
        chunk = DATA[offset : offset + GRANULARITY]
        answer = await calls.command(url, "upload", offset=offset, data=chunk)
        assert (answer.status, answer.headers["X-Goog-Upload-Status"]) == (200, "active")
        assert answer.headers["X-Goog-Upload-Size-Received"] == str(offset + len(chunk))
        assert await calls.received(url) == offset + len(chunk)
    answer = await calls.command(url, "finalize")
    assert (answer.status, answer.headers["X-Goog-Upload-Status"]) == (200, "final")
    assert digest_of(answer.json["file"]) == sha256(DATA)


async def test_empty_file(calls: Calls) -> None:
    """The Python SDK sends one call with no bytes; it makes a file of no bytes."""
    assert digest_of(await calls.upload(b"")) == sha256(b"")


@pytest.mark.parametrize("offset", [1, GRANULARITY - 1, GRANULARITY + 1, 2 * GRANULARITY])
async def test_wrong_offset_is_refused_without_a_status_header(calls: Calls, offset: int) -> None:
    """400 in Google's format, nothing stored, and no ``active``, which would make the SDK skip the chunk."""
    url = await calls.url(size=len(DATA))
    await calls.command(url, "upload", offset=0, data=DATA[:GRANULARITY])
    answer = await calls.command(url, "upload", offset=offset, data=DATA[:GRANULARITY])
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert "X-Goog-Upload-Status" not in answer.headers
    assert answer.headers["X-Goog-Upload-Size-Received"] == str(GRANULARITY)
    assert await calls.received(url) == GRANULARITY


async def test_replay_of_a_stored_range_stores_nothing(calls: Calls) -> None:
    """A chunk that is repeated after a lost response gets 200, and the content is unchanged."""
    url = await calls.url(size=len(DATA))
    await calls.command(url, "upload", offset=0, data=DATA[: 2 * GRANULARITY])
    for offset in (0, GRANULARITY):
        answer = await calls.command(url, "upload", offset=offset, data=b"\0" * GRANULARITY)
        assert (answer.status, answer.headers["X-Goog-Upload-Status"]) == (200, "active")
        assert answer.headers["X-Goog-Upload-Size-Received"] == str(2 * GRANULARITY)
    answer = await calls.command(url, "upload, finalize", offset=2 * GRANULARITY, data=DATA[2 * GRANULARITY :])
    assert digest_of(answer.json["file"]) == sha256(DATA)


@pytest.mark.parametrize("command", ["query", "finalize", "upload, finalize"])
async def test_finished_upload_gives_its_file_again(calls: Calls, command: str) -> None:
    """After a lost response to the last call, a query or a repeat returns the file, not a second one."""
    url = await calls.url(size=len(DATA))
    await calls.command(url, "upload, finalize", offset=0, data=DATA)
    offset = 0 if "upload" in command else None
    answer = await calls.command(url, command, offset=offset, data=DATA if "upload" in command else b"")
    assert (answer.status, answer.headers["X-Goog-Upload-Status"]) == (200, "final")
    assert digest_of(answer.json["file"]) == sha256(DATA)
    assert len((await calls.call("GET", "/v1/files")).json["files"]) == 1


async def test_chunk_that_is_not_the_last_keeps_the_granularity(calls: Calls) -> None:
    """An odd length is refused unless it ends the file."""
    url = await calls.url(size=len(DATA))
    answer = await calls.command(url, "upload", offset=0, data=DATA[:-1])
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert (await calls.command(url, "upload", offset=0, data=DATA)).status == 200


async def test_bytes_beyond_the_declared_size_are_refused(calls: Calls) -> None:
    """Nothing of such a call is stored."""
    url = await calls.url(size=10)
    assert (await calls.command(url, "upload, finalize", offset=0, data=b"x" * 11)).error[0] == 400
    assert await calls.received(url) == 0


async def test_finalize_needs_the_declared_size(calls: Calls) -> None:
    """A short file is refused; the upload can continue."""
    url = await calls.url(size=len(DATA))
    answer = await calls.command(url, "upload, finalize", offset=0, data=DATA[:-1])
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert "X-Goog-Upload-Status" not in answer.headers
    answer = await calls.command(url, "upload, finalize", offset=len(DATA) - 1, data=DATA[-1:])
    assert digest_of(answer.json["file"]) == sha256(DATA)


@pytest.mark.parametrize("command", ["", "uplod", "query, finalize", "start"])
async def test_unknown_commands_are_refused(calls: Calls, command: str) -> None:
    """Only the commands of the protocol, and only the defined pair."""
    assert (await calls.command(await calls.url(size=1), command)).error == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("offset", ["", "-1", "0x10", "1.0", "9" * 19, "\u0661"])
async def test_unreadable_offset_is_refused(calls: Calls, offset: str) -> None:
    """An offset is a plain decimal number."""
    url = await calls.url(size=1)
    headers = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": offset}
    assert (await calls.call("POST", url, headers=headers, data=b"x")).error[0] == 400


async def test_unknown_upload_is_not_found(calls: Calls) -> None:
    """404 for an unknown id."""
    assert (await calls.command("/upload/v1beta/files?upload_id=guess", "query")).error == (404, "NOT_FOUND")


async def test_cancelled_upload_is_over(calls: Calls, directory: Path) -> None:
    """``cancelled``, then 410 to a query and 400 to content; the stored bytes are removed."""
    url = await calls.url(size=len(DATA))
    await calls.command(url, "upload", offset=0, data=DATA)
    assert (await calls.command(url, "cancel")).headers["X-Goog-Upload-Status"] == "cancelled"
    assert (await calls.command(url, "query")).status == 410
    assert (await calls.command(url, "upload, finalize", offset=0, data=DATA)).error[0] == 400
    assert blobs(directory) == []


async def test_final_upload_cannot_be_cancelled(calls: Calls) -> None:
    """Its file exists; it is deleted as a file."""
    url = await calls.url(size=1)
    await calls.command(url, "upload, finalize", offset=0, data=b"x")
    assert (await calls.command(url, "cancel")).error[0] == 400


async def test_chosen_name_is_kept_and_taken_once(calls: Calls) -> None:
    """A start for a name that exists gives 409 ALREADY_EXISTS: creating a file is a compare-and-set."""
    file = await calls.upload(b"x", name="files/pt-abc-0001")
    assert file["name"] == "files/pt-abc-0001"
    assert (await calls.start(size=1, name="files/pt-abc-0001")).error == (409, "ALREADY_EXISTS")


async def test_name_taken_during_the_upload_ends_it(calls: Calls, directory: Path) -> None:
    """Two uploads of one name: the second to finish gets 409 and ``final``, since it can never succeed."""
    first, second = [await calls.url(size=1, name="files/same") for _ in range(2)]
    assert (await calls.command(first, "upload, finalize", offset=0, data=b"1")).status == 200
    late = await calls.command(second, "upload, finalize", offset=0, data=b"2")
    assert late.error == (409, "ALREADY_EXISTS")
    assert late.headers["X-Goog-Upload-Status"] == "final"
    assert (await calls.command(second, "query")).status == 410
    assert len(truth(directory, "file_finalised")) == 1
    assert len(blobs(directory)) == 1


@pytest.mark.parametrize(
    "name", ["abc", "files/", "files/-a", "files/a-", "files/A", "files/../x", "files/a/b", "files/" + "a" * 41]
)
async def test_bad_names_are_refused(calls: Calls, name: str) -> None:
    """At most 40 characters of a-z, 0-9 and hyphen, none at either end."""
    assert (await calls.start(size=1, name=name)).error == (400, "INVALID_ARGUMENT")


async def test_sizes_are_checked_at_the_start(calls: Calls) -> None:
    """At most 2 GB, and header and body must agree."""
    assert (await calls.start(size=2_000_000_001)).error[0] == 400
    assert (await calls.start(size=5, size_bytes=6)).error[0] == 400
    assert (await calls.start(size=5, sizeBytes="5")).status == 200
    assert (await calls.start(size=5, size_bytes=5)).status == 200


async def test_long_display_name_is_refused(calls: Calls) -> None:
    """512 characters are the limit."""
    assert (await calls.start(size=1, displayName="x" * 513)).error[0] == 400
    assert (await calls.start(size=1, displayName="x" * 512)).status == 200


async def test_cut_chunk_with_a_known_length_keeps_its_start(calls: Calls) -> None:
    """A socket closed in the middle of a body: everything up to there counts as received."""
    url = await calls.url(size=len(DATA))
    await _send_part(calls.origin, url, DATA, 70_001)
    with anyio.fail_after(100):
        while await calls.received(url) < 70_001:
            pass
    answer = await calls.command(url, "upload, finalize", offset=70_001, data=DATA[70_001:])
    assert digest_of(answer.json["file"]) == sha256(DATA)


async def test_newer_call_ends_the_older(calls: Calls) -> None:
    """A client that lost its connection is not blocked by its own earlier call."""
    url = await calls.url(size=len(DATA))
    writer = await _send_part(calls.origin, url, DATA, 50_000, close=False)
    try:
        with anyio.fail_after(100):
            stored = 0
            while stored < 50_000:
                stored = await calls.received(url)
                answer = await calls.command(url, "upload, finalize", offset=stored, data=DATA[stored:])
                stored = len(DATA) if answer.status == 200 else stored
        assert digest_of(answer.json["file"]) == sha256(DATA)
    finally:
        writer.close()


async def _send_part(origin: str, url: str, data: bytes, length: int, *, close: bool = True) -> asyncio.StreamWriter:
    host, port = origin.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST {url.removeprefix(origin)} HTTP/1.1\r\nHost: {host}\r\nX-Goog-Upload-Command: upload, finalize\r\n"
        f"X-Goog-Upload-Offset: 0\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data[:length])
    await writer.drain()
    if close:
        writer.close()
        await writer.wait_closed()
    return writer


async def test_body_of_unknown_length_is_refused(calls: Calls) -> None:
    """Without Content-Length a range cannot be checked before it is stored."""
    url = await calls.url(size=1)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    assert (await calls.command(url, "upload, finalize", offset=0, data=body())).error[0] == 400
    assert await calls.received(url) == 0


async def test_compressed_looking_bytes_are_kept_as_they_are(calls: Calls) -> None:
    """A Content-Encoding on a data call changes nothing in the file."""
    url = await calls.url(size=4)
    headers = {
        "X-Goog-Upload-Command": "upload, finalize",
        "X-Goog-Upload-Offset": "0",
        "Content-Encoding": "gzip",
    }
    answer = await calls.call("POST", url, headers=headers, data=b"\x1f\x8b\x08\x00", compress=None)
    assert digest_of(answer.json["file"]) == sha256(b"\x1f\x8b\x08\x00")


async def test_uploads_run_side_by_side(calls: Calls) -> None:
    """Interleaved uploads do not mix their bytes."""
    bodies = [bytes([number]) * (GRANULARITY + number) for number in range(8)]
    files: dict[int, str] = {}

    async def send(number: int, body: bytes) -> None:
        url = await calls.url(size=len(body))
        await calls.command(url, "upload", offset=0, data=body[:GRANULARITY])
        answer = await calls.command(url, "upload, finalize", offset=GRANULARITY, data=body[GRANULARITY:])
        files[number] = digest_of(answer.json["file"])

    async with anyio.create_task_group() as tasks:
        for number, body in enumerate(bodies):
            tasks.start_soon(send, number, body)
    assert files == {number: sha256(body) for number, body in enumerate(bodies)}


async def test_upload_goes_on_after_a_restart(directory: Path) -> None:
    """Offset and hash come from the disk again; a finished upload still gives its file."""
    async with ClientSession() as session:
        async with serving(directory) as origin:
            calls = Calls(session, origin)
            url = await calls.url(size=len(DATA))
            done = await calls.url(size=1)
            await calls.command(url, "upload", offset=0, data=DATA[:GRANULARITY])
            await calls.command(done, "upload, finalize", offset=0, data=b"x")
        async with serving(directory) as origin:
            calls, former = Calls(session, origin), origin
            url, done = _moved(url, former), _moved(done, former)
            assert await calls.received(url) == GRANULARITY
            answer = await calls.command(url, "upload, finalize", offset=GRANULARITY, data=DATA[GRANULARITY:])
            assert digest_of(answer.json["file"]) == sha256(DATA)
            assert (await calls.command(done, "query")).headers["X-Goog-Upload-Status"] == "final"


def _moved(url: str, origin: str) -> str:
    return origin + url[url.index("/upload/") :]


@pytest.mark.parametrize(
    ("received", "offset", "length", "finalize", "expected"),
    [
        (0, 0, GRANULARITY, False, "append"),
        (0, 0, GRANULARITY + 1, False, None),
        (0, 0, 1_000_000, False, "append"),
        (0, 0, 7, True, "append"),
        (7, 7, GRANULARITY, False, "append"),
        (7, 7, 999_993, False, "append"),
        (7, 0, 7, False, "replay"),
        (7, 3, 2, True, "replay"),
        (7, 0, 8, False, None),
        (7, 8, GRANULARITY, False, None),
        (7, 7, 999_994, True, None),
        (1_000_000, 1_000_000, 0, True, "replay"),
    ],
)
def test_admission_table(received: int, offset: int, length: int, finalize: bool, expected: str | None) -> None:
    """A stored range is a replay, the next range is appended, others are refused."""
    declared = 1_000_000
    if expected is None:
        with pytest.raises(HttpError) as caught:
            check_range(received=received, declared=declared, offset=offset, length=length, finalize=finalize)
        assert caught.value.status == 400
    else:
        judged = check_range(received=received, declared=declared, offset=offset, length=length, finalize=finalize)
        assert judged == expected
