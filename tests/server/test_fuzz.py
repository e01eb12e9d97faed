"""Calls generated from the OpenAPI document. ``scripts/torture fuzz`` is the long form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtrain.server import serving
from packtrain.server.wires.gemini.openapi import GEMINI
from packtrain.server.wires.openai.openapi import OPENAI
from tests.fuzz.campaign import fuzz

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20261122
#: Random examples per operation, in addition to the schema coverage phase.
EXAMPLES = 1


async def test_responses_conform_to_the_openapi_document(directory: Path, tmp_path: Path) -> None:
    """Every operation: no 5xx; statuses, media types, headers and bodies as documented."""
    print(f"seed {SEED}")
    async with serving(directory) as origin:
        options = ["--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES)]
        outcome = await fuzz(origin, tmp_path, seed=SEED, options=options)
    print(outcome.tally)
    assert outcome.passed, outcome.output
    assert outcome.tally.keys() >= GEMINI.operations.keys() | OPENAI.operations.keys()
    assert outcome.answered >= {"files.get", "files.download", "batches.create", "batches.get", "openai.files.get"}
