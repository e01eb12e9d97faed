"""The suites live in the package; their asserts are to explain themselves as those of tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("packtrain.testing.manifests")
