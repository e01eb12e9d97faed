"""Uploads in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packtrain.server.uploads import ActiveUploads

from .raw_http import exchange, head, statuses
from .service_calls import blobs, digest_of, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from .service_calls import Calls

PATH = "/upload/v1beta/files"
DATA = bytes(range(256)) * 20_000
RELATED = (
    b'--b\r\nContent-Type: application/json\r\n\r\n{"file": {"display_name": "d"}}\r\n'
    b"--b\r\nContent-Type: application/jsonl\r\n\r\n%b\r\n--b--\r\n"
)


@pytest.mark.parametrize("way", [{"headers": {"X-Goog-Upload-Protocol": "raw"}}, {"params": {"uploadType": "media"}}])
async def test_bytes_alone(calls: Calls, way: dict[str, dict[str, str]]) -> None:
    """The body is the file, its Content-Type that of the file."""
    headers = {"Content-Type": "text/plain", **way.get("headers", {})}
    answer = await calls.call("POST", "/upload/v1beta/files", data=DATA, params=way.get("params"), headers=headers)
    assert answer.status == 200
    file = answer.json["file"]
    assert (file["mimeType"], file["sizeBytes"], digest_of(file)) == ("text/plain", str(len(DATA)), sha256(DATA))
    assert (await calls.call("GET", f"/v1beta/{file['name']}:download?alt=media")).body == DATA


async def test_description_and_bytes(calls: Calls) -> None:
    """multipart/related: JSON first, then the file."""
    headers = {"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=b"}
    answer = await calls.call("POST", "/upload/v1beta/files", data=RELATED % DATA, headers=headers)
    assert answer.status == 200, answer.body
    file = answer.json["file"]
    assert (file["displayName"], file["mimeType"], digest_of(file)) == ("d", "application/jsonl", sha256(DATA))


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", RELATED.partition(b"--b--")[0][:60], b"--b--\r\n", RELATED[:-9] % DATA]
)
async def test_malformed_multipart_is_refused(calls: Calls, directory: Path, body: bytes) -> None:
    """And leaves nothing behind."""
    headers = {"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=b"}
    answer = await calls.call("POST", "/upload/v1beta/files", data=body, headers=headers)
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert blobs(directory) == []


@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/related"])
async def test_multipart_upload_without_a_boundary_is_refused(calls: Calls, kind: str | None) -> None:
    """Without a boundary, and without a Content-Type."""
    headers = {"X-Goog-Upload-Protocol": "multipart", **({"Content-Type": kind} if kind else {})}
    answer = await calls.call(
        "POST", "/upload/v1beta/files", data=RELATED % DATA, headers=headers, skip_auto_headers=["Content-Type"]
    )
    assert answer.error == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("at", [0, 1])
async def test_part_with_a_malformed_header_is_refused(calls: Calls, directory: Path, at: int) -> None:
    """In any part; nothing is left behind."""
    pieces = (RELATED % b"x").split(b"Content-Type: ")
    pieces[at] += b"X-Control: \x07\r\n"
    headers = {"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=b"}
    data = b"Content-Type: ".join(pieces)
    answer = await calls.call("POST", "/upload/v1beta/files", data=data, headers=headers)
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert blobs(directory) == []


async def test_invalid_utf8_in_a_header_is_replaced(calls: Calls) -> None:
    """Headers are bytes; they are stored and returned as text."""
    close, one = "Connection: close", "Content-Length: 1"
    request = head("POST", PATH, "X-Goog-Upload-Protocol: raw", "X-Goog-Upload-File-Name: a?", one, close)
    answer = await exchange(calls.origin, request.replace(b"a?", b"a\xff") + b"x")
    assert '"displayName":"a\ufffd"' in answer.decode()
    request = head("POST", PATH, "X-Goog-Upload-Command: start", "X-Goog-Upload-Header-Content-Type: t/?", close)
    assert statuses(await exchange(calls.origin, request.replace(b"t/?", b"t/\xff"))) == [200]
    headers = {"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=b"}
    data = RELATED.replace(b"application/jsonl", b"t/\xff") % b"x"
    done = await calls.call("POST", PATH, data=data, headers=headers)
    assert done.json["file"]["mimeType"] == "t/\ufffd"


async def test_internal_error_is_not_reported_as_bad_body(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 is for malformed bodies; other errors are 500, and logged."""

    async def finalise(*_: object) -> None:
        raise AssertionError("ours")

    monkeypatch.setattr(ActiveUploads, "finalise", finalise)
    headers = {"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=b"}
    answer = await calls.call("POST", PATH, data=RELATED % b"x", headers=headers)
    assert answer.error == (500, "INTERNAL")
