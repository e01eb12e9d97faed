"""Passes over the service's list of jobs. An incomplete pass proves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from .._errors import ApiError, OtherContent, ProtocolError
from .._model import RemoteJob
from .._rules import naming
from .._validation import counted
from .run import log

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .._model import Cursor, JobPage
    from .._providers.base import Capabilities
    from .run import RunContext


_TOKEN_REFUSED = 400


class JobList(Struct, frozen=True):
    """The jobs of this run that a pass showed, by name; ``unreadable`` says why it may hide one of ours."""

    jobs: dict[str, RemoteJob]
    unreadable: str | None = None

    def refuse_unreadable(self) -> None:
        """Raises ProtocolError when a job of this run may be hidden; jobs of others may have any form."""
        if self.unreadable is not None:
            raise ProtocolError(f"list of jobs: {self.unreadable}")


async def list_jobs(ctx: RunContext, *, files: Collection[str] = ()) -> JobList:
    """One pass to the end of the list. The jobs of the run are those that bear its tag or read one of ``files``,
    plain names.

    Raises the error that breaks it off, and ProtocolError for a list without end or with an unreadable job of ours.
    """
    found = await read_list(ctx, files=files)
    found.refuse_unreadable()
    return found


async def read_list(ctx: RunContext, *, files: Collection[str] = (), until: Collection[str] = ()) -> JobList:
    """As ``list_jobs``, but returns an unreadable job; ends early when all job names in ``until`` have been seen."""
    policy, prefix, missing = ctx.policy, naming.run_prefix(ctx.run.token), set(until)
    jobs: dict[str, RemoteJob] = {}
    tokens: set[str] = set()
    unreadable, token, empty = None, None, 0
    began, noticed = ctx.clock.monotonic(), False
    while len(tokens) < policy.list_pages:
        page = await _page(ctx, token)
        unreadable = unreadable or _hidden(page, prefix, ctx.provider.capabilities)
        for job in page.jobs:
            if job.display_name.startswith(prefix) or naming.plain_file(job.input_file) in files:
                jobs[job.name] = job
        missing.difference_update(job.name for job in page.jobs)
        token, empty = page.next_token, 0 if page.jobs or page.unreadable else empty + 1
        if token is None or (until and not missing):
            return JobList(jobs, unreadable)
        if token in tokens or empty >= policy.empty_pages:
            raise ProtocolError("list of jobs: the service gives pages without end; the pass is void")
        tokens.add(token)
        seconds = ctx.clock.monotonic() - began
        if seconds > policy.list_seconds:
            raise ProtocolError(f"list of jobs: no end after {len(tokens)} pages in {seconds:.0f} s; the pass is void")
        if seconds > policy.notice_after and not noticed:
            noticed = True
            log.warning(
                "list of jobs: no end after %d pages in %.0f s; waiting for up to %.0f s more",
                len(tokens),
                seconds,
                policy.list_seconds - seconds,
                extra={"action": "Slow", "run": ctx.run.id},
            )
    raise ProtocolError(f"list of jobs: more than {policy.list_pages} pages; the pass is void")


async def _page(ctx: RunContext, token: str | None) -> JobPage:
    """Raises ProtocolError when the service refuses its own token, which may have expired."""
    try:
        return await ctx.provider.list_page(token)
    except ApiError as error:
        if token is None or error.status != _TOKEN_REFUSED:
            raise
        raise ProtocolError(f"{error}; its page token is not valid any more, and the pass is void") from error


def _hidden(page: JobPage, prefix: str, able: Capabilities) -> str | None:
    """Why a page may hide one of our jobs."""
    if item := next((item for item in page.unreadable if prefix in item), None):
        return f"one of ours is described in an unknown way: {item[:200]!r}"
    if not able.cursor and len(page.jobs) >= able.page_size:
        return f"it has no further pages, and {len(page.jobs)} jobs may not be all"
    return None


def refuse_beyond(token: str, shards: Iterable[int], cursor: Cursor) -> None:
    """Raises OtherContent when there is a job of a shard beyond the last one of an input that was read to its end."""
    last = max(shards, default=-1)
    if last >= cursor.shards:
        raise OtherContent(
            f"the service has a job of shard {last} of run {token}, and this input gives "
            f"{counted(cursor.shards, 'shard')}, numbered from 0: it is shorter than at first, or cut otherwise",
            run=token,
        )
