"""What Google's answer to a create refuses: every cell of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packtrain import ApiError, GatewayError
from packtrain._wire.gemini.errors import create_error, encode_error, failure, is_page
from packtrain._wire.http import Reply

if TYPE_CHECKING:
    from packtrain._errors import Refusal

FILE = "pabc"


def kind_of(status: int, name: str = "INVALID_ARGUMENT", message: str = "no") -> Refusal | None:
    body = encode_error(status, message, name=name)
    return create_error(Reply(status=status, headers={}, body=body), FILE).kind


@pytest.mark.parametrize("status", [301, 307, 408, 409, 499, 500, 502, 503, 504])
def test_an_answer_that_may_follow_acceptance_refuses_nothing(status: int) -> None:
    """There may be a job."""
    assert kind_of(status) is None


@pytest.mark.parametrize("status", [400, 403, 404, 413, 429])
def test_an_answer_without_googles_error_body_refuses_nothing(status: int) -> None:
    """A proxy gave it, and the service may have accepted the create."""
    assert create_error(Reply(status=status, headers={}, body=b"<html>"), FILE).kind is None


@pytest.mark.parametrize(
    ("status", "name", "message", "kind"),
    [
        (429, "RESOURCE_EXHAUSTED", "no", "throttled"),
        (400, "FAILED_PRECONDITION", "The file is not ACTIVE yet", "throttled"),
        (400, "FAILED_PRECONDITION", "File pabc is not in an ACTIVE state", "file_gone"),
        (404, "NOT_FOUND", "files/pabc was not found", "file_gone"),
        (403, "PERMISSION_DENIED", "no access to the File pabc or it may not exist", "file_gone"),
        (401, "UNAUTHENTICATED", "no", "barred"),
        (403, "PERMISSION_DENIED", "no", "barred"),
        (404, "NOT_FOUND", "model x", "barred"),
        (400, "INVALID_ARGUMENT", "API key not valid.", "barred"),
        (400, "INVALID_ARGUMENT", "no", "refused"),
    ],
)
def test_the_kind_of_a_refusal(status: int, name: str, message: str, kind: Refusal) -> None:
    """By status, name and text of the service's own error."""
    assert kind_of(status, name, message) == kind


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 407, 429, 451, 503, 511, 521])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>blocked",
        b'{"detail":"blocked"}',
        b'{"error":{"code":403,"message":"no","status":"blocked"}}',
        b"[]",
    ],
)
def test_a8_a_refusal_has_the_service_s_own_error_body(status: int, body: bytes) -> None:
    """Anything else is a proxy's, whatever its status, and an outage."""
    error = failure("list of jobs", Reply(status=status, headers={"retry-after": "9"}, body=body))
    assert isinstance(error, GatewayError)
    assert (error.status, error.retry_after) == (status, 9.0)
    assert body[:20].decode() in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 416, 429, 500, 503])
def test_a8_the_service_s_own_error_body_is_a_refusal(status: int) -> None:
    """By the canonical name in it."""
    assert isinstance(failure("x", Reply(status=status, headers={}, body=encode_error(status, "no"))), ApiError)


def test_a8_a_redirect_names_no_more_than_the_host() -> None:
    """The rest may be the address of an upload session, which is a secret."""
    reply = Reply(status=307, headers={"location": "https://login.example/?u=upload_id=secret"}, body=b"")
    assert "to https://login.example:443)" in str(failure("x", reply))
    assert "secret" not in str(failure("x", reply))


@pytest.mark.parametrize(
    ("headers", "body", "page"),
    [
        ({"content-type": "text/html; charset=utf-8"}, b"{}", True),
        ({}, b"\xef\xbb\xbf\r\n <!doctype html>", True),
        ({"content-type": "text/plain"}, b'{"name":"files/a"}', False),
        ({}, b"", False),
    ],
)
def test_a8_a_page_is_no_answer(headers: dict[str, str], body: bytes, page: bool) -> None:
    """Whatever its status."""
    assert is_page(Reply(status=200, headers=headers, body=body)) is page
