"""Exit codes of a command, and the errors that only a command line can have."""

from __future__ import annotations

import enum
import errno
from typing import TYPE_CHECKING, TypeGuard

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
#: A name that cannot be one of a file here: too long, below a file, in a circle of links, or not ours to see.
_NO_NAME = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM})


def code(error: BaseException) -> Exit:
    """The exit code of one error; ``DEFECT`` for those that are not raised on purpose."""
    if is_bad_name(error):
        return Exit.INPUT
    return next((own for kind, own in _OWN.items() if isinstance(error, kind)), None) or Exit(exit_code(error))


def expected(error: BaseException) -> bool:
    """The message is enough for a person, so no traceback is shown."""
    return isinstance(error, (PacktrainError, *_OWN, KeyboardInterrupt)) or is_bad_name(error)


def is_bad_name(error: BaseException) -> TypeGuard[OSError]:
    """The system does not take a name that was given."""
    return isinstance(error, OSError) and error.errno in _NO_NAME and error.filename is not None


def of_summary(summary: Summary) -> Exit:
    if not summary.complete:
        return Exit.AGAIN
    return Exit.SOME_FAILED if summary.failed or summary.rejected else Exit.COMPLETE
