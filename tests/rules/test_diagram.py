"""The page about the protocol shows the table as it is."""

from __future__ import annotations

from packtrain._model import State
from packtrain._rules.lifecycle import TABLE
from tests.rules.diagram import BEGIN, END, PAGE, diagram, renewed


def test_the_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    """When it is not, ``python -m tests.rules.diagram`` writes it anew."""
    page = PAGE.read_text()
    assert BEGIN in page and END in page
    assert page == renewed(page)


def test_the_diagram_leaves_nothing_out() -> None:
    """Every state and every event."""
    drawn = diagram()
    assert all(f"    {state} -->" in drawn for state in State)
    assert all(f"| {event.__name__} |" in drawn for event in TABLE)
