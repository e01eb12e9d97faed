"""All routes of this wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .batches import OpenAIBatchRoutes
from .files import OpenAIFileRoutes
from .stored_batches import Batches
from .stored_files import KeptFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..gemini.files import FileRoutes
    from ..routing import Route
    from ..store import Store


def openai_routes(store: Store, downloads: FileRoutes, wake: Callable[[], None]) -> list[Route]:
    """``downloads`` sends the bytes of files, ``wake`` is called when a batch was made.

    They go before the routes of the other wire, whose lists would hide ours.
    """
    files = KeptFiles(store)
    return [
        *OpenAIFileRoutes(files, store.blobs, downloads).routes(),
        *OpenAIBatchRoutes(Batches(store), wake).routes(),
    ]
