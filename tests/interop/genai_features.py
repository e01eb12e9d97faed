"""Features of google-genai by version, from 1.22 on, the first with batches for the Gemini API.

The tests run with any version from there on. FEATURES lists what older ones lack, and a test
compares that table with the package, so that no available feature goes untested.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
from google import genai
from google.genai import batches, files, types
from google.genai.client import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = tuple(int(part) for part in genai.__version__.split(".")[:2])
FIRST = (1, 22)

Version = tuple[int, int]


def _deletes_jobs() -> bool:
    """Earlier versions had the method, but for Vertex AI only."""
    return "only supported in the Vertex AI client" not in inspect.getsource(batches.Batches.delete)


def _downloads_to_disk() -> bool:
    return "destination" in inspect.signature(files.Files.download).parameters


def _reads_row_errors() -> bool:
    """Earlier versions dropped the members of an inline row's error; no public name shows it."""
    convert = getattr(batches, "_JobError_from_mldev", None)
    return convert is None or convert({"code": 3}, {}) == {"code": 3}


#: The version that brought it, and whether the installed package has it.
FEATURES: dict[str, tuple[Version, Callable[[], bool]]] = {
    "deletes jobs": ((1, 24), _deletes_jobs),
    "reads errors of rows": ((1, 26), _reads_row_errors),
    "knows when a job is done": ((1, 34), lambda: hasattr(types.BatchJob, "done")),
    "embeds in jobs": ((1, 34), lambda: hasattr(batches.Batches, "create_embeddings")),
    "closes": ((1, 39), lambda: hasattr(genai.Client, "__enter__") and hasattr(AsyncClient, "__aenter__")),
    "sends metadata": ((1, 43), lambda: "metadata" in types.InlinedRequest.model_fields),
    "registers files": ((1, 57), lambda: hasattr(files.Files, "register_files")),
    "reads metadata": ((1, 61), lambda: "metadata" in types.InlinedResponse.model_fields),
    "downloads to disk": ((2, 21), _downloads_to_disk),
}


def has(feature: str) -> bool:
    since, _ = FEATURES[feature]
    return since <= VERSION


def needs(feature: str) -> pytest.MarkDecorator:
    since, _ = FEATURES[feature]
    reason = f"google-genai {feature} since {'.'.join(map(str, since))}"
    return pytest.mark.skipif(not has(feature), reason=reason)
