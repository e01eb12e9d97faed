"""What the answer to a create means: every cell of the table."""

from __future__ import annotations

import pytest

from packtrain._errors import ApiError, PacktrainError, ProtocolError, TransportError
from packtrain._rules.submission import Outcome, classify

FILE = "files/pabc"


def refusal(status: int, code: str | None = "INVALID_ARGUMENT", message: str = "no") -> ApiError:
    return ApiError(message, status=status, code=code)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TransportError("refused", sent=False), Outcome.NOT_SENT),
        (TransportError("reset", sent=True), Outcome.AMBIGUOUS),
        (ProtocolError("200 with half a body"), Outcome.AMBIGUOUS),
        *((refusal(status), Outcome.AMBIGUOUS) for status in (301, 307, 408, 409, 499, 500, 502, 503, 504)),
        *((refusal(status, None), Outcome.AMBIGUOUS) for status in (400, 403, 404, 413, 429)),
        (refusal(429, "RESOURCE_EXHAUSTED"), Outcome.THROTTLED),
        (refusal(400, "FAILED_PRECONDITION", "The file is not ACTIVE yet"), Outcome.THROTTLED),
        (refusal(404, "NOT_FOUND", f"{FILE} was not found"), Outcome.FILE_GONE),
        (refusal(403, "PERMISSION_DENIED", "no access to the File pabc or it may not exist"), Outcome.FILE_GONE),
        (refusal(401, "UNAUTHENTICATED"), Outcome.BARRED),
        (refusal(403, "PERMISSION_DENIED"), Outcome.BARRED),
        (refusal(404, "NOT_FOUND", "model x"), Outcome.BARRED),
        (refusal(400), Outcome.REFUSED),
    ],
    ids=str,
)
def test_the_class_of_a_failed_create(error: PacktrainError, outcome: Outcome) -> None:
    """Only a definite word of the service's own counts as a refusal; the rest must be looked into."""
    assert classify(error, file=FILE, proven=True) is outcome


def test_a_400_to_the_first_create_may_mean_the_run() -> None:
    """Before any create was accepted, it may be the model rather than the content of one shard."""
    assert classify(refusal(400), file=FILE, proven=False) is Outcome.SUSPECT


def test_a_wrong_key_bars_the_run_although_it_is_a_400() -> None:
    """The service says so in the text alone."""
    assert classify(refusal(400, message="API key not valid."), file=FILE, proven=True) is Outcome.BARRED
