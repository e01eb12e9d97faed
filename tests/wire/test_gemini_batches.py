"""Jobs as bytes, in every shape in which they have been met."""

from __future__ import annotations

import json
from typing import Any

import pytest

from packtrain._errors import ProtocolError
from packtrain._model import JobState
from packtrain._wire.gemini import batches
from packtrain._wire.gemini.errors import encode_error, error_of, read_status
from packtrain._wire.http import Reply

NAME = "batches/7h9w4gzuqot3bb3fpd1e2nqcp980iwnmjs7n"
RESULT = "files/batch-7h9w4gzuqot3bb3fpd1e2nqcp980iwnmjs7n"


def reply(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status=status, headers=headers, body=json.dumps(value).encode())


def operation(**metadata: Any) -> dict[str, Any]:
    base = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": "models/gemini-2.5-flash",
        "displayName": "pt1.x",
        "inputConfig": {"fileName": "files/85nave4ld71j"},
        "createTime": "2025-09-07T11:55:07.827892252Z",
        "batchStats": {"requestCount": "5", "pendingRequestCount": "5"},
        "state": "BATCH_STATE_PENDING",
        "name": NAME,
    }
    return {"name": NAME, "metadata": base | metadata}


def test_a_new_job_is_read() -> None:
    """As the service answers to a create."""
    batch = batches.read_job(reply(operation()))
    assert (batch.name, batch.state, batch.display_name) == (NAME, JobState.PENDING, "pt1.x")
    assert (batch.input_file, batch.requests, batch.result_file) == ("files/85nave4ld71j", 5, None)


@pytest.mark.parametrize(
    "finished",
    [
        operation(output={"responsesFile": RESULT}),
        operation() | {"response": {"responsesFile": RESULT}},
        operation() | {"response": {"output": {"responsesFile": RESULT}}},
        operation() | {"output": {"responsesFile": RESULT}},
    ],
)
def test_the_results_file_is_found_in_all_four_places(finished: dict[str, Any]) -> None:
    """Releases of the service differ."""
    assert batches.read_job(reply(finished)).result_file == RESULT


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_"])
@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.UNKNOWN])
def test_states_are_read_under_both_names(prefix: str, state: JobState) -> None:
    """REST says the one, the SDKs and some documents the other."""
    assert batches.read_job(reply(operation(state=prefix + state.name))).state is state


@pytest.mark.parametrize("word", ["", "BATCH_STATE_UNSPECIFIED", "BATCH_STATE_PAUSED", "weird"])
def test_an_unknown_state_is_not_terminal(word: str) -> None:
    """It is waited for, not guessed at."""
    state = batches.read_job(reply(operation(state=word))).state
    assert state is JobState.UNKNOWN
    assert not state.terminal


def test_the_state_is_also_looked_for_outside_the_metadata() -> None:
    """In the response, then at the top."""
    bare = {"name": NAME, "metadata": {}}
    for place in ({"response": {"state": "BATCH_STATE_FAILED"}}, {"state": "BATCH_STATE_FAILED"}):
        assert batches.read_job(reply(bare | place)).state is JobState.FAILED


def test_an_empty_list_is_an_empty_object() -> None:
    """Zero values are left out."""
    page = batches.read_page(reply({}))
    assert (page.jobs, page.next_token) == ((), None)


def test_an_item_that_cannot_be_read_does_not_hide_the_others() -> None:
    """Somebody else's job may be described in ways that nobody has met yet."""
    odd = [
        operation(createTime="yesterday"),
        operation(state=7),
        operation(batchStats={"requestCount": "many"}),
        operation() | {"name": "../x"},
        {},
        "text",
        None,
    ]
    page = batches.read_page(reply({"operations": [*odd[:3], operation(), *odd[3:]], "nextPageToken": "t"}))
    assert [batch.name for batch in page.jobs] == [NAME]
    assert [json.loads(item) for item in page.unreadable] == odd
    assert page.next_token == "t"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"detail": "log in"}', b'{"operations": 1}', b'{"operations": [{"name": }]}']
)
def test_a_page_that_is_none_is_a_protocol_error(body: bytes) -> None:
    """The whole pass is void then."""
    with pytest.raises(ProtocolError):
        batches.read_page(Reply(status=200, headers={}, body=body))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"name":"x"}', b'{"name":"files/a"}', b'{"metadata":{"createTime":"now"},"name":"batches/a"}'],
)
def test_what_describes_no_job_is_a_protocol_error(body: bytes) -> None:
    """A 200 without a name is not a job."""
    with pytest.raises(ProtocolError):
        batches.read_job(Reply(status=200, headers={}, body=body))


def test_a_list_always_names_its_page_size() -> None:
    """Without it the list has been seen empty while jobs were pending."""
    assert ("pageSize", "100") in batches.list_page(None).query
    assert ("pageToken", "t") in batches.list_page("t").query


def test_a_create_names_model_file_and_tag() -> None:
    """A bare model name gets its collection."""
    call = batches.create(model="gemini-2.5-flash", task="generate", display_name="tag", file="files/a", seconds=55.0)
    assert call.target == "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
    assert json.loads(call.body or b"") == {"batch": {"displayName": "tag", "inputConfig": {"fileName": "files/a"}}}
    assert ("X-Server-Timeout", "55") in call.headers
    embed = batches.create(model="tunedModels/x", task="embed", display_name="t", file="pa", seconds=0.5)
    assert embed.target == "/v1beta/tunedModels/x:asyncBatchEmbedContent"


def test_an_error_keeps_the_service_s_word_and_names_the_call() -> None:
    """Two 429s of different calls look alike otherwise."""
    answer = Reply(status=429, headers={"retry-after": "7"}, body=encode_error(429, "too much"))
    error = error_of("create of a job", answer)
    assert (error.status, error.code, error.retry_after) == (429, "RESOURCE_EXHAUSTED", 7.0)
    assert str(error) == "create of a job: the service answered 429 RESOURCE_EXHAUSTED: too much"


@pytest.mark.parametrize("value", ["-1", "1e9", "soon", "", "99999999999"])
def test_a_senseless_retry_after_is_none(value: str) -> None:
    """Neither negative nor for ever."""
    assert error_of("x", Reply(status=429, headers={"retry-after": value})).retry_after is None


def test_a_proxy_s_page_is_not_the_service_s_word_and_cannot_move_the_cursor() -> None:
    """Untrusted bytes reach the terminal escaped."""
    page = Reply(status=400, headers={}, body=b"<html>\x1b[2J\r\n")
    assert read_status(page) is None
    assert str(error_of("x", page)) == "x: the service answered 400: <html>\\x1b[2J\\r\\n"
