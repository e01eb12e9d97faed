"""What the answer to a create means: every cell of the table."""

from __future__ import annotations

import pytest

from packtrain._errors import ApiError, PacktrainError, ProtocolError, Refusal, TransportError
from packtrain._rules.submission import Outcome, classify


def refusal(kind: Refusal | None, status: int = 400) -> ApiError:
    return ApiError("no", status=status, kind=kind)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TransportError("refused", sent=False), Outcome.NOT_SENT),
        (TransportError("reset", sent=True), Outcome.AMBIGUOUS),
        (ProtocolError("200 with half a body"), Outcome.AMBIGUOUS),
        *((refusal(None, status), Outcome.AMBIGUOUS) for status in (301, 400, 403, 429, 500, 503)),
        (refusal("absent"), Outcome.AMBIGUOUS),
        (refusal("throttled"), Outcome.THROTTLED),
        (refusal("file_gone"), Outcome.FILE_GONE),
        (refusal("barred"), Outcome.BARRED),
        (refusal("refused"), Outcome.REFUSED),
    ],
    ids=str,
)
def test_the_class_of_a_failed_create(error: PacktrainError, outcome: Outcome) -> None:
    """Only what the provider calls definite counts as a refusal; the rest must be looked into."""
    assert classify(error, proven=True) is outcome


def test_a_refusal_of_the_first_create_may_mean_the_run() -> None:
    """Before any create was accepted, it may be the model rather than the content of one shard."""
    assert classify(refusal("refused"), proven=False) is Outcome.SUSPECT
