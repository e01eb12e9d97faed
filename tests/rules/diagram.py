"""The life of a shard as it stands in docs/internals/exactly-once.md, drawn from the table.

``python -m tests.rules.diagram`` writes it there anew.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from packtrain._model import State
from packtrain._rules.lifecycle import TABLE, Quarantined

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "exactly-once.md"
BEGIN, END = "<!-- lifecycle: begin -->\n", "<!-- lifecycle: end -->\n"


def diagram() -> str:
    """A Mermaid diagram, without the quarantine that leads nearly everywhere from, and a table of all events."""
    arrows = ["    [*] --> sealed"]
    for event, (before, after) in TABLE.items():
        if event is not Quarantined:
            arrows += [f"    {state} --> {after}: {event.__name__}" for state in State if after and state in before]
    arrows.append("    closed --> [*]")
    return "\n".join(["```mermaid", "stateDiagram-v2", *_joined(arrows), "```", "", *_table(), ""])


def _joined(arrows: list[str]) -> list[str]:
    """One arrow for all events between the same two states."""
    ends = sorted(arrows, key=lambda arrow: arrow.partition(":")[0])
    lines = {
        way: ", ".join(filter(None, (arrow.partition(": ")[2] for arrow in group)))
        for way, group in groupby(ends, lambda arrow: arrow.partition(":")[0])
    }
    order = dict.fromkeys(arrow.partition(":")[0] for arrow in arrows)
    return [f"{way}: {lines[way]}" if lines[way] else way for way in order]


def _table() -> list[str]:
    rows = ["| event | in | leads to | what happened |", "|---|---|---|---|"]
    for event, (before, after) in TABLE.items():
        where = ", ".join(state for state in State if state in before)
        said = " ".join((event.__doc__ or "").split()).replace("``", "`")
        rows.append(f"| {event.__name__} | {where} | {after or 'the same'} | {said} |")
    return rows


def renewed(page: str) -> str:
    """The page with the diagram as it is now."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{diagram()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
