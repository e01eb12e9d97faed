"""Everything that packtrain raises, on one screen.

Every message says what happened, where (``file:line``, shard, job), and what to do next.
Exceptions of other libraries are translated once, where they enter.
"""

from __future__ import annotations


class PacktrainError(Exception):
    """The base of all errors raised on purpose."""


class InputError(PacktrainError):
    """The input cannot be used: missing, unreadable, cut short, changed, or nothing in it is valid."""


class TransportError(PacktrainError):
    """The network failed before a complete answer arrived.

    ``sent`` is False only when not one byte of the request can have left this machine.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class ApiError(PacktrainError):
    """The service answered, and the answer is no."""

    def __init__(self, message: str, *, status: int, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        #: The HTTP status.
        self.status = status
        #: The service's own word for it, such as ``RESOURCE_EXHAUSTED``; None without a proper error body.
        self.code = code
        #: Seconds that the service asks us to wait, if it said so.
        self.retry_after = retry_after


class ProtocolError(PacktrainError):
    """An answer, or a call of ours, that the protocol does not allow."""


class IntegrityError(PacktrainError):
    """Bytes are not the bytes they should be."""


class ManifestError(PacktrainError):
    """The manifest cannot be used: held by another process, of another run, damaged, or too new."""


class IncompleteRun(PacktrainError):  # noqa: N818 - a condition of the run, as in "raise IncompleteRun"
    """The run stopped before every line had its answer; starting it again goes on.

    ``quarantined`` is the number of shards that wait for a person's decision.
    """

    def __init__(self, message: str, *, quarantined: int = 0) -> None:
        super().__init__(message)
        self.quarantined = quarantined
