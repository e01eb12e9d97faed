"""Files and the upload protocol as bytes."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from packtrain._errors import ProtocolError
from packtrain._model import FileState
from packtrain._rules.upload import Answer
from packtrain._wire.gemini import files
from packtrain._wire.http import Reply

SHA = hashlib.sha256(b"content").hexdigest()
FILE = {
    "name": "files/t5snrshrqff1",
    "displayName": "mine",
    "mimeType": "jsonl",
    "sizeBytes": "339",
    "createTime": "2026-11-21T20:30:03.692032Z",
    "expirationTime": "2026-11-23T20:30:03.400Z",
    "sha256Hash": base64.b64encode(SHA.encode()).decode(),
    "uri": "https://generativelanguage.googleapis.com/v1beta/files/t5snrshrqff1",
    "state": "ACTIVE",
    "source": "UPLOADED",
    "somethingNew": {"x": 1},
}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_is_read_bare_and_wrapped(wrapped: bool) -> None:
    """Unknown members and int64 as text included."""
    file = files.read_file(json.dumps({"file": FILE} if wrapped else FILE).encode())
    assert (file.name, file.bytes, file.state, file.sha256) == ("files/t5snrshrqff1", 339, FileState.READY, SHA)
    assert file.expires_at == pytest.approx(1795465803.4)


@pytest.mark.parametrize(
    "text", [SHA, SHA.upper(), base64.b64encode(SHA.encode()).decode(), base64.b64encode(bytes.fromhex(SHA)).decode()]
)
def test_a_digest_is_read_in_every_spelling_met(text: str) -> None:
    """The reference says base64 of the hash; the service sends base64 of its hex."""
    assert files.decode_hash(text) == SHA


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"file":5}', b'{"name":"../etc"}', b'{"name":"files/a","sizeBytes":"x"}']
)
def test_a_file_that_cannot_be_read_is_a_protocol_error(body: bytes) -> None:
    """Never another exception."""
    with pytest.raises(ProtocolError):
        files.read_file(body)


def test_a_file_nested_too_deep_is_a_protocol_error() -> None:
    """A13: in a receipt and in file.get, wrapped or not."""
    deep = b"[" * 3000 + b"]" * 3000
    for body in (b'{"name":"files/a","x":%b}' % deep, b'{"file":{"name":"files/a","x":%b}}' % deep):
        with pytest.raises(ProtocolError, match="recursion"):
            files.read_file(body)


@pytest.mark.parametrize(
    "name", ["files/../x", "files/a/b", "batches/", "other/a", "files/" + "a" * 129, "files/a%2Fb"]
)
def test_a_name_that_is_none_never_becomes_part_of_an_address(name: str) -> None:
    """Names come from the service."""
    with pytest.raises(ProtocolError):
        files.get_file(name)


def test_a_start_declares_size_type_and_the_name_that_we_choose() -> None:
    """In the body and in the headers of the protocol."""
    call = files.start_upload(name="files/pabc", display_name="tag", size=7)
    assert call.target == "/upload/v1beta/files"
    assert ("X-Goog-Upload-Command", "start") in call.headers
    assert ("X-Goog-Upload-Header-Content-Length", "7") in call.headers
    assert json.loads(call.body or b"")["file"]["name"] == "files/pabc"


def test_the_last_chunk_finalizes_in_the_same_call() -> None:
    """One round trip less."""
    commands = [dict(files.send_chunk("u", offset=3, finalize=last).headers) for last in (False, True)]
    assert [command["X-Goog-Upload-Command"] for command in commands] == ["upload", "upload, finalize"]
    assert commands[0]["X-Goog-Upload-Offset"] == "3"


def test_upload_headers_are_read_and_nonsense_counts_as_missing() -> None:
    """An offset that is no number moves nothing."""
    headers = {
        "x-goog-upload-status": "active",
        "x-goog-upload-size-received": "12",
        "x-goog-upload-url": "u",
        "x-goog-upload-chunk-granularity": "262144",
    }
    answer = Answer(status=200, upload_status="active", received=12, session="u", granularity=262144)
    assert files.read_upload(Reply(status=200, headers=headers)) == answer
    odd = headers | {"x-goog-upload-size-received": "-1", "x-goog-upload-chunk-granularity": "many"}
    answer = files.read_upload(Reply(status=200, headers=odd))
    assert (answer.received, answer.granularity) == (None, 1)


@pytest.mark.parametrize(
    "text", ["2026-11-21T20:30:03Z", "2026-11-21T20:30:03.000000000Z", "2026-11-21T21:30:03+01:00"]
)
def test_times_are_read_with_any_number_of_digits_and_in_any_zone(text: str) -> None:
    """As Unix seconds."""
    assert files.decode_time(text) == 1795293003.0


def test_a_time_survives_writing_and_reading() -> None:
    """To the microsecond."""
    assert files.decode_time(files.encode_time(1795293003.25)) == 1795293003.25
    assert files.decode_time("") is None


def test_a_resumed_download_asks_for_the_rest_of_the_same_file() -> None:
    """By range, and only if it is the same."""
    call = files.download("files/batch-x", offset=10, etag='"e"')
    assert dict(call.headers) == {"Range": "bytes=10-", "If-Range": '"e"'}
    assert files.download("files/batch-x").headers == ()
