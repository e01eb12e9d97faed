"""What models and answers may be called."""

from __future__ import annotations

import pytest

from packtrain import InputError
from packtrain._validation import check_model, check_out

GOOD = (
    "m",
    "gemini-2.5-flash",
    "gemini-2.5-flash@001",
    "models/gemini-embedding-001",
    "tunedModels/mine",
    "publishers/google/models/gemini-2.0-flash",
    "ft:llama3.1_8b",
    "..m",
)


@pytest.mark.parametrize("model", GOOD)
def test_models_are_taken_as_they_are_named(model: str) -> None:
    """Of this service and of others, tuned ones as well."""
    check_model(model)


@pytest.mark.parametrize(
    "model", ["", "..", "a/../b", "a/..", "./a", "a//b", "a/", "/a", "a b", "a\n", "a?b", "a%2fb", "é"]
)
def test_what_would_be_another_path_is_no_model(model: str) -> None:
    """Its name becomes part of the path that jobs are created at."""
    with pytest.raises(InputError, match="no name of a model"):
        check_model(model)


@pytest.mark.parametrize("out", ["o", "o.jsonl", "d/o", "/d/o", "d/", "../o", "...", "-"])
def test_answers_have_a_name(out: str) -> None:
    """A file, or with a slash a directory."""
    check_out(out)


@pytest.mark.parametrize("out", ["", ".", "..", "/", "./", "../", "d/.", "d/..", "d/../"])
def test_answers_without_a_name_are_refused(out: str) -> None:
    """The state directory and the lists are called after them."""
    with pytest.raises(InputError, match="has no name of its own"):
        check_out(out)
