"""How a command ends: every exit code, and which error leads to which."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from packtrain import (
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

    from packtrain import Summary


class Exit(enum.IntEnum):
    """Names, numbers and meanings are a contract."""

    COMPLETE = 0
    SOME_FAILED = 1
    USAGE = 2
    INPUT = 3
    REFUSED = 4
    QUARANTINED = 5
    MANIFEST = 6
    #: A defect of the program or an answer against the protocol; 1, Python's own, has another meaning here.
    DEFECT = 70
    AGAIN = 75


class UsageError(Exception):
    """The command line, the environment or ``packtrain.toml`` asks for something that does not exist."""


class CredentialError(Exception):
    """There is no usable key."""


class OutputError(Exception):
    """Standard output cannot be written. The work itself has ended by then."""


#: The first match counts; the order is also the order of weight when several errors came together.
_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (CredentialError, Exit.REFUSED),
    (ManifestError, Exit.MANIFEST),
    (IntegrityError, Exit.MANIFEST),
    (InputError, Exit.INPUT),
    (ApiError, Exit.REFUSED),
    (ProtocolError, Exit.DEFECT),
    (TransportError, Exit.AGAIN),
    (IncompleteRun, Exit.AGAIN),
    (OutputError, Exit.AGAIN),
    (KeyboardInterrupt, Exit.AGAIN),
)
#: What heals every error with ``AGAIN``; many say so themselves.
_ADVICE = "start the same command again"
#: Refusals that pass: the service timed out or is out of order.
_PASSING = frozenset({408, 500, 502, 503, 504})


def code(error: BaseException) -> Exit:
    """The exit code of one error; ``DEFECT`` for those that nobody raises on purpose."""
    if isinstance(error, ApiError) and error.status in _PASSING:
        return Exit.AGAIN
    if isinstance(error, IncompleteRun) and error.quarantined:
        return Exit.QUARANTINED
    return next((exit for kind, exit in _CODES if isinstance(error, kind)), Exit.DEFECT)


def cause(error: BaseException) -> BaseException:
    """The error that counts in a group: the one without a code of its own, then the first in the table."""
    return min(_leaves(error), key=_weight)


def message(error: BaseException) -> str:
    """One paragraph for people."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; start the same command again"
    text = f"packtrain: {error}"
    if code(error) is Exit.AGAIN and _ADVICE not in text:
        text += f"\nNothing is lost: {_ADVICE}."
    return text


def expected(error: BaseException) -> bool:
    """Whether the message tells a person enough, so that no traceback is needed."""
    return isinstance(error, (PacktrainError, UsageError, CredentialError, OutputError, KeyboardInterrupt))


def of_summary(summary: Summary) -> Exit:
    if not summary.complete:
        return Exit.AGAIN
    return Exit.SOME_FAILED if summary.failed or summary.rejected else Exit.COMPLETE


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _weight(error: BaseException) -> int:
    return next((place for place, (kind, _) in enumerate(_CODES) if isinstance(error, kind)), -1)
