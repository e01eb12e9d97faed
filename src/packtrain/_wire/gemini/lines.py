"""The errors of Google's rows: gRPC's numbers and names, and which of them pass."""

from __future__ import annotations

from ..._rules.lines import LineShape

#: Number, name, and whether the same request may fare better another time.
GRPC: tuple[tuple[int, str, bool], ...] = (
    (1, "CANCELLED", True),
    (2, "UNKNOWN", True),
    (3, "INVALID_ARGUMENT", False),
    (4, "DEADLINE_EXCEEDED", True),
    (5, "NOT_FOUND", False),
    (6, "ALREADY_EXISTS", False),
    (7, "PERMISSION_DENIED", False),
    (8, "RESOURCE_EXHAUSTED", True),
    (9, "FAILED_PRECONDITION", False),
    (10, "ABORTED", True),
    (11, "OUT_OF_RANGE", False),
    (12, "UNIMPLEMENTED", False),
    (13, "INTERNAL", True),
    (14, "UNAVAILABLE", True),
    (15, "DATA_LOSS", False),
    (16, "UNAUTHENTICATED", False),
)

LINES = LineShape(
    passing=tuple(code for number, name, passes in GRPC if passes for code in (number, name)),
    cancelled=(1, "CANCELLED"),
    lasting=tuple(code for number, name, passes in GRPC if not passes for code in (number, name)),
)
