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
    from ._adopt import adopt
    from ._client import Client, open_client
    from ._finished import finished
    from ._recover import recover
    from ._stages.check import check
    from ._stages.merge import merge
    from ._stages.split import split
    from ._stages.upload import upload
    from ._status import status
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
    "adopt": "_adopt",
    "check": "_stages.check",
    "finished": "_finished",
    "merge": "_stages.merge",
    "recover": "_recover",
    "serving": "server",
    "split": "_stages.split",
    "status": "_status",
    "upload": "_stages.upload",
    "verify": "_verify",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'packtrain' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
