"""The rows of Google's results: gRPC's numbers and names, which of them pass, and what becomes of a generation."""

from __future__ import annotations

from ..._model import Verdict
from ..._rules.lines import Generation, LineShape

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

_BLOCKED = (
    "SAFETY",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
)
_RECITATION = ("RECITATION", "IMAGE_RECITATION")

GENERATION = Generation(
    candidates="candidates",
    parts=("content", "parts"),
    finish="finishReason",
    complete=("STOP", "FINISH_REASON_UNSPECIFIED"),
    classes=(
        ("MAX_TOKENS", Verdict.TRUNCATED),
        *((reason, Verdict.BLOCKED) for reason in _BLOCKED),
        *((reason, Verdict.RECITATION) for reason in _RECITATION),
    ),
    refusal=("promptFeedback", "blockReason"),
    envelope=("promptFeedback", "usageMetadata", "modelVersion", "responseId", "createTime", "modelStatus"),
    usual=('"}],"role":"model"},"finishReason":"STOP"', '"}], "role": "model"}, "finishReason": "STOP"'),
    vector=('"embedding":{"values":[', '"embedding": {"values": ['),
)

LINES = LineShape(
    generation=GENERATION,
    passing=tuple(code for number, name, passes in GRPC if passes for code in (number, name)),
    cancelled=(1, "CANCELLED"),
    lasting=tuple(code for number, name, passes in GRPC if not passes for code in (number, name)),
)
