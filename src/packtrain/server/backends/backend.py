"""Who answers the requests of a job."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from ..._errors import InputError, PacktrainError
from ..._model import RowError
from ..._wire.gemini.errors import GRPC_CANCELLED, GRPC_INTERNAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from msgspec import Raw

    from ..._model import Secret, Task

_log = logging.getLogger(__name__)

#: The JSON text of a response, or why there is none.
Answer = bytes | RowError

#: Requests that a backend which waits for others answers side by side.
CONCURRENCY = 16


class Backend(Protocol):
    """Answers blocks of requests. Called from the event loop, so long work belongs into a thread."""

    @property
    def rows(self) -> int | None:
        """Requests that it wants at a time; None for as many as a block has."""
        ...

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        """One answer for each request, in their order. ``model`` is as in ``models/gemini-2.5-flash``.

        What is wrong with one request is its RowError; an exception of _errors.py fails the whole job, others are the
        errors of these rows. Is cancelled
        when nobody wants the answers any more. Requests whose answer is "not there" (code 14), "too much" (8) or
        "too late" (4) are asked again after a wait.
        """
        ...


class CancelledBackend:
    """The backend of the rest of a cancelled job: code 1 and no word, as the real service does it."""

    rows = None

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        return cancelled_answers(requests)


def cancelled_answers(requests: Sequence[Raw]) -> Sequence[Answer]:
    return [RowError(code=GRPC_CANCELLED)] * len(requests)


class SafeBackend:
    """Keeps the service up whatever a backend does: an exception that it should not raise is the error of its rows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def rows(self) -> int | None:
        return self._backend.rows

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        try:
            return await self._backend.answer(requests, task=task, model=model)
        except (PacktrainError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # the backend may be anybody's
            host = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and host and host.cancelling():
                raise  # as the end of the service does it, past all scopes
            return [await failed(error)] * len(requests)


async def failed(error: BaseException) -> RowError:
    """For the client the kind of error alone; the log gets all of it.

    A cancellation is an error like others where it is the backend's own; where it is ours it goes on from here.
    """
    await checkpoint_if_cancelled()
    _log.error("the backend failed", exc_info=error, extra={"action": "backend_failed"})
    return RowError(code=GRPC_INTERNAL, message=f"The backend failed: {type(error).__name__}.")


async def answer_each(
    requests: Sequence[Raw], limiter: anyio.CapacityLimiter, answer: Callable[[Raw], Awaitable[Answer]]
) -> list[Answer]:
    """Side by side, as many at a time as the limiter lets in; the answers stand in the order of the requests."""
    answers: dict[int, Answer] = {}
    waiting = iter(enumerate(requests))

    async def work() -> None:
        for at, request in waiting:
            async with limiter:
                answers[at] = await answer(request)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(len(requests), int(limiter.total_tokens))):
            tasks.start_soon(work)
    return [answers[at] for at in range(len(requests))]


@asynccontextmanager
async def open_backend(backend: str | Backend, key: Secret | None = None) -> AsyncIterator[Backend]:
    """By name: ``echo``, ``forward:URL``, ``module:function``. Raises InputError for one that cannot be had.

    ``key`` is shown to the endpoint that is forwarded to.
    """
    if not isinstance(backend, str):
        yield SafeBackend(backend)
    elif backend == "echo":
        from .echo import Echo

        yield SafeBackend(Echo())
    elif backend.startswith("forward:"):
        from .forward import open_forward

        async with open_forward(backend.removeprefix("forward:"), key) as forward:
            yield SafeBackend(forward)
    elif ":" in backend:
        from .functions import load_function

        yield SafeBackend(await anyio.to_thread.run_sync(load_function, backend))
    else:
        raise InputError(f"backend {backend!r} is not known; give echo, forward:URL, or module:function")
