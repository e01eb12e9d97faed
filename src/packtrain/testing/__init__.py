"""Parts for tests: a manual clock, failpoints, faults on demand for the local service, and conformance suites.

The suites are modules of this package; they need pytest and anyio's pytest plugin.
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
