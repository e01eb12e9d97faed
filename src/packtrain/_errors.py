"""Everything that packtrain raises: one condition a class, its facts as attributes.

``str(error)`` states the fact in one sentence; what a person can do about it is worded by the caller, here ``cli/``.
Exceptions of other libraries are translated once, where they enter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, dataclass_transform

from ._text import encodable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: The meaning of a refusal, in the words of every provider.
#: ``throttled``: nothing was made; wait and send again. ``file_gone``: nothing was made, for the input file is gone.
#: ``barred``: no request of the run is taken until a person acts on key, model or permission. ``refused``: the service
#: does not take this content. ``absent``: the thing asked for does not exist, or is not ours to see.
Refusal = Literal["throttled", "file_gone", "barred", "refused", "absent"]


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(field,))
class _Facts:
    """Annotations of a subclass are its keyword arguments and attributes."""

    def __init_subclass__(cls) -> None:
        dataclass(eq=False, kw_only=True)(cls)


class PacktrainError(_Facts, Exception):
    """The base of all errors raised on purpose."""

    message: str = field(kw_only=False)

    def __str__(self) -> str:
        """Any stream takes it, also when a file name in it is not UTF-8."""
        return encodable(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        return _bare, (type(self), self.message), vars(self)


def _bare(kind: type[PacktrainError], message: str) -> PacktrainError:
    """An error that is copied or unpickled, before its facts are set."""
    return kind.__new__(kind, message)


# --- what the caller gave


class InputError(PacktrainError):
    """The input, or an argument, cannot be used."""


class InputDamaged(InputError):
    """Compressed input that is cut short or damaged."""

    name: str


class OtherFormat(InputError):
    """An input is of another kind than the lines of the run; ``kind`` is one of ``_rules.diagnosis.Kind``."""

    name: str
    kind: str


class InputChanged(InputError):
    """A source is no longer what the run was started with; ``mtime_ns`` then, where only that differs."""

    name: str
    mtime_ns: int | None = None


class OtherInputs(InputError):
    """Inputs that the run was not started with."""

    started_with: Sequence[str]


class OutputTaken(InputError):
    """A file that is not of this run has the name of an output."""

    path: Path


class OutputReserved(OutputTaken):
    """Another run is to be published under the name of an output; ``state`` is its state directory, where known."""

    state: Path | None = None


class OutputIsInput(InputError):
    """An output would replace an input."""

    path: Path


class OutputUnknown(InputError):
    """Nothing says where the answers of a published run are, or they went to another kind of output."""


class NoRun(InputError):
    """There is no run in the state directory."""

    state: Path


class DecisionRefused(InputError):
    """A decision about a shard that cannot be taken; ``path`` is the shard's file where that is the reason."""

    shard: int | None = None
    path: Path | None = None


class OtherContent(InputError):
    """A job at the service was made of other lines, or for another model, than those given to recover it."""

    run: str


# --- the service and the network


class TransportError(PacktrainError):
    """The network failed before a complete reply arrived.

    ``sent`` is False only when not one byte of the request can have left this machine.
    """

    sent: bool = True
    #: Seconds to wait before another try, where one that comes earlier would be in vain.
    retry_after: float | None = None


class GatewayError(TransportError):
    """Something other than the service answered: a proxy, a gateway, a login page. The service may be well."""

    #: The HTTP status.
    status: int


class ApiError(PacktrainError):
    """The service refused a call."""

    #: The HTTP status.
    status: int
    #: The service's own name for the error; None without a proper error body.
    code: str | None = None
    #: Seconds that the service asks us to wait, if it said so.
    retry_after: float | None = None
    #: What the provider makes of it; None when the answer is not definite, so that a create may have been accepted.
    kind: Refusal | None = None


class ProtocolError(PacktrainError):
    """A reply, or a call of ours, that the protocol does not allow."""


# --- files and the manifest


class IntegrityError(PacktrainError):
    """Bytes are not the bytes they should be."""


class FileDamaged(IntegrityError):
    """A file of the state directory is missing or changed; ``run`` is the run's token."""

    path: Path
    manifest: Path
    run: str


class KeysDamaged(IntegrityError):
    """The ledger of keys is incomplete or damaged."""

    path: Path


class ManifestError(PacktrainError):
    """The manifest cannot be used, or does not take a write."""


class InUse(ManifestError):
    """Another process holds the state directory or its database."""

    path: Path


class UnsafeDirectory(ManifestError):
    """A directory that cannot keep a manifest safely: a link, of another user, open to others, on a network."""

    path: Path


class ManifestDamaged(ManifestError):
    """The database is damaged, or a row in it cannot be read."""

    path: Path | None = None


class ManifestGone(ManifestError):
    """The database is gone, or a file that it needs; ``runs`` are the known token and model of each run."""

    path: Path
    runs: Sequence[tuple[str, str]]


class ManifestExists(ManifestError):
    """A manifest, or a part of one, is where a new one should be made."""

    path: Path


class NewerSchema(ManifestError):
    """The database was written by a newer version."""

    path: Path


class Restored(ManifestError):
    """The manifest was copied, moved or put back, so it may not know of every job that was created."""

    state: Path


class OtherAccount(ManifestError):
    """The service, or the key, does not show the jobs that this state directory had created."""

    state: Path
    #: Only the key differs.
    key: bool


class OtherSettings(ManifestError):
    """The run was started with other settings; ``sent`` when it may have created a job."""

    run: str
    sent: bool


class UnknownRun(ManifestError):
    """The manifest has no run of this name."""

    run: str


class NothingToRecover(ManifestError):
    """The service lists no job of the run."""

    run: str


class OutputChanged(ManifestError):
    """The output of a published run is missing or no longer what was published."""

    path: Path


class Conflict(ManifestError):
    """A write that the manifest does not take, because the row is no longer as it was read; nothing was written."""


class QuotaFull(Conflict):
    """A reservation of ``amount`` does not fit the quota of ``what`` at ``service``; nothing was written."""

    service: str
    what: str
    used: int
    most: int
    amount: int


# --- the run stopped before its end; the same call again goes on


class IncompleteRun(PacktrainError):
    """The run stopped before every line had its answer; starting it again goes on."""

    @property
    def quarantined(self) -> int:
        """The number of shards that wait for a person's decision."""
        return 0


class DiskFull(IncompleteRun):
    """The disk takes no more bytes; ``limit`` when it is a limit on the size of a file."""

    path: Path
    limit: bool = False


class DiskFailed(IncompleteRun):
    """A file cannot be written or read."""

    path: Path


class Stopped(IncompleteRun):
    """A stop was asked for before the end."""

    run: str


class InputUnfinished(IncompleteRun):
    """The input of the run was not read to its end."""

    run: str


class OutputBlocked(IncompleteRun):
    """A file that is not of this run has taken the name of an output since the run began; all answers are kept."""

    path: Path

    @property
    def quarantined(self) -> int:
        return 1


class WorkerLost(IncompleteRun):
    """A worker process ended, or could not be started."""


class DecisionNeeded(IncompleteRun):
    """Shards are quarantined until a person decides; all others are done."""

    state: Path
    run: str
    #: The run's token.
    token: str
    #: Shard -> why it is quarantined.
    shards: Mapping[int, str]
    #: Shard -> the job that may be adopted for it.
    candidates: Mapping[int, str]

    @property
    def quarantined(self) -> int:
        return len(self.shards)


class UploadFailed(IncompleteRun):
    """A single file could not be uploaded."""

    path: Path

    @property
    def quarantined(self) -> int:
        return 1
