"""For those who test: faults on demand for the local service, and conformance suites for parts of one's own.

The suites stand in modules of their own and need pytest and anyio's plugin for it.
"""

from ..server.faults import (
    Delay,
    Drop,
    Duplicate,
    Edit,
    Expire,
    FaultPlan,
    Flip,
    Garble,
    Header,
    Late,
    List,
    Overrun,
    Results,
    Rewind,
    Script,
    Slow,
    Status,
    Step,
    Truncate,
    read_plan,
)

__all__ = [
    "Delay",
    "Drop",
    "Duplicate",
    "Edit",
    "Expire",
    "FaultPlan",
    "Flip",
    "Garble",
    "Header",
    "Late",
    "List",
    "Overrun",
    "Results",
    "Rewind",
    "Script",
    "Slow",
    "Status",
    "Step",
    "Truncate",
    "read_plan",
]
