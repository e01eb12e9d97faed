"""What a client has in hand: one state directory, one service, and what its parts tell one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from .account import check_account
from .context import Context
from .report import Reporter
from .signals import Changes, Meter

if TYPE_CHECKING:
    from .._io.base import Clock, Remote
    from .._io.spool import Spool
    from .._manifest.base import Manifest
    from .._model import Run
    from .._options import Options
    from .._service import Service


class Session:
    """Holds the parts that all runs of a client share, and gives each run its context.

    ``place`` is where the service is for good: its origin, or the directory of one that is at another port each time.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        manifest: Manifest,
        remote: Remote,
        clock: Clock,
        service: Service,
        options: Options,
        meter: Meter,
        place: str,
    ) -> None:
        self.spool = spool
        self.manifest = manifest
        self.service = service
        self.options = options
        self.meter = meter
        self.reporter = Reporter(spool, manifest, meter)
        self.stopped = anyio.Event()
        self.changes = Changes()
        #: The runs whose input is being taken in.
        self.reading: set[str] = set()
        self._remote = remote
        self._clock = clock
        self._place = place
        #: The tokens of runs that began here.
        self._begun: set[str] = set()

    async def check_account(self) -> None:
        """Raises ManifestError for a key or a service that does not show what was made before."""
        await check_account(self.manifest, self._remote, self._place, self.service.key, self.spool.root)

    async def begin(self, run: Run) -> Context:
        """The run as it goes on, or as it begins. Raises ManifestError when there is another one of its name."""
        opened = await self.manifest.open_run(run)
        if opened.token == run.token:
            self._begun.add(run.token)
        ctx = await self.resume(opened)
        self.changes.notify()
        return ctx

    async def resume(self, run: Run) -> Context:
        """A run that the manifest has."""
        ctx = self.context(run)
        await anyio.to_thread.run_sync(ctx.spool.prepare)
        return ctx

    def context(self, run: Run) -> Context:
        return Context(
            run=run,
            service=self.service,
            options=self.options,
            spool=self.spool.run(run.token),
            manifest=self.manifest,
            remote=self._remote,
            clock=self._clock,
            changes=self.changes,
            resumed=run.token not in self._begun,
        )

    def stop(self) -> None:
        """Let what is under way come to a stand."""
        self.stopped.set()
        self.changes.notify()
