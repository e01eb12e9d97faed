"""Full disk: the errors that mean it, the response to clients, and retries of background work."""

from __future__ import annotations

import errno
import logging
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio

from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Seconds between two attempts of background work.
RETRY_DELAY = 2.0

_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SQLITE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})


class DiskFullError(HttpError):
    """HTTP 503: retry when there is space. As with every 5xx, the call may have had its effect."""

    def __init__(self, error: Exception) -> None:
        message = f"The service cannot write to its disk ({error}); reading still works."
        super().__init__(503, message, headers={"Retry-After": "10"})


def is_full(error: Exception) -> bool:
    """Whether a write was refused for lack of space. A failed fsync does not count: its outcome is unknown."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) in _SQLITE
    return isinstance(error, OSError) and error.errno in _NUMBERS


@contextmanager
def translate_disk_full() -> Iterator[None]:
    """Raises DiskFullError in place of an error that means a full disk."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if is_full(error):
            raise DiskFullError(error) from error
        raise


async def retry_until_space(work: Callable[[], Awaitable[T]]) -> T:
    """Repeats ``work``, which must be atomic, until the disk has space."""
    while True:
        try:
            with translate_disk_full():
                return await work()
        except DiskFullError as error:
            _log.warning("%s", error, extra={"action": "disk_full"})
            await anyio.sleep(RETRY_DELAY)
