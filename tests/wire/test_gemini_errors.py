"""What Google's answer to a create refuses: every cell of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packtrain._wire.gemini.errors import create_error, encode_error
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
