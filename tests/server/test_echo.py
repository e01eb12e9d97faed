"""The echo backend."""

from __future__ import annotations

import math

import pytest
from msgspec import Raw, json

from packtrain._model import RowError, Task
from packtrain.server.backends.echo import Echo, embed, words


def cosine(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(embed(one, 256), embed(other, 256), strict=True))


async def answer(task: Task, request: object) -> bytes | RowError:
    (found,) = await Echo().answer([Raw(json.encode(request))], task=task, model="models/m-1")
    return found


async def test_generate_gives_back_the_last_content() -> None:
    """The texts of the parts of the last content, joined; the same request gives the same bytes."""
    contents = [
        {"parts": [{"text": "first"}]},
        {"role": "user", "parts": [{"text": "a"}, {"inline": 1}, {"text": "b"}]},
    ]
    found = await answer("generate", {"contents": contents, "generationConfig": {"temperature": 1}})
    assert found == await answer("generate", {"contents": contents, "generationConfig": {"temperature": 1}})
    assert isinstance(found, bytes)
    response = json.decode(found)
    (candidate,) = response["candidates"]
    assert candidate["content"] == {"parts": [{"text": "ab"}], "role": "model"}
    assert candidate["finishReason"] == "STOP"
    assert response["modelVersion"] == "m-1"
    assert response["usageMetadata"]["totalTokenCount"] == 2
    assert len(response["responseId"]) == 24


@pytest.mark.parametrize(
    ("task", "request_"),
    [
        ("generate", {}),
        ("generate", {"contents": "text"}),
        ("generate", {"contents": [{"parts": [{"text": 1}]}]}),
        ("embed", {}),
        ("embed", {"content": {"parts": []}}),
        ("embed", {"content": {"parts": [{"text": "x"}]}, "outputDimensionality": -1}),
        ("embed", {"content": {"parts": [{"text": "x"}]}, "outputDimensionality": 100_000}),
    ],
)
async def test_invalid_request_is_an_error_of_its_row(task: Task, request_: object) -> None:
    """Code 3 with the reason, never an exception."""
    found = await answer(task, request_)
    assert isinstance(found, RowError)
    assert found.code == 3
    assert found.message


@pytest.mark.parametrize("dimensions", [1, 2, 8, 256, 3072])
def test_vectors_have_length_one(dimensions: int) -> None:
    """A unit vector of the requested dimension for any text."""
    for text in ("one", "the", "!?", "a quick brown fox " * 50, "ÄÖÜ naïve 数据", "x y"):
        vector = embed(text, dimensions)
        assert len(vector) == dimensions
        assert math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-4)


def test_similarity_follows_shared_words() -> None:
    """Case, order, punctuation and stop words do not count; shared words do."""
    assert math.isclose(cosine("Open a file", "file: OPEN the"), 1.0, abs_tol=1e-4)
    near = cosine("read lines from a text file", "how to read a file line by line")
    far = cosine("read lines from a text file", "sockets and servers over TCP")
    assert near > 0.3 > far


def test_repeated_words_weigh_less_than_in_proportion() -> None:
    """1 + log of the count: ten times the word is not ten times the weight."""
    vector = embed("apple " * 10 + "pear", 256)
    weights = sorted(abs(value) for value in vector if value)
    assert math.isclose(weights[1] / weights[0], 1 + math.log(10), rel_tol=1e-3)


def test_vectors_are_deterministic() -> None:
    """They depend on the text alone, not on the process: a golden value."""
    assert embed("hello world", 4) == [0.0, 0.707107, 0.0, -0.707107]


def test_words_are_lower_case_and_without_stop_words() -> None:
    """Separated by anything but letters and digits; a text of only stop words keeps them."""
    assert words("The str.join() of Python_3, naïve") == ["str", "join", "python", "3", "naïve"]
    assert words("to be or not to be") == ["to", "be", "or", "not", "to", "be"]
