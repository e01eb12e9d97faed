"""Commands that messages tell people to give."""

from __future__ import annotations

from pathlib import Path

from packtrain._advice import resolving


def test_a_decision_can_be_given_as_it_is_told() -> None:
    """The run is named where it is not the one that `resolve` takes by itself, and names with blanks are one word.

    One with a dash at its start is no option.
    """
    others = "(or --drop, or --adopt NAME)"
    assert resolving(Path("a.packtrain"), 3, "main") == f"`packtrain resolve a.packtrain --shard 3 --retry` {others}"
    told = f"`packtrain resolve 'my state' --shard 0 --run monday --retry` {others}"
    assert resolving(Path("my state"), 0, "monday") == told
    assert resolving(Path("-x.packtrain"), 0, "main").startswith("`packtrain resolve ./-x.packtrain --shard 0 ")
