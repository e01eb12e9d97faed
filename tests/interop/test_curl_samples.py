"""The steps of the guide's curl samples, through curl, with their quotes, headers and methods."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from .genai_calls import generate_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")

UPLOAD = r"""
curl -s -D "$HEADERS" "$ORIGIN/upload/v1beta/files" \
    -H "x-goog-api-key: $KEY" \
    -H 'X-Goog-Upload-Protocol: resumable' -H 'X-Goog-Upload-Command: start' \
    -H "X-Goog-Upload-Header-Content-Length: $(wc -c < "$INPUT" | tr -d ' ')" \
    -H 'X-Goog-Upload-Header-Content-Type: application/jsonl' \
    -H 'Content-Type: application/jsonl' \
    -d "{'file': {'display_name': 'requests'}}" > /dev/null
url=$(grep -i 'x-goog-upload-url: ' "$HEADERS" | cut -d' ' -f2 | tr -d '\r')
curl -s "$url" \
    -H 'X-Goog-Upload-Offset: 0' -H 'X-Goog-Upload-Command: upload, finalize' \
    --data-binary "@$INPUT"
"""
CREATE = r"""
curl -s -X POST "$ORIGIN/v1beta/models/gemini-2.5-flash:$METHOD" \
    -H "x-goog-api-key: $KEY" -H 'Content-Type: application/json' \
    -d "{'batch': {'display_name': 'my-job', 'input_config': {'file_name': '$FILE'}}}"
"""
INLINE = r"""
curl -s -X POST "$ORIGIN/v1beta/models/gemini-2.5-flash:batchGenerateContent?key=$KEY" \
    -H 'Content-Type: application/json' \
    -d '{
      "batch": {
        "display_name": "my-job",
        "input_config": {"requests": {"requests": [
          {"request": {"contents": [{"parts": [{"text": "one"}]}],
                       "system_instruction": {"parts": [{"text": "be a cat"}]},
                       "generation_config": {"temperature": 0.2}},
           "metadata": {"key": "m-1"}},
          {"request": {"contents": [{"parts": [{"text": "two"}]}]}, "metadata": {"key": "m-2"}}
        ]}}
      }
    }'
"""
GET = r"""curl -s "$ORIGIN/v1beta/$NAME" -H "x-goog-api-key: $KEY" -H 'Content-Type:application/json' """
LIST = r"""curl -s "$ORIGIN/v1beta/batches?pageSize=2&pageToken=$TOKEN" -H "x-goog-api-key: $KEY" """
CANCEL = (
    r"""curl -s -X POST "$ORIGIN/v1beta/$NAME:cancel" -H "x-goog-api-key: $KEY" -H 'Content-Type:application/json' """
)
DELETE = r"""curl -s -X DELETE "$ORIGIN/v1beta/$NAME" -H "x-goog-api-key: $KEY" """
DOWNLOAD = (
    r"""curl -s "$ORIGIN/download/v1beta/$NAME:download?alt=media" -H "x-goog-api-key: $KEY" --output "$OUTPUT" """
)
WRONG_CANCEL = r"""curl -s "$ORIGIN/v1beta/$NAME:cancel" -H "x-goog-api-key: $KEY" """
WRONG_DELETE = r"""curl -s "$ORIGIN/v1beta/$NAME:delete" -H "x-goog-api-key: $KEY" """


class Shell:
    def __init__(self, origin: str, place: Path) -> None:
        self._environment = {"ORIGIN": origin, "KEY": "any", "HEADERS": str(place / "headers")}

    def run(self, script: str, **variables: object) -> Any:
        """Its output as JSON; None for empty output."""
        environment = {**self._environment, "PATH": "/usr/local/bin:/usr/bin:/bin"}
        environment |= {name: str(value) for name, value in variables.items()}
        done = subprocess.run(["/bin/sh", "-eu", "-c", script], env=environment, capture_output=True, check=True)
        return json.loads(done.stdout) if done.stdout else None

    def ended(self, name: str) -> Any:
        while not (found := self.run(GET, NAME=name)).get("done"):
            pass
        return found


@pytest.fixture
def shell(origin: str, tmp_path: Path) -> Shell:
    return Shell(origin, tmp_path)


def test_job_from_a_file(shell: Shell, tmp_path: Path) -> None:
    """Upload, create, poll, download by the path that only curl uses, delete."""
    file = shell.run(UPLOAD, INPUT=generate_file(tmp_path / "in.jsonl"))["file"]
    assert (file["displayName"], file["mimeType"]) == ("requests", "application/jsonl")
    made = shell.run(CREATE, FILE=file["name"], METHOD="batchGenerateContent")
    assert made["metadata"]["displayName"] == "my-job"
    done = shell.ended(made["name"])
    assert done["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    output = tmp_path / "out.jsonl"
    shell.run(DOWNLOAD, NAME=done["response"]["responsesFile"], OUTPUT=output)
    assert [json.loads(line)["key"] for line in output.read_bytes().splitlines()] == ["k0", "k1", "k2"]
    assert shell.run(DELETE, NAME=made["name"]) == {}
    assert shell.run(GET, NAME=made["name"])["error"]["code"] == 404


def test_embeddings_from_a_file(shell: Shell, tmp_path: Path) -> None:
    """The same with another method; the lines have parts of one content."""
    path = tmp_path / "in.jsonl"
    request = {"output_dimensionality": 8, "content": {"parts": [{"text": "a fox"}]}}
    path.write_text(json.dumps({"key": "request_1", "request": request}) + "\n")
    file = shell.run(UPLOAD, INPUT=path)["file"]
    done = shell.ended(shell.run(CREATE, FILE=file["name"], METHOD="asyncBatchEmbedContent")["name"])
    output = tmp_path / "out.jsonl"
    shell.run(DOWNLOAD, NAME=done["response"]["responsesFile"], OUTPUT=output)
    row = json.loads(output.read_bytes())
    assert (row["key"], len(row["response"]["embedding"]["values"])) == ("request_1", 8)


def test_inline_job(shell: Shell) -> None:
    """The key is in the query; the answers are in the job with their metadata."""
    done = shell.ended(shell.run(INLINE)["name"])
    rows = done["response"]["inlinedResponses"]["inlinedResponses"]
    assert [row["metadata"]["key"] for row in rows] == ["m-1", "m-2"]
    texts = [row["response"]["candidates"][0]["content"]["parts"][0]["text"] for row in rows]
    assert texts == ["one", "two"]


def test_list_and_cancel(shell: Shell, tmp_path: Path) -> None:
    """Pages by token; cancel is a POST without a body, answered by {}. A large upload sends Expect."""
    file = shell.run(UPLOAD, INPUT=generate_file(tmp_path / "in.jsonl", 20_000))["file"]
    assert int(file["sizeBytes"]) > 1_000_000
    made = [shell.run(CREATE, FILE=file["name"], METHOD="batchGenerateContent")["name"] for _ in range(3)]
    first = shell.run(LIST, TOKEN="")
    rest = shell.run(LIST, TOKEN=first["nextPageToken"])
    assert [found["name"] for found in first["operations"] + rest["operations"]] == made[::-1]
    assert shell.run(CANCEL, NAME=made[0]) == {}


@pytest.mark.parametrize("script", [WRONG_CANCEL, WRONG_DELETE])
def test_wrong_samples_are_refused(shell: Shell, script: str) -> None:
    """Samples that cancel and delete by GET: nothing happens, and the error names the call."""
    made = shell.run(INLINE)["name"]
    error = shell.run(script, NAME=made)["error"]
    assert error["code"] == 404
    assert "GET" in error["message"]
    assert shell.ended(made)["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
