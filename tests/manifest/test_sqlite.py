"""The manifest in SQLite keeps every promise."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from packtrain._manifest.sqlite import open_sqlite
from packtrain.testing.manifests import ManifestSuite, OpenManifest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both_loops


class TestSqlite(ManifestSuite):
    @pytest.fixture
    def manifest(self, tmp_path: Path) -> OpenManifest:
        return partial(open_sqlite, tmp_path / "state" / "manifest.db")
