"""Evidence of a past: what a state directory holds beside its database, compared with what the database knows.

A database that is empty, older than the files beside it, or missing among them has lost its past. Taken for a new one,
it would have every job made, and paid for, again. All facts are read before anything is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._validation import counted

if TYPE_CHECKING:
    from collections.abc import Collection


class Witnessed(Struct, frozen=True):
    """The witness file: the instance that wrote it, and its latest event that let a create go out."""

    instance: str
    event: int


class Traces(Struct, frozen=True, kw_only=True):
    """What is beside the database. A lock alone is none: a first start may end right behind it."""

    #: The bytes of the database file; None without one.
    database: int | None = None
    #: Commits that are not in the database file yet.
    log: bool = False
    #: There is a witness file; ``witness`` is None as well when it cannot be read.
    witness_file: bool = False
    witness: Witnessed | None = None
    #: There is a run record, and the tokens in it by the id of their run, the latest last.
    record_file: bool = False
    record: tuple[tuple[str, str], ...] = ()
    #: Tokens of runs that have files here.
    spooled: tuple[str, ...] = ()
    #: Other files that only a run writes.
    others: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Of all runs that were ever here."""
        return tuple(dict.fromkeys([token for _, token in self.record] + list(self.spooled)))


class Known(Struct, frozen=True, kw_only=True):
    """What an opened database says of itself."""

    instance: str
    #: It was admitted at a start before this one.
    settled: bool
    #: The number of its latest event.
    event: int
    #: Tokens of its runs.
    tokens: tuple[str, ...] = ()


def lost(traces: Traces) -> str | None:
    """Why a database that is missing or empty was once more than that; None when there never was one."""
    if traces.database is None:
        found = _found(traces)
        return f"is gone, but {found}" if found else None
    return "is empty" + (f", but {found}" if (found := _found(traces)) else "") if traces.database == 0 else None


def forgotten(traces: Traces, known: Known) -> str | None:
    """Why a whole database has forgotten every run; None when it has not.

    Its runs are entered before the record names them, and before they have files.
    """
    if known.tokens:
        return None
    begun = traces.record_file or traces.spooled or traces.others
    witnessed = traces.witness is not None and traces.witness.event > known.event
    # Its making ends with the witness, whose first event is 0, and then its identity.
    unread = not known.settled and traces.witness_file and traces.witness is None
    foreign = not known.settled and traces.witness is not None and traces.witness.instance != known.instance
    if not (begun or witnessed or unread or foreign):
        return None
    found = _found(msgspec.structs.replace(traces, log=False))
    return f"knows of no run, but {found}: it was emptied or put back, or its log was lost"


def behind(traces: Traces, known: Known) -> str | None:
    """Why a database may have forgotten a create; None when there is no reason to think so."""
    if not known.settled:
        return None
    if traces.witness is None:
        return f"its witness file is {'damaged' if traces.witness_file else 'gone'}"
    if traces.witness.instance != known.instance:
        return "its witness file is that of another manifest"
    if known.event < traces.witness.event:
        return (
            f"it knows {counted(known.event, 'event')} where there were {traces.witness.event}: an older copy was put "
            "back, or its log was lost"
        )
    return None


def began_before(run: str, record: Collection[tuple[str, str]], tokens: Collection[str]) -> str | None:
    """The token under which a run of this id began that the database, with these ``tokens``, does not know."""
    return next((token for id, token in record if id == run and token not in tokens), None)


def _found(traces: Traces) -> str:
    """The traces in words."""
    found = ["its log is there"] if traces.log else []
    if traces.witness is not None:
        found.append(f"its witness knows {counted(traces.witness.event, 'event')}")
    elif traces.witness_file:
        found.append("its witness file is there")
    if traces.record_file:
        found.append(f"the record names {counted(len(traces.record), 'run')}")
    if traces.spooled:
        found.append(f"there are files of run {' and '.join(traces.spooled)}")
    if traces.others:
        found.append(f"there is {' and '.join(traces.others)}")
    return ", ".join(found)
