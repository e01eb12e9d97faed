"""The two files of a batch's results grow together, or not at all."""

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


def test_a_block_that_only_one_of_the_files_takes_is_in_neither(tmp_path: Path) -> None:
    """So that it can be written once more when there is room; what was there before stays."""
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
