"""Plans of faults: how the service shall misbehave, as values. A plan is written in TOML or in Python.

    seed = 7
    list_lag = 2.0

    [[rules]]
    do = "drop"                 # the job is made, and the answer lost
    route = "batches.create"
    calls = [1]
    acted = true

A rule says what (``do``), where (``route``) and when. Every rule that strikes is written to truth.jsonl as a
``fault``; apart from that the log tells what really happened, whatever the client was told.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


#: From 0, and from 1.
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do", tag=str.lower):
    """When: of the calls that it is about those in ``calls``, or a ``share`` of them, at most so many ``times``."""

    #: The name of a route, as in ``batches.create``; ``*`` stands for any part of it.
    route: str
    #: Of upload.data: the command, as in ``query`` or ``upload, finalize``.
    command: str = ""
    #: Which of these calls, counted from 1 since the start of the service; empty for all.
    calls: tuple[Number, ...] = ()
    #: The probability, drawn with the plan's seed.
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    times: Number | None = None


class Drop(Fault, frozen=True, kw_only=True):
    """The connection breaks without an answer: before the call is acted on, or afterwards."""

    acted: bool = False


class Delay(Fault, frozen=True, kw_only=True):
    """The call waits before it is acted on: ``seconds``, or until a call of the route ``until`` has ended."""

    seconds: Seconds = 0.0
    until: str = ""


class Late(Fault, frozen=True, kw_only=True):
    """The connection breaks at once, and the call is acted on later all the same. The wait is as in Delay."""

    seconds: Seconds = 0.0
    until: str = ""


class Duplicate(Fault, frozen=True, kw_only=True):
    """The call is acted on twice, as if a proxy had sent it again."""


class Status(Fault, frozen=True, kw_only=True):
    """Another answer: with the error JSON of Google, or of OpenAI on its wire, as a proxy's page, or empty; with or
    without having acted."""

    status: Annotated[int, Meta(ge=200, le=599)]
    message: str = "A fault was asked for."
    form: Literal["google", "html", "empty"] = "google"
    headers: dict[str, str] = {}
    acted: bool = False


class Header(Fault, frozen=True, kw_only=True):
    """A header of the answer is set, or left out without a ``value``."""

    name: str
    value: str | UnsetType = UNSET


class Edit(Fault, frozen=True, kw_only=True):
    """A member of the answer's JSON is set, or left out without a ``value``.

    ``member`` is a path as in ``metadata.state``; ``*`` stands for every item of a list.
    """

    member: str
    value: str | int | float | bool | list[object] | dict[str, object] | UnsetType = UNSET


class Garble(Fault, frozen=True, kw_only=True):
    """The body of the answer becomes rubbish of the same length."""


class Truncate(Fault, frozen=True, kw_only=True):
    """The body ends after ``at`` bytes, and with it the connection.

    Without ``length`` there is no Content-Length either, so that HTTP takes the end for a good one.
    """

    at: Count
    length: bool = True


class Slow(Fault, frozen=True, kw_only=True):
    """The body comes at this many bytes per second."""

    rate: Annotated[float, Meta(gt=0)]


class List(Fault, frozen=True, kw_only=True):
    """A page of a list: without items, with every item twice, in disorder, or with a token that never ends."""

    how: Literal["empty", "doubled", "shuffled", "looping"]


class Expire(Fault, frozen=True, kw_only=True):
    """Before the call, what it names is gone: the upload of upload.data, the file of any other call."""


class Rewind(Fault, frozen=True, kw_only=True):
    """After the data call, the service has lost its last ``bytes``."""

    bytes: Count


class Overrun(Fault, frozen=True, kw_only=True):
    """The answer of the data call claims that so many ``bytes`` more are stored."""

    bytes: Count


class Flip(Fault, frozen=True, kw_only=True):
    """One bit of the file that the call has finished turns; its hash is that of the bytes stored."""

    bit: Count = 0


class Results(Fault, frozen=True, kw_only=True):
    """Before the download, the lines of the results change on the disk, once a file.

    ``conflicting`` puts an error row before a good one of the same key.
    """

    how: Literal["shuffled", "reversed", "repeated", "conflicting", "missing", "unknown", "crlf"]


Rule = (
    Drop
    | Delay
    | Late
    | Duplicate
    | Status
    | Header
    | Edit
    | Garble
    | Truncate
    | Slow
    | List
    | Expire
    | Rewind
    | Overrun
    | Flip
    | Results
)


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A state that a job is said to be in, for so many ``looks``; 0 is for ever."""

    #: As in ``RUNNING``, or with a prefix as in ``JOB_STATE_RUNNING``; any word will do. The output is not shown.
    state: str
    looks: Count = 1


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told of ``jobs``, counted from 1 in the order of their creation, empty for all; then the truth."""

    jobs: tuple[Number, ...] = ()
    steps: Annotated[tuple[Step, ...], Meta(min_length=1)]


class FaultPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Times in seconds."""

    seed: int = 0
    rules: tuple[Rule, ...] = ()
    scripts: tuple[Script, ...] = ()
    #: A create whose input file is gone: ``strict`` refuses it, ``lazy`` accepts it, and the job fails later; ``blind``
    #: has not noticed, and the job succeeds on what was deleted.
    missing_input: Literal["strict", "lazy", "blind"] = "strict"
    #: A job whose input file is deleted before it ended: it keeps it, or ``fails``.
    deleted_input: Literal["kept", "fails"] = "kept"
    #: The very same create once more makes a job ``again``, or answers with the ``same``.
    repeated_create: Literal["again", "same"] = "again"
    #: Whether the names are taken that clients choose for their files.
    chosen_names: bool = True
    #: The chosen name of a file that there is: ``refused`` with 409, or ``ignored``, so that it gets another one.
    taken_names: Literal["refused", "ignored"] = "refused"
    #: Whether a ``late`` call comes to nothing after the seconds of its X-Server-Timeout.
    server_timeout: bool = False
    #: How sha256Hash is written.
    hash_form: Literal["base64-hex", "base64", "hex"] = "base64-hex"
    #: Whether downloads honour Range.
    ranges: bool = True
    #: How long a new job is not in the list yet, a new file not found by its name, and a deleted one still found.
    list_lag: Seconds = 0.0
    file_lag: Seconds = 0.0
    delete_lag: Seconds = 0.0
    #: The largest page of a list, whatever the client asks for.
    page_size: Number | None = None


def read_plan(path: Path) -> FaultPlan:
    """Reads TOML. Raises InputError for a file that cannot be read, or that is not a plan."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=FaultPlan)
    except OSError as error:
        raise InputError(f"{path}: the plan of faults cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a plan of faults: {error}") from error


def check_plan(plan: FaultPlan, routes: Iterable[str]) -> None:
    """Raises InputError for values that make no sense, and for a rule about a route that there is not."""
    try:
        msgspec.convert(msgspec.to_builtins(plan), FaultPlan)
    except msgspec.ValidationError as error:
        raise InputError(f"plan of faults: {error}") from error
    known = sorted(set(routes))
    for rule in plan.rules:
        if not any(fnmatchcase(route, rule.route) for route in known):
            raise InputError(f"plan of faults: there is no route {rule.route!r}; there are: {', '.join(known)}")
