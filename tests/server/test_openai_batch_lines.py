"""Atomic writes to the two result files of a batch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw

from packtrain._model import RowError
from packtrain.server.blobs import Appender, Blobs, Digest
from packtrain.server.wires.openai.batch_lines import BatchWriter, Line
from packtrain.server.wires.openai.translation import Translated

if TYPE_CHECKING:
    from pathlib import Path

ANSWERED = Line("1", "a", Translated([Raw(b"{}")], "m", lambda answers: answers[0]))
REFUSED = Line("2", "b", RowError(code=3, message="no"))


def test_block_is_in_both_files_or_in_neither(tmp_path: Path) -> None:
    """It can be written again when there is space; earlier lines stay."""
    blobs = Blobs(tmp_path / "blobs")
    with (
        blobs.appender(blobs.create(), Digest()) as output,
        Appender(os.open("/dev/full", os.O_WRONLY), Digest()) as errors,
    ):
        results = BatchWriter(output, errors)
        results.write([ANSWERED], [b"{}"])
        before = output.digest.sha256
        with pytest.raises(OSError):
            results.write([ANSWERED, REFUSED], [b"{}"])
        assert (results.counts.succeeded, results.counts.failed, output.digest.sha256) == (1, 0, before)
        (name,) = blobs.names()
        assert blobs.digest(name).sha256 == before
    blobs.close()
