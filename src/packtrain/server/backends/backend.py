"""Backend interface, and wrappers that every backend gets."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from ..._errors import InputError, PacktrainError
from ..._io.threads import in_thread
from ..._model import RowError
from ..._wire.gemini.errors import GRPC_CANCELLED, GRPC_DATA_LOSS, GRPC_INTERNAL
from .json_answers import checked_json, object_on_one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from msgspec import Raw

    from ..._model import Secret, Task

_log = logging.getLogger(__name__)

#: The JSON text of a response, or an error.
Answer = bytes | RowError

#: Concurrent requests of a backend that waits for I/O.
CONCURRENCY = 16


class Backend(Protocol):
    """Answers blocks of requests. Called on the event loop: long computations need a thread."""

    @property
    def rows(self) -> int | None:
        """Most requests per call; None for whole blocks."""
        ...

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        """One answer per request, in order. ``model`` is as in ``models/gemini-2.5-flash``.

        An error of one request is a RowError. A PacktrainError fails the whole job; any other exception becomes the
        error of every row of the call. Requests whose error has code 14 (unavailable), 8 (resource exhausted) or 4
        (deadline exceeded) are sent again after a delay. The call is cancelled when the answers are no longer wanted.
        """
        ...


class CancelledBackend:
    """Answers the rest of a cancelled job: code 1 without a message, as the real service does."""

    rows = None

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        return cancelled_answers(requests)


def cancelled_answers(requests: Sequence[Raw]) -> Sequence[Answer]:
    return [RowError(code=GRPC_CANCELLED)] * len(requests)


class SafeBackend:
    """Protects the service from a backend: an unexpected exception becomes the error of the rows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def rows(self) -> int | None:
        return self._backend.rows

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        try:
            return [*map(_on_one_line, await self._backend.answer(requests, task=task, model=model))]
        except (PacktrainError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # third-party code
            task_of_call = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task_of_call and task_of_call.cancelling():
                raise  # the service is stopping
            return [await failure_row(error)] * len(requests)


def _on_one_line(answer: Answer) -> Answer:
    """An answer of several lines would end the row of the results in its middle."""
    if isinstance(answer, RowError) or b"\n" not in answer:
        return answer
    try:
        return object_on_one_line(checked_json(answer))
    except ValueError as error:
        return RowError(code=GRPC_DATA_LOSS, message=f"The backend's answer is no response: {error}.")


async def failure_row(error: BaseException) -> RowError:
    """Logs the error; the client gets its type only.

    A cancellation raised by the backend itself counts as an error; a cancellation of the call is re-raised here.
    """
    await checkpoint_if_cancelled()
    _log.error("the backend failed", exc_info=error, extra={"action": "backend_failed"})
    return RowError(code=GRPC_INTERNAL, message=f"The backend failed: {type(error).__name__}.")


async def answer_each(
    requests: Sequence[Raw], limiter: anyio.CapacityLimiter, answer: Callable[[Raw], Awaitable[Answer]]
) -> list[Answer]:
    """Answers concurrently within the limiter; returns the answers in the order of the requests."""
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
    """Opens a backend by name: ``echo``, ``forward:URL``, ``module:function``. Raises InputError for an unusable one.

    ``key`` is the API key of the endpoint of ``forward:URL``.
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

        yield SafeBackend(await in_thread(load_function, backend))
    else:
        raise InputError(f"backend {backend!r} is not known; give echo, forward:URL, or module:function")
