"""The manifest in memory keeps every promise."""

from __future__ import annotations

from functools import partial

import pytest

from packtrain._manifest.memory import Storage, open_memory
from packtrain.testing.manifests import ManifestSuite, OpenManifest


class TestMemory(ManifestSuite):
    @pytest.fixture
    def manifest(self) -> OpenManifest:
        return partial(open_memory, Storage())
