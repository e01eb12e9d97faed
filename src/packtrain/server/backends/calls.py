"""Calls of a backend for a block of requests, with retries, cancelled when the job no longer wants the answers.

Requests that fail because the backend is unavailable (a dead or an overloaded endpoint) are sent again with growing
delays: a backend may go away and return in the middle of a block.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ..._errors import PacktrainError, ProtocolError
from ..._io.clock import SystemClock
from ..._model import RowError
from ..._rules.retry import backoff
from ..._wire.gemini.errors import GRPC_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from msgspec import Raw

    from ..._io.clock import Clock
    from ..._model import Task
    from .backend import Answer, Backend

_log = logging.getLogger(__name__)

#: Seconds between two checks whether the answers are still wanted.
CHECK_PERIOD = 0.5
#: Seconds without any answer after which the errors are final: the requests themselves may crash the backend.
OUTAGE_SECONDS = 3600.0
#: Deadline exceeded, resource exhausted, unavailable.
_UNAVAILABLE = frozenset({4, 8, GRPC_UNAVAILABLE})


async def answer_block(
    backend: Backend,
    requests: Sequence[Raw],
    *,
    task: Task,
    model: str,
    wanted: Callable[[], Awaitable[bool]],
    clock: Clock | None = None,
) -> Sequence[Answer] | None:
    """One answer per request; None as soon as ``wanted`` returns False. Raises what the backend raises."""
    answers: Sequence[Answer] | None = None
    failure: PacktrainError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch, wanted, tasks.cancel_scope)
        try:
            answers = await _answer_with_retries(backend, requests, task, model, clock or SystemClock())
        except PacktrainError as error:  # raised outside of the task group, so that it is not wrapped
            failure = error
        tasks.cancel_scope.cancel()
    if failure:
        raise failure
    return answers


async def _watch(wanted: Callable[[], Awaitable[bool]], scope: anyio.CancelScope) -> None:
    while not scope.cancel_called:
        await anyio.sleep(CHECK_PERIOD)
        if not await wanted():
            scope.cancel()


async def _answer_with_retries(
    backend: Backend, requests: Sequence[Raw], task: Task, model: str, clock: Clock
) -> Sequence[Answer]:
    answers: dict[int, Answer] = {}
    pending: Sequence[int] = range(len(requests))
    last_answer, failures = clock.now(), 0
    while True:
        received = await backend.answer([requests[at] for at in pending], task=task, model=model)
        if len(received) != len(pending):
            raise ProtocolError(f"the backend gave {len(received)} answers to {len(pending)} requests")
        answers.update(zip(pending, received, strict=True))
        failed = [at for at in pending if _is_unavailable(answers[at])]
        if len(failed) < len(pending):
            last_answer, failures = clock.now(), 0
        if not failed or clock.now() - last_answer >= OUTAGE_SECONDS:
            return [answers[at] for at in range(len(requests))]
        delay = backoff(failures, clock.jitter())
        extra = {"action": "backend_away"}
        _log.warning("backend unavailable for %d lines; next attempt in %.0f s", len(failed), delay, extra=extra)
        await clock.sleep(delay)
        pending, failures = failed, failures + 1


def _is_unavailable(answer: Answer) -> bool:
    return isinstance(answer, RowError) and answer.code in _UNAVAILABLE
