"""Jobs that bear a tag of ours without being the one that was adopted for its shard.

A job is cancelled only when its shard has another one that is adopted: while none is, the job that looks too many
may be the very one whose maker is one commit away from recording it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model import BatchState, Extra, ExtraState, Job, RemoteBatch, Run, Shard, State
from . import naming
from .lifecycle import COLLECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def mismatch(batch: RemoteBatch, run: Run, shard: Shard) -> str | None:
    """Why a job that bears a tag of this shard can't have been made of it; None when all is as it should be."""
    tag = naming.read_tag(run.token, batch.display_name)
    if tag is None or (tag.shard, tag.generation) != (shard.index, shard.generation):
        return f"{batch.name} is called {batch.display_name[:120]!r}, which is no name of shard {shard.index}"
    if (tag.sha16, tag.lines) != (shard.sha256[:16], shard.lines):
        return f"{batch.name} bears the shard's tag, but for other content: {batch.display_name}"
    if batch.requests not in (None, shard.lines):
        return f"{batch.name} bears the shard's tag, but has {batch.requests} requests instead of {shard.lines}"
    if plain_model(batch.model) not in ("", plain_model(run.model)):
        return f"{batch.name} bears the shard's tag, but is for {batch.model} instead of {run.model}"
    return None


def find_extras(token: str, batches: Iterable[RemoteBatch], jobs: Iterable[Job]) -> Iterator[Extra]:
    """Those among ``batches``, as a pass has shown them. ``jobs`` are all of the run, read after the pass."""
    rows = {(job.shard, job.generation): job for job in jobs}
    adopted = {job.batch for job in rows.values()}
    for batch in batches:
        tag = naming.read_tag(token, batch.display_name)
        if tag is None or batch.name in adopted:
            continue
        job = rows.get((tag.shard, tag.generation))
        state = _state(job, batch)
        if state is not None:
            yield extra_of(tag, batch, state)


def plight(job: Job, extras: Iterable[Extra]) -> str:
    """Why a quarantined shard waits, and which job a person may adopt, or by which name to look for one."""
    place = (job.shard, job.generation)
    seen = [
        extra.batch for extra in extras if extra.state is ExtraState.SEEN and place == (extra.shard, extra.generation)
    ]
    reason = job.reason or "no reason is known"
    if seen:
        return f"{reason}; the service shows {', '.join(seen)} for it: --adopt {seen[0]}"
    if job.batch is None and job.tag is not None:
        return f"{reason}; a job of it would be called {job.tag}"
    return reason


def extra_of(tag: naming.Tag, batch: RemoteBatch, state: ExtraState) -> Extra:
    return Extra(batch=batch.name, shard=tag.shard, generation=tag.generation, attempt=tag.attempt, state=state)


def _state(job: Job | None, batch: RemoteBatch) -> ExtraState | None:
    if job is None or job.state is State.QUARANTINED:
        return ExtraState.SEEN
    if job.batch is not None:
        if not batch.state.terminal:
            return ExtraState.CANCELLING
        return ExtraState.CANCELLED if batch.state is BatchState.CANCELLED else ExtraState.ENDED
    # The shard has come to its end without a job; or whoever works on it will find this one.
    return ExtraState.SEEN if job.state in COLLECT or job.state is State.CLOSED else None


def plain_model(model: str) -> str:
    """A model's name, however it is written."""
    return model.removeprefix("models/")
