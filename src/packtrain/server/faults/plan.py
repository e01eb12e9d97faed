"""Fault plans as data, written in TOML or in Python.

    seed = 7
    list_lag = 2.0

    [[rules]]
    do = "drop"                 # the job is created, the response is lost
    route = "batches.create"
    calls = [1]
    acted = true

A rule says what (``do``), where (``route``) and when. Every rule that applies is logged to truth.jsonl as a
``fault``; otherwise the log records what happened, whatever the responses claimed.
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


#: Integers from 0, and from 1.
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do", tag=str.lower):
    """Selects calls: those numbered in ``calls``, or a ``share`` of them, at most ``times``."""

    #: The name of a route, as in ``batches.create``; ``*`` matches any part of it.
    route: str
    #: For upload.data: the command, as in ``query`` or ``upload, finalize``.
    command: str = ""
    #: Numbers of the matching calls, from 1 since the start of the service; empty for all.
    calls: tuple[Number, ...] = ()
    #: The probability, drawn with the plan's seed.
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    times: Number | None = None


class Drop(Fault, frozen=True, kw_only=True):
    """The connection breaks without a response, before or after the call is executed (``acted``)."""

    acted: bool = False


class Delay(Fault, frozen=True, kw_only=True):
    """The call is delayed by ``seconds``, or until a call of the route ``until`` has ended."""

    seconds: Seconds = 0.0
    until: str = ""


class Late(Fault, frozen=True, kw_only=True):
    """The connection breaks at once, and the call is executed later, after a delay as in Delay."""

    seconds: Seconds = 0.0
    until: str = ""


class Duplicate(Fault, frozen=True, kw_only=True):
    """The call is executed twice, as if a proxy had repeated it."""


class Status(Fault, frozen=True, kw_only=True):
    """Another response: the wire's error JSON (``google``), an HTML page of a proxy, or empty; with or without
    executing the call."""

    status: Annotated[int, Meta(ge=200, le=599)]
    message: str = "Injected fault."
    form: Literal["google", "html", "empty"] = "google"
    headers: dict[str, str] = {}
    acted: bool = False


class Header(Fault, frozen=True, kw_only=True):
    """A response header is set, or removed without a ``value``."""

    name: str
    value: str | UnsetType = UNSET


class Edit(Fault, frozen=True, kw_only=True):
    """A member of the response JSON is set, or removed without a ``value``.

    ``member`` is a path as in ``metadata.state``; ``*`` matches every item of a list.
    """

    member: str
    value: str | int | float | bool | list[object] | dict[str, object] | UnsetType = UNSET


class Garble(Fault, frozen=True, kw_only=True):
    """The response body is replaced by garbage of the same length."""


class Truncate(Fault, frozen=True, kw_only=True):
    """The connection closes after ``at`` bytes of the response body.

    Without ``length`` there is no Content-Length, so that the response looks complete to HTTP.
    """

    at: Count
    length: bool = True


class Slow(Fault, frozen=True, kw_only=True):
    """The response body is sent at ``rate`` bytes per second."""

    rate: Annotated[float, Meta(gt=0)]


class List(Fault, frozen=True, kw_only=True):
    """A list page without items, with every item twice, in random order, or with an endless page token."""

    how: Literal["empty", "doubled", "shuffled", "looping"]


class Expire(Fault, frozen=True, kw_only=True):
    """The resource expires before the call: the upload of upload.data, the file of any other call."""


class Rewind(Fault, frozen=True, kw_only=True):
    """The service loses the last ``bytes`` of the upload after the data call."""

    bytes: Count


class Overrun(Fault, frozen=True, kw_only=True):
    """The response to the data call claims ``bytes`` more than are stored."""

    bytes: Count


class Flip(Fault, frozen=True, kw_only=True):
    """One bit of the finished file flips; the reported hash is that of the stored bytes."""

    bit: Count = 0


class Results(Fault, frozen=True, kw_only=True):
    """The result lines on disk change before the download, once per file.

    ``conflicting`` puts an error row before a good one with the same key.
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
    """The state reported for a job in ``looks`` responses; 0 means forever."""

    #: As in ``RUNNING``, or with a prefix as in ``JOB_STATE_RUNNING``; any text is allowed. The output is hidden.
    state: str
    looks: Count = 1


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reported states of ``jobs``, numbered from 1 by creation, empty for all; afterwards the real state."""

    jobs: tuple[Number, ...] = ()
    steps: Annotated[tuple[Step, ...], Meta(min_length=1)]


class FaultPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A complete plan. Times in seconds."""

    seed: int = 0
    rules: tuple[Rule, ...] = ()
    scripts: tuple[Script, ...] = ()
    #: A create whose input file is deleted: ``strict`` refuses it; ``lazy`` accepts it and the job fails later;
    #: ``blind`` ignores the deletion and the job succeeds.
    missing_input: Literal["strict", "lazy", "blind"] = "strict"
    #: A live job whose input file is deleted: the input is ``kept``, or the job ``fails``.
    deleted_input: Literal["kept", "fails"] = "kept"
    #: A repeated identical create makes a job ``again``, or returns the ``same`` one.
    repeated_create: Literal["again", "same"] = "again"
    #: Whether clients may choose file names.
    chosen_names: bool = True
    #: A chosen name that exists: ``refused`` with 409, or ``ignored``, so that the file gets another name.
    taken_names: Literal["refused", "ignored"] = "refused"
    #: Whether a ``late`` call is dropped after the seconds of its X-Server-Timeout.
    server_timeout: bool = False
    #: Encoding of sha256Hash.
    hash_form: Literal["base64-hex", "base64", "hex"] = "base64-hex"
    #: Whether downloads honour Range.
    ranges: bool = True
    #: Seconds until a new job is listed, until a new file is found by name, and until a deleted file is not found.
    list_lag: Seconds = 0.0
    file_lag: Seconds = 0.0
    delete_lag: Seconds = 0.0
    #: Most items per page, whatever the client requests.
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
    """Raises InputError for values out of range and for unknown routes."""
    try:
        msgspec.convert(msgspec.to_builtins(plan), FaultPlan)
    except msgspec.ValidationError as error:
        raise InputError(f"plan of faults: {error}") from error
    known = sorted(set(routes))
    for rule in plan.rules:
        if not any(fnmatchcase(route, rule.route) for route in known):
            raise InputError(f"plan of faults: there is no route {rule.route!r}; there are: {', '.join(known)}")
