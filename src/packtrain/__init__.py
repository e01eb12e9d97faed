"""Send very large JSONL workloads through LLM Batch APIs: nothing lost, nothing paid for twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._adopt import adopt
    from ._client import Client, open_client
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
    from ._finished import finished
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
    from ._recover import recover
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

#: Where each name is. A module is imported when something of it is first asked for, so that ``import packtrain`` is
#: quick, and the command line loads what it uses and no more.
_PLACES = {
    "Adoption": "_reports",
    "ApiError": "_errors",
    "BatchState": "_model",
    "CheckReport": "_reports",
    "Client": "_client",
    "Cursor": "_model",
    "Decision": "_model",
    "Extra": "_model",
    "ExtraState": "_model",
    "Finding": "_reports",
    "Gemini": "_service",
    "IncompleteRun": "_errors",
    "InputError": "_errors",
    "IntegrityError": "_errors",
    "Job": "_model",
    "Limits": "_model",
    "Local": "_service",
    "ManifestError": "_errors",
    "MergeReport": "_reports",
    "Options": "_options",
    "PacktrainError": "_errors",
    "Progress": "_reports",
    "ProtocolError": "_errors",
    "Recovery": "_reports",
    "Reject": "_model",
    "RemoteBatch": "_model",
    "RemoteFile": "_model",
    "Request": "_model",
    "Result": "_model",
    "RowError": "_model",
    "Run": "_model",
    "Secret": "_model",
    "Service": "_service",
    "Shard": "_model",
    "SplitReport": "_reports",
    "State": "_model",
    "Statistics": "_model",
    "Status": "_reports",
    "Summary": "_reports",
    "Tally": "_model",
    "Task": "_model",
    "TransportError": "_errors",
    "Verification": "_reports",
    "adopt": "_adopt",
    "check": "_stages.check",
    "finished": "_finished",
    "merge": "_stages.merge",
    "open_client": "_client",
    "recover": "_recover",
    "serving": "server",
    "split": "_stages.split",
    "status": "_status",
    "upload": "_stages.upload",
    "verify": "_verify",
}


if not TYPE_CHECKING:  # or a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module 'packtrain' has no attribute {name!r}")
        from importlib import import_module

        found = globals()[name] = getattr(import_module(f".{_PLACES[name]}", __name__), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "annotations"})
