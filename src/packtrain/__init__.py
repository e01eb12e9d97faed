"""Send very large JSONL workloads through LLM Batch APIs: nothing lost, nothing paid for twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import (
    ApiError,
    IncompleteRun,
    InputError,
    IntegrityError,
    ManifestError,
    PacktrainError,
    ProtocolError,
    TransportError,
)
from ._model import (
    BatchState,
    Cursor,
    Decision,
    Extra,
    ExtraState,
    Job,
    Limits,
    Reject,
    RemoteBatch,
    RemoteFile,
    Request,
    Result,
    RowError,
    Run,
    Secret,
    Shard,
    State,
    Statistics,
    Tally,
    Task,
)
from ._options import Options
from ._reports import (
    Adoption,
    CheckReport,
    Finding,
    MergeReport,
    Progress,
    Recovery,
    SplitReport,
    Status,
    Summary,
    Verification,
)
from ._service import Gemini, Local, Service

if TYPE_CHECKING:
    from ._client import Client, open_client
    from ._recovery import adopt, recover
    from ._runs import finished
    from ._stages import check, merge, split, status, upload
    from ._verify import verify
    from .server import serving

__all__ = (
    "Adoption",
    "ApiError",
    "BatchState",
    "CheckReport",
    "Client",
    "Cursor",
    "Decision",
    "Extra",
    "ExtraState",
    "Finding",
    "Gemini",
    "IncompleteRun",
    "InputError",
    "IntegrityError",
    "Job",
    "Limits",
    "Local",
    "ManifestError",
    "MergeReport",
    "Options",
    "PacktrainError",
    "Progress",
    "ProtocolError",
    "Recovery",
    "Reject",
    "RemoteBatch",
    "RemoteFile",
    "Request",
    "Result",
    "RowError",
    "Run",
    "Secret",
    "Service",
    "Shard",
    "SplitReport",
    "State",
    "Statistics",
    "Status",
    "Summary",
    "Tally",
    "Task",
    "TransportError",
    "Verification",
    "adopt",
    "check",
    "finished",
    "merge",
    "open_client",
    "recover",
    "serving",
    "split",
    "status",
    "upload",
    "verify",
)

#: What needs the network stack is imported when it is first asked for, so that ``import packtrain`` stays quick.
_LATER = {
    "Client": "_client",
    "open_client": "_client",
    "adopt": "_recovery",
    "check": "_stages",
    "finished": "_runs",
    "merge": "_stages",
    "recover": "_recovery",
    "serving": "server",
    "split": "_stages",
    "status": "_stages",
    "upload": "_stages",
    "verify": "_verify",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'packtrain' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
