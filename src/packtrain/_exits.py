"""The exit code of an error, and the error that counts when several were raised together."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._errors import (
    ApiError,
    IncompleteRun,
    InputError,
    IntegrityError,
    ManifestError,
    PacktrainError,
    ProtocolError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The most urgent first. Any other error is a defect, which outweighs them all.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ManifestError, 6),
    (IntegrityError, 6),
    (InputError, 3),
    (ApiError, 4),
    (ProtocolError, 75),
    (TransportError, 75),
    (IncompleteRun, 75),
    (KeyboardInterrupt, 75),
)
_DEFECT, _AGAIN, _DECISION = 70, 75, 5
#: HTTP statuses of refusals that pass: the service timed out or is out of order.
_PASSING = frozenset({408, 500, 502, 503, 504})


def exit_code(error: BaseException) -> int:
    """The exit code with which a program that failed with ``error`` should end; a group counts as its leading error.

    3 input refused, 4 service refused, 5 a person must decide, 6 state in use or damaged, 70 a defect, 75 run again.
    """
    error = leading_error(error)
    if isinstance(error, ApiError) and error.status in _PASSING:
        return _AGAIN
    if isinstance(error, IncompleteRun) and error.quarantined:
        return _DECISION
    return next((code for kind, code in _CODES if isinstance(error, kind)), _DEFECT)


def leading_error(error: BaseException) -> BaseException:
    """The error itself, or the most urgent one in a group."""
    return min(_leaves(error), key=_weight)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the leading error instead of a group; a group that has a defect among its errors is raised whole."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        if len(errors) > 1 and not all(isinstance(error, PacktrainError) for error in errors):
            raise
        raise leading_error(group) from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _weight(error: BaseException) -> int:
    return next((place for place, (kind, _) in enumerate(_CODES) if isinstance(error, kind)), -1)
