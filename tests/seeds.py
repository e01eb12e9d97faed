"""The seed of all random choices in tests, fixed unless TEST_SEED names another one, and how many they are."""

from __future__ import annotations

import os
import random

#: A whole number; a nightly run gives another one each time.
GIVEN = os.environ.get("TEST_SEED")
SEED = int(GIVEN or 20261129)
#: Whether TEST_LONG asks for the long form of tests that run a part of their examples.
LONG = bool(os.environ.get("TEST_LONG"))


def short(few: int, full: int) -> int:
    """The number of examples: few, or the full number with TEST_LONG."""
    return full if LONG else few


def seeded(name: str) -> random.Random:
    """A generator for one test or one use in it; the seed is printed, and shown when the test fails."""
    print(f"TEST_SEED={SEED}")
    return random.Random(f"{SEED} {name}")
