"""Passes over the service's list of jobs. A pass that is not complete says nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from .._errors import ProtocolError
from .._model import RemoteBatch
from .._rules import naming

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._io.base import Remote
    from .._model import BatchPage

_MAX_PAGES = 10_000
#: So many pages without a job in a row, each with a token for the next, are a list that does not end.
_EMPTY_PAGES = 3


class Listing(Struct, frozen=True):
    """The jobs of this run that a pass showed."""

    batches: dict[str, RemoteBatch]

    def tagged(self, prefix: str) -> list[RemoteBatch]:
        return [batch for batch in self.batches.values() if batch.display_name.startswith(prefix)]


async def list_jobs(remote: Remote, token: str, *, until: Collection[str] = ()) -> Listing:
    """One pass for the run with this token; it ends early when ``until``, names of jobs, have all been seen.

    Raises whatever breaks it off, and ProtocolError for a list that does not end or hides one of our jobs.
    """
    prefix, missing = naming.run_prefix(token), set(until)
    batches: dict[str, RemoteBatch] = {}
    seen: set[str] = set()
    following, empty = None, 0
    while len(seen) < _MAX_PAGES:
        page = await remote.list_page(following)
        _refuse_hidden(page, prefix)
        batches |= {batch.name: batch for batch in page.batches if batch.display_name.startswith(prefix)}
        missing.difference_update(batch.name for batch in page.batches)
        following, empty = page.next_token, 0 if page.batches or page.unreadable else empty + 1
        if following is None or (until and not missing):
            return Listing(batches)
        if following in seen or empty >= _EMPTY_PAGES:
            raise ProtocolError("list of jobs: the service gives pages without end; the pass says nothing")
        seen.add(following)
    raise ProtocolError(f"list of jobs: more than {_MAX_PAGES} pages; the pass says nothing")


def _refuse_hidden(page: BatchPage, prefix: str) -> None:
    """Jobs of others may be described in ways that we do not know; one of ours may not."""
    for item in page.unreadable:
        if prefix in item:
            raise ProtocolError(f"list of jobs: one of ours is described in a way that we can't read: {item[:200]!r}")
