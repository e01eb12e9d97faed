"""A results file comes down, over as many tries as it takes, until it can be believed to be whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from .._disk import remove
from .._errors import ApiError, IntegrityError, TransportError
from .._io.part import Part
from .._io.patience import persist
from .._io.spool import digest_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from .._io.base import Clock, Download, Remote
    from .._model import Tally
    from .context import Context

#: Tries of one download in a row, each going on where the last one stopped.
_TRIES = 6
#: Copies of one file of results that may be fetched until two agree.
_COPIES = 5
_RANGE_REFUSED = 416


async def fetch_whole(ctx: Context, name: str, part: Path, join: Callable[[], Awaitable[Tally]]) -> Tally:
    """Bring a results file down to ``part``, and give what its ``join`` with the requests comes to.

    One copy is believed when the transport vouches for its end and every key has its row; otherwise two copies must
    agree, for not every transport tells a body that was cut from one that was whole. A copy that ends in the middle
    of a row is never believed. Raises TransportError, or the IntegrityError of the last join.
    """
    seen, fault = None, None
    for _ in range(_COPIES):
        vouched = await fetch(ctx.remote, ctx.clock, name, part)
        try:
            tally = await join()
        except IntegrityError as error:
            fault = error
        else:
            digest = await anyio.to_thread.run_sync(digest_of, part)
            if (vouched and not tally.missing) or digest == seen:
                return tally
            seen = digest
        await anyio.to_thread.run_sync(remove, "part", part)
    raise fault or TransportError(f"{name}: the results came down differently {_COPIES} times; see the network")


async def fetch(remote: Remote, clock: Clock, name: str, part: Path) -> bool:
    """Bring a results file down to ``part``; whether the transport vouches for its end. Raises the last error."""
    return await persist(_Fetch(remote, name, part).once, clock, tries=_TRIES)


class _Fetch:
    """The tries of one download; what they said of the file must agree."""

    def __init__(self, remote: Remote, name: str, path: Path) -> None:
        self._remote = remote
        self._name = name
        self._path = path
        #: Length and ETag of the file, as far as the last answer told them.
        self._seen: tuple[int | None, str | None] = (None, None)

    async def once(self) -> bool:
        part = await anyio.to_thread.run_sync(Part, self._path)
        try:
            return await self._go_on(part)
        except ApiError as error:
            if error.status != _RANGE_REFUSED:
                raise
            part.discard()
            raise TransportError("download of results: the file is shorter than it was; starting over") from error
        finally:
            part.close()

    async def _go_on(self, part: Part) -> bool:
        etag = self._seen[1]
        async with self._remote.download(self._name, offset=part.offset, etag=etag) as download:
            self._compare(part, download)
            part.begin(download.offset)
            async for piece in download.pieces():
                await anyio.to_thread.run_sync(part.write, piece)
            await anyio.to_thread.run_sync(part.finish, download.total)
            return download.vouched

    def _compare(self, part: Part, download: Download) -> None:
        before, self._seen = self._seen, (download.total, download.etag)
        if any(None not in pair and pair[0] != pair[1] for pair in zip(before, self._seen, strict=True)):
            part.discard()
            self._seen = (None, None)
            raise TransportError("download of results: the file is another one than before; starting over")
