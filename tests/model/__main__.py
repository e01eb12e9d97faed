"""Search the model and print the tables of docs/internals/model.md; ends with 1 if a cell differs.

usage: python -m tests.model [--largest]
"""

from __future__ import annotations

import json
import sys
import time

from .protocols import LARGEST, REFINEMENTS, REFUSALS, TABLE, WITHOUT_FILE_CHECK, WORLDS, Cell, Row
from .search import explore


def line(row: Row, cells: tuple[Cell, ...]) -> str:
    """One row of a table in Markdown."""
    protocol, bounds = row
    shown = (f"**YES** in {cell.steps}" if cell.steps else f"no, {cell.states:,} states" for cell in cells)
    return f"| {protocol.name} | {bounds.drivers} | {bounds.crashes} | " + " | ".join(shown) + " |"


def found(row: Row, cells: tuple[Cell, ...], *, checks_file: bool = True, refusals: int = 0) -> tuple[Cell, ...]:
    """What the search finds; it goes through all states where the expectation says how many there are."""
    protocol, bounds = row
    seen: list[Cell] = []
    for world, expected in zip(WORLDS.values(), cells, strict=True):
        world = world._replace(checks_file=checks_file, refusals=refusals)
        findings = explore(protocol, world, bounds, whole=expected.states is not None)
        way = findings.counterexample
        seen.append(Cell(len(way)) if way else Cell(None, findings.states))
    return tuple(seen)


def main(arguments: list[str]) -> int:
    tables = {"two live jobs?": TABLE, "without the file check": WITHOUT_FILE_CHECK, "refinements": REFINEMENTS}
    tables["a refusal that may be an acceptance"] = REFUSALS
    if "--largest" in arguments:
        tables |= {"three drivers": LARGEST}
    wrong = 0
    for title, table in tables.items():
        began = time.monotonic()
        print(f"{title}\n| protocol | drivers | crashes | {' | '.join(WORLDS)} |\n|---|---|---|---|---|---|---|")
        for row, cells in table.items():
            refusals = int(table is REFUSALS)
            seen = found(row, cells, checks_file=table is not WITHOUT_FILE_CHECK, refusals=refusals)
            wrong += seen != cells
            print(line(row, seen) + ("" if seen == cells else f"  EXPECTED {cells}"), flush=True)
        print(f"({time.monotonic() - began:.0f} s)\n")
    print(json.dumps({"campaign": "model", "tables": len(tables), "cells that differ": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
