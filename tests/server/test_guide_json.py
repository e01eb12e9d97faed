"""Request bodies of the guide's curl samples: JSON in single quotes."""

from __future__ import annotations

import pytest

from packtrain.server.wires.gemini.json_body import strict_json

from .service_calls import Calls, generate_lines


async def test_single_quoted_guide_samples_are_accepted(calls: Calls) -> None:
    """Upload, create and inline requests, as curl sends the samples."""
    lines = generate_lines(2)
    headers = {
        "X-Goog-Upload-Protocol": "resumable",
        "X-Goog-Upload-Command": "start",
        "X-Goog-Upload-Header-Content-Length": str(len(lines)),
        "Content-Type": "application/jsonl",
    }
    started = await calls.call("POST", "/upload/v1beta/files", headers=headers, data=b"{'file': {'display_name': 'd'}}")
    url = started.headers["X-Goog-Upload-URL"]
    form = {"Content-Type": "application/x-www-form-urlencoded", "Expect": "100-continue"}
    form |= {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
    file = (await calls.call("POST", url, headers=form, data=lines)).json["file"]
    assert file["displayName"] == "d"
    config = f"{{'file_name': '{file['name']}'}}"
    inline = "{'requests': {'requests': [{'request': {'contents': [{'parts': [{'text': 'it\\'s'}]}]}}]}}"
    for source in (config, inline):
        body = f"{{'batch': {{'display_name': 'my-batch', 'input_config': {source}}}}}".encode()
        created = await calls.call("POST", "/v1beta/models/m:batchGenerateContent", data=body)
        assert created.json["metadata"]["displayName"] == "my-batch"
        operation = await calls.ended(created.json["name"])
    (row,) = operation["response"]["inlinedResponses"]["inlinedResponses"]
    assert row["response"]["candidates"][0]["content"]["parts"][0]["text"] == "it's"
    body = b"{'contents': [{'parts': [{'text': 'hi'}]}]}"
    assert (await calls.call("POST", "/v1beta/models/m:generateContent", data=body)).status == 200


@pytest.mark.parametrize(
    ("given", "strict"),
    [
        (b"{'a': 1}", b'{"a": 1}'),
        (b"""{'a "b"': 'it\\'s'}""", b'{"a \\"b\\"": "it\'s"}'),
        (b"""{'a': "it's"}""", b"""{"a": "it's"}"""),
        (b"""{"a": "it's"}""", b"""{"a": "it's"}"""),
        (b"""{'a': 'x\\"y'}""", b'{"a": "x\\"y"}'),
        (b"{'a", b'{"a"'),
        (b"nonsense", b"nonsense"),
    ],
)
def test_single_quotes_become_double(given: bytes, strict: bytes) -> None:
    """Inner quotes are escaped; strict JSON and garbage are unchanged."""
    assert strict_json(given) == strict


def test_adversarial_text_takes_linear_time() -> None:
    """Also with many unterminated strings."""
    assert strict_json(b"'\\" * 1_000_000)
