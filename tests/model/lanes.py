"""The loops of a driver as tasks in virtual time, without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtrain._errors import PacktrainError, ProtocolError
from packtrain._flow.duplicates import sweep
from packtrain._flow.job_list import list_jobs
from packtrain._flow.reconciler import Watcher
from packtrain._flow.submitter import Creator
from packtrain._flow.uploader import intend
from packtrain._model import ShardRow, State, Tally
from packtrain._options import LONGEST_WAIT
from packtrain._rules.lifecycle import COLLECT, CREATE, UPLOAD, Closed, FileReady, FinalizeIntended, Landed
from packtrain._rules.retry import is_transient, wait_after
from packtrain._rules.submission import all_input_files

from .virtual import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from packtrain._flow.run import RunContext

    from .service import VirtualService
    from .virtual import Ledger

#: Uploads and downloads, which are taken as done.
CARRY = UPLOAD | COLLECT


class Lanes:
    """The lanes of a driver, one task each; uploads and downloads take no time."""

    def __init__(self, ctx: RunContext, ledger: Ledger, service: VirtualService) -> None:
        self._ctx = ctx
        self._ledger = ledger
        self._service = service
        self._failures = 0

    async def create(self) -> None:
        creator = Creator(self._ctx)
        while not self._ledger.settled:
            rows = await self._claim({State.CREATE_INTENT})
            if not rows and self._ctx.clock.monotonic() >= creator.ready_at:
                rows = await self._claim({State.UPLOADED})
            for row in rows:
                await self._work(row, creator.create)
            if not rows:
                await pause(-max(self._until_due(CREATE), creator.ready_at - self._ctx.clock.monotonic()))

    async def watch(self) -> None:
        watcher = Watcher(self._ctx)
        while not self._ledger.settled:
            try:
                delay = await watcher.look()
            except PacktrainError as error:
                delay = self._setback(error)
            await pause(-delay if delay > 1 else delay)
        await self._sweep()

    async def _sweep(self) -> None:
        """As at the end of a run, but until it works."""
        while True:
            began = self._ctx.clock.monotonic()
            try:
                files = all_input_files(self._ctx.run.token, self._ledger.rows.values())
                await sweep(self._ctx, (await list_jobs(self._ctx, files=files)).jobs.values())
            except PacktrainError:
                await pause(60)
                continue
            self._ledger.swept_at = began
            return

    async def carry(self) -> None:
        """Up and down."""
        while not self._ledger.settled:
            rows = await self._claim(CARRY)
            for row in rows:
                await self._work(row, self._upload if row.state in UPLOAD else self._collect)
            if not rows:
                await pause(-self._until_due(CARRY))

    async def _upload(self, row: ShardRow) -> ShardRow:
        if row.state is State.SEALED:
            row = await intend(self._ctx, row)
        if row.state is State.UPLOADING and row.upload and row.file:
            row = await self._ctx.record(row, FinalizeIntended(upload=row.upload))
        if row.state is State.FINALIZING and row.file:
            row = await self._ctx.record(row, FileReady(file_expires_at=self._service.put(row.file)))
        return row

    async def _collect(self, row: ShardRow) -> ShardRow:
        if row.state is State.ENDED:
            row = await self._ctx.record(row, Landed(tally=Tally()))
        if row.file:
            await self._ctx.provider.delete_file(row.file)
        return await self._ctx.record(row, Closed())

    async def _work(self, row: ShardRow, work: Callable[[ShardRow], Coroutine[float, None, ShardRow]]) -> None:
        due = None
        try:
            due = (await work(row)).due
            self._failures = 0
        except PacktrainError as error:
            due = self._ctx.clock.now() + self._setback(error)
        await self._ctx.release(row, due)
        self._ctx.changes.notify()

    async def _claim(self, states: set[State] | frozenset[State]) -> list[ShardRow]:
        return await self._ctx.manifest.claim(self._ctx.run.id, states, limit=1)

    def _until_due(self, states: frozenset[State]) -> float:
        """Seconds until a job of these states is due; whatever changes before wakes the lane."""
        waits = [row.due - self._ctx.clock.now() for row in self._ledger.rows.values() if row.state in states]
        return max(1.0, min((wait for wait in waits if wait <= LONGEST_WAIT), default=600.0))

    def _setback(self, error: PacktrainError) -> float:
        if not (is_transient(error) or isinstance(error, ProtocolError)):
            raise error
        self._failures += 1
        return wait_after(error, self._failures, self._ctx.clock.jitter())
