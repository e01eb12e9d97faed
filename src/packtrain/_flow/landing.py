"""The results of one generation of a shard become durable files, and what failed in passing the next generation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from .._errors import IntegrityError
from .._io.lineage import Asked, Picked, account
from .._io.spool import draft, land
from .._model import Tally
from .._rules.lineage import absence, asks_again

if TYPE_CHECKING:
    from pathlib import Path

    from .._model import Job, Shard
    from .._rules.naming import Tag
    from .context import Context


class Landing:
    """The results of one generation on their way into durable files; ``parent`` is the generation before.

    ``following`` is the tag of a job that the service has of the generation after it, though the manifest forgot it.
    """

    def __init__(
        self, ctx: Context, job: Job, shard: Shard, first: int, parent: Job | None, following: Tag | None
    ) -> None:
        self.part = ctx.spool.part(job)
        self._ctx = ctx
        self._job = job
        self._shard = shard
        self._kept = ctx.spool.kept(job)
        self._child = ctx.spool.shard(job.shard, job.generation + 1)
        self._following = following
        self._again = following is not None or asks_again(job, parent, ctx.options.retries)
        self._asked = Asked(
            requests=ctx.spool.shard(job.shard, job.generation),
            lines=shard.lines,
            results=self.part if job.result else None,
            first=first,
            absent=absence(job),
            parent=ctx.spool.kept(parent) if parent else None,
            parent_tally=(parent and parent.tally) or Tally(),
        )
        self._tally = Tally()
        self._picked: Picked | None = None

    def check(self) -> None:
        """Blocking. Raises IntegrityError when a file that is to be joined is gone or cut short."""
        require, parent = partial(self._ctx.spool.require, spoiled=self._spoiled), self._asked.parent
        require(self._asked.requests, self._shard.bytes)
        if parent is not None:
            require(parent.answers, self._asked.parent_tally.bytes)
            require(parent.failed)
            require(parent.requests)

    def _spoiled(self, path: Path, how: str) -> IntegrityError:
        manifest, job = self._ctx.spool.manifest, self._job
        decision = f"--adopt {job.batch}` fetch them again" if job.batch else "--drop` list its lines as failed"
        return IntegrityError(
            f"{path} {how}. Put it back as it was, then let `packtrain resolve {manifest.parent} --shard {job.shard} "
            f"{decision}. If it is lost, move {manifest}, and its -wal if there is one, aside, and let `packtrain "
            f"recover INPUT... --run {self._ctx.run.token}` make the run anew: it fetches what was answered once more, "
            "and pays for no job twice"
        )

    async def join(self) -> Tally:
        """Join what came down; the files are not durable yet."""
        return await anyio.to_thread.run_sync(self._join, limiter=self._ctx.joining)

    def _join(self) -> Tally:
        self._tally, self._picked = self._account()
        lines = self._following.lines if self._following else 0
        if lines == self._tally.failed > self._tally.again:
            # Somebody had asked all failed lines again, not only those whose failure may pass.
            self._tally, self._picked = self._account(everything=True)
        return self._tally

    def _account(self, *, everything: bool = False) -> tuple[Tally, Picked | None]:
        return account(
            self._asked,
            self._kept.drafts,
            draft(self._child) if self._again else None,
            everything=everything,
            with_request=self._ctx.run.join,
            window=self._ctx.options.join_window,
        )

    def seal(self) -> tuple[Tally, Shard | None]:
        """Blocking. Make all of it durable; returns the tally, and the next generation if there is one."""
        child = self._seal_child(self._picked) if self._picked else None
        digest = land(self._kept.drafts.all, self._kept.all)
        return msgspec.structs.replace(self._tally, sha256=digest), child

    def _seal_child(self, picked: Picked) -> Shard:
        digest = land([draft(self._child)], [self._child], what="shard")
        return picked.shard(self._job, self._child.stat().st_size, digest)
