"""Retries: failures that a second try may heal, and the wait before it."""

from __future__ import annotations

from .._errors import ApiError, PacktrainError, TransportError
from .._options import BACKOFF_CEILING, BACKOFF_FLOOR, LONGEST_WAIT

#: HTTP statuses that the services document as worth another try, and those of gateways.
TRANSIENT = frozenset({408, 425, 429, 499, 500, 502, 503, 504})


def is_transient(error: BaseException) -> bool:
    """For idempotent calls only: a create is never sent again for any of these."""
    if isinstance(error, ApiError):
        return error.status in TRANSIENT
    return isinstance(error, TransportError)


def backoff(failures: int, jitter: float, *, floor: float = BACKOFF_FLOOR, ceiling: float = BACKOFF_CEILING) -> float:
    """Seconds before try number ``failures + 1``: doubled each time, half of it random (``jitter`` in 0..1)."""
    whole = min(ceiling, floor * 2.0 ** min(failures, 30))
    return whole * (0.5 + jitter / 2)


def wait_after(error: PacktrainError, failures: int, jitter: float) -> float:
    """As ``backoff``, and never less than the error asks for."""
    asked = error.retry_after if isinstance(error, ApiError | TransportError) else None
    return max(asked or 0.0, backoff(failures, jitter))


def is_due(due: float, now: float) -> bool:
    """Whether a stored wait is over. A wait longer than any was stored by a clock that has been set back since."""
    return not now < due <= now + LONGEST_WAIT
