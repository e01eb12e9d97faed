"""Exit codes of a command, and the errors that only a command line can have."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from packtrain import PacktrainError, exit_code

if TYPE_CHECKING:
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
    #: A defect of the program; 1, Python's own, has another meaning here.
    DEFECT = 70
    AGAIN = 75


class UsageError(Exception):
    """The command line, the environment or ``packtrain.toml`` asks for something that does not exist."""


class CredentialError(Exception):
    """There is no usable key."""


class OutputError(Exception):
    """Standard output cannot be written. The work itself has ended by then."""


_OWN = {UsageError: Exit.USAGE, CredentialError: Exit.REFUSED, OutputError: Exit.AGAIN}


def code(error: BaseException) -> Exit:
    """The exit code of one error; ``DEFECT`` for those that are not raised on purpose."""
    return next((own for kind, own in _OWN.items() if isinstance(error, kind)), None) or Exit(exit_code(error))


def expected(error: BaseException) -> bool:
    """The message is enough for a person, so no traceback is shown."""
    return isinstance(error, (PacktrainError, *_OWN, KeyboardInterrupt))


def of_summary(summary: Summary) -> Exit:
    if not summary.complete:
        return Exit.AGAIN
    return Exit.SOME_FAILED if summary.failed or summary.rejected else Exit.COMPLETE
