"""The table of sown bugs fits the project; ``scripts/mutants`` sows them."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.sow import ROOT, mutated, place_of
from tests.mutants.table import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_has_one_place_and_tests_to_catch_it(mutant: Mutant) -> None:
    """Its text is there once, what replaces it is Python or SQL, and each test is there."""
    text = mutated(mutant, place_of(mutant).read_text())
    if mutant.file.endswith(".py"):
        ast.parse(text)
    for test in mutant.tests:
        file, _, function = test.partition("::")
        text = (ROOT / file).read_text()
        assert f"def {function}(" in text if function else "def test_" in text or "Suite" in text


def test_no_bug_is_counted_twice() -> None:
    """At least twenty, each of its own."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20


def test_a_text_that_no_longer_stands_there_is_an_error() -> None:
    """Nor one that stands there twice: nobody would know what was sown."""
    for text in ("", MUTANTS[0].old * 2):
        with pytest.raises(ValueError, match="not once"):
            mutated(MUTANTS[0], text)
