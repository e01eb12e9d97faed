"""For those who test: a manual clock, failpoints, faults on demand for the local service, and conformance suites.

The suites, for parts of one's own, stand in modules of their own and need pytest and anyio's plugin for it.
"""

from .._io.effects import Failpoints, armed
from ..server.faults.plan import (
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
from .clock import ManualClock

__all__ = [
    "Delay",
    "Drop",
    "Duplicate",
    "Edit",
    "Expire",
    "Failpoints",
    "FaultPlan",
    "Flip",
    "Garble",
    "Header",
    "Late",
    "List",
    "ManualClock",
    "Overrun",
    "Results",
    "Rewind",
    "Script",
    "Slow",
    "Status",
    "Step",
    "Truncate",
    "armed",
    "read_plan",
]
