"""Uploads in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .service_calls import blobs, digest_of, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from .service_calls import Calls

DATA = bytes(range(256)) * 20_000
RELATED = (
    b'--b\r\nContent-Type: application/json\r\n\r\n{"file": {"display_name": "d"}}\r\n'
    b"--b\r\nContent-Type: application/jsonl\r\n\r\n%b\r\n--b--\r\n"
)


@pytest.mark.parametrize("way", [{"headers": {"X-Goog-Upload-Protocol": "raw"}}, {"params": {"uploadType": "media"}}])
async def test_bytes_alone(calls: Calls, way: dict[str, dict[str, str]]) -> None:
    """The body is the file, its type that of the file."""
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
async def test_what_is_no_multipart_is_refused(calls: Calls, directory: Path, body: bytes) -> None:
    """And leaves nothing behind."""
    headers = {"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=b"}
    answer = await calls.call("POST", "/upload/v1beta/files", data=body, headers=headers)
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert blobs(directory) == []
