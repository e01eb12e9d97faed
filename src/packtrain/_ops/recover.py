"""``recover``: make a lost manifest again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .._client import open_context
from .._errors import InputError, ManifestError, ManifestExists, OtherContent
from .._flow.recovery import rebuild
from .._flow.run import MAIN, describe
from .._io.clock import SystemClock
from .._io.disk import disk_errors, remove, rename, sync_directory
from .._io.lock import hold
from .._io.output import output_at
from .._io.spool import Spool
from .._io.threads import in_thread, uncancelled
from .._manifest.guard import log_of
from .._manifest.witness import Token, note_token, read_tokens, tokens_of, witness_of
from .._options import Options, Policy
from .._rules import naming

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from .._io.inputs import Inputs
    from .._model import Run, Task
    from .._providers.service import Local, Service
    from .._snapshots import Recovery


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
    """Make a lost manifest again, from the input and from what the service lists for the run with the token ``run``.

    The input and what decides about the shards must be as they were at the first start. Nothing is sent: afterwards
    ``Client.run`` goes on, takes over every job that there is, and makes one for a shard only when none shows up.

    Raises ManifestExists, NothingToRecover when the service lists no job of the run, OtherContent when a job was made
    of other lines, of a shard beyond the last one, or for another model, and for other settings than at first, and
    OutputTaken when OUT exists. The manifest appears only when all went well.
    """
    if not naming.is_token(run):
        raise InputError(f"{run!r} is no token of a run; it has 26 letters and digits, and is in manifest.run")
    spool, options, output = Spool(Path(state)), options or Options(), await output_at(out)

    def described(model: str) -> Run:
        return describe(run_id, model, task, join, output.parts, service, options)

    lost = msgspec.structs.replace(described(model), token=run, recovered=True)
    draft = spool.root / "recovering.db"
    await in_thread(_make_way, spool, draft, Token(run, run_id, model, task), described)
    try:
        async with open_context(spool, draft, service, options, policy=Policy(), clock=SystemClock()) as client:
            found = await rebuild(client, lost, inputs, output)
        await in_thread(_put_in_place, spool, draft)
    finally:
        await uncancelled(_discard, spool, draft)
    return found


def _make_way(spool: Spool, draft: Path, asked: Token, described: Callable[[str], Run]) -> None:
    """``described`` is the run as it would begin with a model, which has more than one name."""
    _refuse_existing(spool)
    for noted in read_tokens(spool.manifest):
        same = noted.task == asked.task and naming.same_model(noted.model, asked.model)
        if noted.run == asked.run and not same:
            raise OtherContent(
                f"run {asked.run} was started with model {noted.model} and task {noted.task}, as "
                f"{tokens_of(spool.manifest)} says, not with model {asked.model} and task {asked.task}",
                run=asked.run,
            )
        if noted.run == asked.run and noted.fingerprint not in ("", described(noted.model).fingerprint):
            raise OtherContent(
                f"run {asked.run} was started with other settings, as {tokens_of(spool.manifest)} says: one "
                "of whether answers are joined with requests, the limits of a shard, and the kind of output",
                run=asked.run,
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
        raise ManifestExists(f"{spool.manifest} is there, so there is nothing to recover", path=spool.manifest)
    if log.exists():
        # SQLite would play it into the new manifest, and undo there what was recovered.
        raise ManifestExists(f"{log} is there without its manifest", path=log)


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
