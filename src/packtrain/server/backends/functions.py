"""The backend that is somebody's own async function, named as in ``mymodels:answer``.

async def answer(request, task, model):
    ...

``request`` is the line's request, parsed; ``task`` is ``generate`` or ``embed``, ``model`` as in ``models/m``. It gives
back the response as the API has it, a dict; or, for short, the text of a generation, or the numbers of a vector.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec
from msgspec import Raw, Struct

from ..._errors import InputError
from ..._model import RowError, Task
from ..._wire.gemini.errors import GRPC_INVALID_ARGUMENT
from .backend import CONCURRENCY, Answer, answer_each, failed

Function = Callable[[Any, Task, str], Awaitable[Any]]


class FunctionBackend:
    """Calls the function for each request, up to ``concurrency`` at a time; an exception is the error of its row."""

    def __init__(self, function: Function, *, concurrency: int = CONCURRENCY) -> None:
        self._function = function
        self._limiter = anyio.CapacityLimiter(concurrency)
        self.rows = 2 * concurrency

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        return await answer_each(requests, self._limiter, lambda request: self._one(request, task, model))

    async def _one(self, request: Raw, task: Task, model: str) -> Answer:
        try:
            asked = msgspec.json.decode(request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return RowError(code=GRPC_INVALID_ARGUMENT, message=f"The request cannot be read: {error}.")
        try:
            return _checked(msgspec.json.encode(_response(await self._function(asked, task, model))), task)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the function is somebody's own, and sys.exit() ends a line
            return await failed(error)


def _response(found: Any) -> Any:
    if isinstance(found, str):
        content = {"parts": [{"text": found}], "role": "model"}
        return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}
    if isinstance(found, list | tuple):
        return {"embedding": {"values": found}}
    if not isinstance(found, dict):
        raise TypeError(f"the function gave {type(found).__name__}; a response is a dict, a str, or a list of numbers")
    return found


class _Embedding(Struct, frozen=True):
    values: list[float]


class _Embedded(Struct, frozen=True):
    embedding: _Embedding


_check_vector = msgspec.json.Decoder(_Embedded).decode


def _checked(response: bytes, task: Task) -> bytes:
    """Raises ValidationError for a vector that is none: numbers that JSON does not know are null by now."""
    if task == "embed":
        _check_vector(response)
    return response


def load_function(name: str) -> FunctionBackend:
    """Imports it. Raises InputError."""
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"backend {name!r}: {error}") from error
    if not inspect.iscoroutinefunction(found):
        raise InputError(f"backend {name!r}: it is not an async function")
    return FunctionBackend(found)
