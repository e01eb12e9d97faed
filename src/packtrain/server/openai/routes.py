"""All routes of this wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .batches import OpenAIBatchRoutes
from .files import OpenAIFileRoutes
from .interactive import InteractiveRoutes
from .stored_batches import Batches
from .stored_files import KeptFiles
from .stored_uploads import PartUploads
from .uploads import OpenAIUploadRoutes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backends import Backend
    from ..gemini.files import FileRoutes
    from ..routing import Route
    from ..store import Store


def openai_routes(store: Store, backend: Backend, downloads: FileRoutes, wake: Callable[[], None]) -> list[Route]:
    """``backend`` answers the calls that do not wait for a batch, ``downloads`` sends the bytes of files.

    ``wake`` is called when a batch was made. They go before the routes of the other wire, whose lists would hide ours.
    """
    files = KeptFiles(store)
    return [
        *OpenAIFileRoutes(files, store.blobs, downloads).routes(),
        *OpenAIUploadRoutes(PartUploads(store), store.blobs).routes(),
        *InteractiveRoutes(backend, store.quotas.openai).routes(),
        *OpenAIBatchRoutes(Batches(store), wake).routes(),
    ]
