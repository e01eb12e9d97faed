"""What a request of this wire asks of a backend, whose requests and answers are Gemini's."""

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

#: What the name of a model may look like; backends put it into addresses.
_MODEL = re.compile(r"(?:[A-Za-z0-9][\w.:@-]*/)*[A-Za-z0-9][\w.:@-]*", re.ASCII)
MAX_MODEL = 200


class Translated(Struct, frozen=True):
    """Requests for the backend, and what makes one answer of its answers."""

    requests: list[Raw]
    model: str
    finish: Callable[[Sequence[bytes]], bytes]


def translate(task: Task, body: bytes | Raw, *, id: str, created: int) -> Translated:
    """``id`` and ``created`` go into the answer. Raises ValueError for a body that cannot be answered."""
    if task == "embed":
        wanted = embeddings.decode_request(body)
        return Translated(embeddings.to_gemini(wanted), resource(wanted.model), partial(embeddings.from_gemini, wanted))
    request = chat.decode_request(body)
    finish = partial(chat.from_gemini, request, id=id, created=created)
    return Translated(chat.to_gemini(request), resource(request.model), finish)


def resource(model: str) -> str:
    """As the backends call it: ``models/m``. Raises ValueError."""
    if len(model) > MAX_MODEL or not _MODEL.fullmatch(model):
        raise ValueError(f"model {model[:40]!r} is not the name of a model")
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def combine(translated: Translated, answers: Sequence[Answer]) -> Answer:
    """One answer; the first error among several stands for all."""
    given = [answer for answer in answers if not isinstance(answer, RowError)]
    if len(given) < len(answers):
        return next(answer for answer in answers if isinstance(answer, RowError))
    try:
        return translated.finish(given)
    except (ValueError, RecursionError) as error:
        return RowError(code=GRPC_INTERNAL, message=f"The model's answer cannot be read: {error}.")
