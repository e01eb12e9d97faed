"""The ways on when a manifest cannot be trusted: it is made anew, or a person's word makes it good."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ._client import open_client_on
from ._disk import disk_errors, remove, rename, sync_directory
from ._errors import InputError, ManifestError
from ._io.spool import Spool
from ._manifest import operations
from ._manifest.admission import take_over
from ._manifest.database import log_of, open_database
from ._manifest.lock import hold
from ._manifest.witness import Token, note_token, read_tokens, tokens_of, witness_of
from ._model import State
from ._options import Options
from ._reports import Adoption, Recovery
from ._rules import naming
from ._rules.extras import plain_model
from ._rules.lifecycle import SPOOLED
from ._runs import MAIN

if TYPE_CHECKING:
    import os
    from sqlite3 import Connection

    from ._io.inputs import Inputs
    from ._manifest.identity import Identity
    from ._model import Task
    from ._service import Local, Service


async def recover(
    inputs: Inputs,
    *,
    run: str,
    model: str,
    out: str | os.PathLike[str],
    state: str | os.PathLike[str],
    service: Service | Local,
    task: Task = "generate",
    run_id: str = MAIN,
    join: bool = False,
    options: Options | None = None,
) -> Recovery:
    """Make a lost manifest anew, from the input and from what the service lists for the run with the token ``run``.

    The input and what decides about the shards must be as they were at the first start. Nothing is sent: afterwards
    ``Client.run`` goes on, takes over every job that there is, and makes one for a shard only when none shows up.

    Raises ManifestError when there is a manifest, or no job of the run; InputError when a job was made of other lines
    or for another model, or when OUT exists.
    The manifest appears only when all went well.
    """
    if not naming.is_token(run):
        raise InputError(f"{run!r} is no run; an id has 26 letters and digits, and stands in manifest.run")
    spool = Spool(Path(state))
    draft = spool.root / "recovering.db"
    await anyio.to_thread.run_sync(_make_way, spool, draft, Token(run, run_id, model, task))
    try:
        async with open_client_on(spool, draft, service, options or Options()) as client:
            found = await client.recover(inputs, token=run, model=model, out=out, task=task, run_id=run_id, join=join)
        await anyio.to_thread.run_sync(_put_in_place, spool, draft)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_discard, spool, draft)
    return found


async def adopt(state: str | os.PathLike[str]) -> Adoption:
    """Take a manifest over that was copied, moved or put back, or that is driven with another key from now on.

    To be called when no other copy of it is at work, nor will be. Every shard of which no job is known counts as in
    doubt afterwards: it is looked for at the service before anything of it is sent.

    Raises InputError when there is no manifest, ManifestError when it is damaged or in use, or when files that it
    needs are gone.
    """
    return await anyio.to_thread.run_sync(_adopt, Spool(Path(state)))


def _adopt(spool: Spool) -> Adoption:
    if not spool.manifest.exists():
        raise InputError(f"{spool.manifest} is not there; name the state directory of a run")
    with open_database(spool.manifest, partial(_take_over, spool)) as connection:
        runs = operations.runs(connection)
        doubted = [job for run in runs for job in operations.jobs(run.id, {State.RECONCILING}, connection)]
        return Adoption(instance=operations.instance(connection), doubted=len(doubted))


def _take_over(spool: Spool, path: Path, now: Identity, connection: Connection) -> None:
    """An older manifest may want files that the later one has done with."""
    for run in operations.runs(connection):
        for job in operations.jobs(run.id, SPOOLED, connection):
            shard = spool.run(run.token).shard(job.shard, job.generation)
            if not shard.exists():
                raise ManifestError(
                    f"{shard} is gone, so this manifest cannot go on: move {spool.manifest}, and its -wal if there is "
                    f"one, aside, then let `packtrain recover INPUT... --run {run.token} --model {run.model} "
                    "--out OUT` make it anew"
                )
    take_over(path, now, connection)


def _make_way(spool: Spool, draft: Path, asked: Token) -> None:
    _refuse_existing(spool)
    for noted in read_tokens(spool.manifest):
        if noted.run == asked.run and (plain_model(noted.model), noted.task) != (plain_model(asked.model), asked.task):
            raise InputError(
                f"run {asked.run} was started with --model {noted.model} --task {noted.task}, as "
                f"{tokens_of(spool.manifest)} says, not with --model {asked.model} --task {asked.task}; nothing was "
                "recovered"
            )
    if spool.root.exists():
        with hold(spool.root):
            _remove(spool, draft)


def _discard(spool: Spool, draft: Path) -> None:
    """What a recovery leaves that was refused. In a directory that somebody else holds by now, the next one does it."""
    with suppress(ManifestError), hold(spool.root):
        _remove(spool, draft)


def _remove(spool: Spool, draft: Path) -> None:
    for leftover in spool.root.glob(f"{draft.stem}.*"):
        remove("recovery", leftover)


def _refuse_existing(spool: Spool) -> None:
    log = log_of(spool.manifest)
    if spool.manifest.exists():
        raise ManifestError(
            f"{spool.manifest} is there, so the same `packtrain run` goes on. If it is damaged, or can't be "
            "adopted, move it, and its -wal if there is one, aside first; if it was copied, moved or put back here, "
            f"see `packtrain adopt {spool.root}`"
        )
    if log.exists():
        # SQLite would play it into the new manifest, and undo there what was recovered.
        raise ManifestError(
            f"{log} is there without its manifest: put {spool.manifest.name} back if you have it, and the same "
            f"`packtrain run` goes on; or move {log.name} aside, then start the same command again"
        )


def _put_in_place(spool: Spool, draft: Path) -> None:
    """The database last: with it, all of it is there."""
    with hold(spool.root), disk_errors(spool.manifest):
        _refuse_existing(spool)
        for token in read_tokens(spool.manifest):
            note_token(draft, token)
        for file in (tokens_of, witness_of):
            rename("recovery", file(draft), file(spool.manifest))
        rename("recovery", draft, spool.manifest)
        sync_directory("recovery", spool.root)
