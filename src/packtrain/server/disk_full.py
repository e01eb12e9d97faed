"""A disk without room: which errors mean it, what clients hear, and how the work that no client waits for goes on."""

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

#: Seconds between two tries to go on.
RETRY_DELAY = 2.0

_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SQLITE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})


class DiskFullError(HttpError):
    """503: the call may come again, when there is room. As after every 5xx, it may have been acted on."""

    def __init__(self, error: Exception) -> None:
        message = f"The service cannot write to its disk ({error}); what it has can still be read."
        super().__init__(503, message, headers={"Retry-After": "10"})


def is_full(error: Exception) -> bool:
    """Whether bytes were not taken. An fsync that fails is another matter: what it leaves behind is not known."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) in _SQLITE
    return isinstance(error, OSError) and error.errno in _NUMBERS


@contextmanager
def translate_disk_full() -> Iterator[None]:
    """Raises DiskFull in place of the error that means it."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if is_full(error):
            raise DiskFullError(error) from error
        raise


async def retry_until_space(work: Callable[[], Awaitable[T]]) -> T:
    """Tries until the disk has room. ``work`` must do all or nothing."""
    while True:
        try:
            with translate_disk_full():
                return await work()
        except DiskFullError as error:
            _log.warning("%s", error, extra={"action": "disk_full"})
            await anyio.sleep(RETRY_DELAY)
