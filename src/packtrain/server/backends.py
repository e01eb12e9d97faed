"""Who answers the requests of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .._errors import InputError
from .._model import RowError
from .._wire.gemini.errors import GRPC_CANCELLED
from .echo import Echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from .._model import Task

#: The JSON text of a response, or why there is none.
Answer = bytes | RowError


class Backend(Protocol):
    """Answers blocks of requests. Called from the event loop, so long work belongs into a thread."""

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        """One answer for each request, in their order. ``model`` is as in ``models/gemini-2.5-flash``.

        What is wrong with one request is its RowError; an exception of _errors.py fails the whole job.
        """
        ...


class Cancelled:
    """The backend of the rest of a cancelled job: code 1 and no word, as the real service does it."""

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        return [RowError(code=GRPC_CANCELLED)] * len(requests)


def open_backend(name: str) -> Backend:
    """Raises InputError for a name that is not known."""
    if name == "echo":
        return Echo()
    raise InputError(f"backend {name!r} is not known; there is: echo")
