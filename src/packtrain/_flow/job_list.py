"""Passes over the service's list of jobs. A pass that is not complete says nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from .._errors import ProtocolError
from .._model import RemoteJob, State
from .._rules import naming

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._model import ShardRow
    from .._providers.base import Provider
    from .run import RunContext

_MAX_PAGES = 10_000
#: So many pages without a job in a row, each with a token for the next, are a list that does not end.
_EMPTY_PAGES = 3


class Listing(Struct, frozen=True):
    """The jobs of this run that a pass showed, and the description of one that it showed and nobody can read."""

    jobs: dict[str, RemoteJob]
    hidden: str | None = None

    def tagged(self, prefix: str) -> list[RemoteJob]:
        return [job for job in self.jobs.values() if job.display_name.startswith(prefix)]

    def refuse_hidden(self) -> None:
        """Jobs of others may be described in ways that we do not know; to who asks for all of ours, no one of them may.
        Raises ProtocolError."""
        if self.hidden is not None:
            raise ProtocolError(f"list of jobs: one of ours is described in a way that we can't read: {self.hidden!r}")


async def known_jobs(ctx: RunContext) -> dict[str, float]:
    """Jobs that the list should show, each with a time before which it was not made."""
    rows = await ctx.manifest.rows(ctx.run.id, set(State) - {State.QUARANTINED})
    return {row.job: _made_after(row) for row in rows if row.job}


def _made_after(row: ShardRow) -> float:
    """By our clock when its create was intended, by the service's when it was made: of clocks that differ the earlier,
    so that an old job is not taken for a young one."""
    return min((at for at in (row.intent_at, row.submitted_at) if at is not None), default=0.0)


async def list_jobs(provider: Provider, token: str) -> Listing:
    """One pass for the run with this token, to its end.

    Raises whatever breaks it off, and ProtocolError for a list that does not end or hides one of our jobs.
    """
    listing = await look_through(provider, token)
    listing.refuse_hidden()
    return listing


async def look_through(provider: Provider, token: str, *, until: Collection[str] = ()) -> Listing:
    """As ``list_jobs``, but a job that can't be read is told of in the listing; the pass ends early when ``until``,
    names of jobs, have all been seen."""
    prefix, missing = naming.run_prefix(token), set(until)
    jobs: dict[str, RemoteJob] = {}
    seen: set[str] = set()
    hidden, following, empty = None, None, 0
    while len(seen) < _MAX_PAGES:
        page = await provider.list_page(following)
        hidden = hidden or next((item[:200] for item in page.unreadable if prefix in item), None)
        jobs |= {job.name: job for job in page.jobs if job.display_name.startswith(prefix)}
        missing.difference_update(job.name for job in page.jobs)
        following, empty = page.next_token, 0 if page.jobs or page.unreadable else empty + 1
        if following is None or (until and not missing):
            return Listing(jobs, hidden)
        if following in seen or empty >= _EMPTY_PAGES:
            raise ProtocolError("list of jobs: the service gives pages without end; the pass says nothing")
        seen.add(following)
    raise ProtocolError(f"list of jobs: more than {_MAX_PAGES} pages; the pass says nothing")
