"""All routes of this wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .files import OpenAIFileRoutes
from .stored_files import KeptFiles

if TYPE_CHECKING:
    from ..gemini.files import FileRoutes
    from ..routing import Route
    from ..store import Store


def openai_routes(store: Store, downloads: FileRoutes) -> list[Route]:
    """``downloads`` sends the bytes of files. Before the routes of the other wire, whose lists would hide ours."""
    files = KeptFiles(store)
    return [
        *OpenAIFileRoutes(files, store.blobs, downloads).routes(),
    ]
