"""Asking a backend for a block of a job's answers: as long as somebody wants them, and not into the void.

What of a block the backend does not answer because it is away (a dead endpoint, one that is overloaded) is asked again
after ever longer waits: it may go away, and come back, in the middle of a block.
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

#: Seconds between two looks at whether the answers are still wanted.
CHECK_PERIOD = 0.5
#: Seconds without an answer to any of them, after which errors stand: it may be the requests that nobody survives.
OUTAGE_SECONDS = 3600.0
#: Too late, too much, not there.
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
    """One answer for each request; None as soon as they are no longer ``wanted``, whatever was answered by then.

    Raises what the backend raises.
    """
    answers: Sequence[Answer] | None = None
    failure: PacktrainError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch, wanted, tasks.cancel_scope)
        try:
            answers = await _answer_with_retries(backend, requests, task, model, clock or SystemClock())
        except PacktrainError as error:  # taken out of the group as it is
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
    asked: Sequence[int] = range(len(requests))
    heard, failures = clock.now(), 0
    while True:
        found = await backend.answer([requests[at] for at in asked], task=task, model=model)
        if len(found) != len(asked):
            raise ProtocolError(f"the backend gave {len(found)} answers to {len(asked)} requests")
        answers.update(zip(asked, found, strict=True))
        away = [at for at in asked if _is_unavailable(answers[at])]
        if len(away) < len(asked):
            heard, failures = clock.now(), 0
        if not away or clock.now() - heard >= OUTAGE_SECONDS:
            return [answers[at] for at in range(len(requests))]
        delay = backoff(failures, clock.jitter())
        extra = {"action": "backend_away"}
        _log.warning("the backend was away for %d lines; trying them again in %.0f s", len(away), delay, extra=extra)
        await clock.sleep(delay)
        asked, failures = away, failures + 1


def _is_unavailable(answer: Answer) -> bool:
    return isinstance(answer, RowError) and answer.code in _UNAVAILABLE
