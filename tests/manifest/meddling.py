"""Changes to a manifest behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from packtrain._manifest.digests import COLUMNS, digest_of, install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def meddled(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose changes are committed at the end of the block, with digests that fit: a defect of ours, or a
    release without digests, could have written them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        install(connection)
        yield connection
        for table in COLUMNS:
            connection.execute(f"UPDATE {table} SET digest = {digest_of(table)}")  # noqa: S608 - names of ours
