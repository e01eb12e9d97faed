"""The table of features by google-genai version."""

from __future__ import annotations

import pytest

from .genai_features import FEATURES, FIRST, VERSION, has


@pytest.mark.parametrize("feature", FEATURES)
def test_no_test_is_left_out_for_what_the_package_has(feature: str) -> None:
    """The installed package has the features of its version, and no later ones."""
    _, seen = FEATURES[feature]
    assert seen() is has(feature)


def test_version_has_batches() -> None:
    """Older ones have batches of Vertex AI only."""
    assert VERSION >= FIRST
