"""Function backend: a user's async function, named as in ``mymodels:answer``.

async def answer(request, task, model):
    ...

``request`` is the line's request, parsed; ``task`` is ``generate`` or ``embed``, ``model`` as in ``models/m``. The
function returns the API's response as a dict; or just the generated text, or the numbers of a vector.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec
from msgspec import Raw, Struct

from ..._errors import InputError
from ..._model import RowError, Task
from ..._wire.gemini.errors import GRPC_DATA_LOSS, GRPC_INVALID_ARGUMENT
from .backend import CONCURRENCY, Answer, answer_each, failure_row
from .json_answers import encode_json

_log = logging.getLogger(__name__)

Function = Callable[[Any, Task, str], Awaitable[Any]]


class FunctionBackend:
    """Calls the function once per request, at most ``concurrency`` at a time; an exception is the error of its row."""

    def __init__(self, function: Function, *, concurrency: int = CONCURRENCY) -> None:
        self._function = function
        self._limiter = anyio.CapacityLimiter(concurrency)
        self.rows = 2 * concurrency

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        return await answer_each(requests, self._limiter, lambda request: self._one(request, task, model))

    async def _one(self, request: Raw, task: Task, model: str) -> Answer:
        try:
            decoded = msgspec.json.decode(request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return RowError(code=GRPC_INVALID_ARGUMENT, message=f"The request cannot be read: {error}.")
        try:
            value = await self._function(decoded, task, model)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - third-party code: even sys.exit() fails one line only
            return await failure_row(error)
        try:
            return _checked(encode_json(_response(value)), task)
        except (ValueError, TypeError, RecursionError, NotImplementedError) as error:
            # A code that does not pass: it was answered, and asking again is paid for again.
            _log.error("the function's answer is no response", exc_info=error, extra={"action": "backend_failed"})
            return RowError(code=GRPC_DATA_LOSS, message=f"The function's answer is no response: {error}.")


def _response(value: Any) -> Any:
    if isinstance(value, str):
        content = {"parts": [{"text": value}], "role": "model"}
        return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}
    if isinstance(value, list | tuple):
        return {"embedding": {"values": value}}
    if not isinstance(value, dict):
        raise TypeError(
            f"the function returned {type(value).__name__}; a response is a dict, a str, or a list of numbers"
        )
    return value


class _Embedding(Struct, frozen=True):
    values: list[float]


class _Embedded(Struct, frozen=True):
    embedding: _Embedding


_check_vector = msgspec.json.Decoder(_Embedded).decode


def _checked(response: bytes, task: Task) -> bytes:
    """Raises ValidationError for an invalid vector, in which NaN and infinity are encoded as null."""
    if task == "embed":
        _check_vector(response)
    return response


def load_function(name: str) -> FunctionBackend:
    """Imports ``module:function``. Raises InputError."""
    module, _, path = name.partition(":")
    try:
        function: Any = importlib.import_module(module)
        for attribute in path.split("."):
            function = getattr(function, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"backend {name!r}: {error}") from error
    if not inspect.iscoroutinefunction(function):
        raise InputError(f"backend {name!r}: it is not an async function")
    return FunctionBackend(function)
