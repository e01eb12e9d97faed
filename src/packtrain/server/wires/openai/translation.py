"""Translation of OpenAI requests to backend requests, and of their answers back. Backends use Gemini's format."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Raw, Struct

from ...._model import RowError
from ...._wire.gemini.errors import GRPC_INTERNAL
from ...._wire.openai import chat, embeddings

if TYPE_CHECKING:
    from ...._model import Task
    from ...backends.backend import Answer

#: Allowed model names; backends put them into URLs.
_MODEL = re.compile(r"(?:[A-Za-z0-9][\w.:@-]*/)*[A-Za-z0-9][\w.:@-]*", re.ASCII)
MAX_MODEL = 200


class Translated(Struct, frozen=True):
    """Backend requests, and the function that combines their answers into one."""

    requests: list[Raw]
    model: str
    finish: Callable[[Sequence[bytes]], bytes]


def translate(task: Task, body: bytes | Raw, *, id: str, created: int) -> Translated:
    """``id`` and ``created`` are those of the answer. Raises ValueError for an invalid body."""
    if task == "embed":
        texts = embeddings.decode_request(body)
        return Translated(embeddings.to_gemini(texts), resource(texts.model), partial(embeddings.from_gemini, texts))
    request = chat.decode_request(body)
    finish = partial(chat.from_gemini, request, id=id, created=created)
    return Translated(chat.to_gemini(request), resource(request.model), finish)


def resource(model: str) -> str:
    """The model name in the backends' format, ``models/m``. Raises ValueError."""
    if len(model) > MAX_MODEL or not _MODEL.fullmatch(model):
        raise ValueError(f"model {model[:40]!r} is not the name of a model")
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def combine(translated: Translated, answers: Sequence[Answer]) -> Answer:
    """One answer; the first of several errors."""
    responses = [answer for answer in answers if not isinstance(answer, RowError)]
    if len(responses) < len(answers):
        return next(answer for answer in answers if isinstance(answer, RowError))
    try:
        return translated.finish(responses)
    except (ValueError, RecursionError) as error:
        return RowError(code=GRPC_INTERNAL, message=f"The model's answer cannot be read: {error}.")
