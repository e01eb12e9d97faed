"""``packtrain status``: progress and state of a run."""

import time
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from packtrain import Status, Waiting
from packtrain._validation import counted

from . import arguments as arg
from .advice import decisions
from .console import is_terminal, put, put_json
from .exits import Exit
from .quantities import duration_text, size_text
from .row_counts import little_text, paid_twice_text, unusable_text

#: Seconds between two looks of ``--watch``.
WATCHED = 2.0
_STALE = ", as its driver last wrote it down; if that was killed, more may have been done since"


async def status(
    state: Annotated[Path, Parameter(metavar="STATE", help="The state directory of the run.")],
    /,
    *,
    json: arg.Json = False,
    watch: Annotated[bool, Parameter(negative=(), help="Look again every two seconds until it is published.")] = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    from packtrain import status as read_status

    while True:
        found = await read_status(state)
        read = put_json(found) if json else _show(_text(found, state, time.time()), watch)
        if not (watch and read) or found.statistics.merged:
            return Exit.COMPLETE
        await anyio.sleep(WATCHED)


def _show(text: str, watch: bool) -> bool:
    """In place of the last look on a terminal, below it and the time elsewhere."""
    if watch and not is_terminal():
        return put(f"{time.strftime('%H:%M:%S')}\n{text}")
    return put(text, cleared=watch)


def _is_stale(found: Status) -> bool:
    return found.holder is None and not found.statistics.merged


def _text(found: Status, state: Path, now: float) -> str:
    run = found.statistics
    all_read = ", all" if run.cursor.done else ""
    states = ", ".join(f"{count:,} {state}" for state, count in run.states.items() if count) or "none"
    rows = [
        ("run", run.run),
        ("token", found.token or "not known"),
        ("driver", found.holder or "none"),
        ("service", found.service or "not known"),
        ("as of", f"{duration_text(max(0.0, now - found.at))} ago{_STALE if _is_stale(found) else ''}"),
        ("read", f"{counted(run.cursor.lines, 'line')}, {size_text(run.cursor.bytes)}{all_read}"),
        ("lines", f"{run.cursor.valid:,} valid, {run.cursor.rejected:,} rejected"),
        ("shards", states),
        ("jobs made", f"{run.jobs_created:,}"),
        ("uploaded", size_text(run.uploaded_bytes)),
        ("answers", f"{run.tally.answered:,} answered, {run.tally.failed:,} failed"),
        ("published", "yes" if run.merged else "not yet"),
    ]
    if run.retried:
        rows.append(("asked again", counted(run.retried, "line")))
    if little := little_text(found.rows):
        rows.append(("of answers", little))
    if unusable := unusable_text(found.rows):
        rows.append(("of failed", unusable))
    if found.rows.unknown:
        rows.append(("unknown", f"{counted(found.rows.unknown, 'row')} of no request"))
    if twice := paid_twice_text(found.paid_twice):
        rows.append(("paid twice", twice))
    rows += [("duplicate", f"{job.job} of shard {job.shard}: {job.state}") for job in found.duplicate_jobs]
    rows += [("ambiguous", f"shard {shard}: {_ambiguous(now - since)}") for shard, since in found.ambiguous.items()]
    rows += [("waiting", _waiting(waiting, now)) for waiting in found.waiting]
    rows += [("needs you", f"shard {shard}: {reason}") for shard, reason in found.quarantined.items()]
    text = "\n".join(f"{name:11} {text}" for name, text in rows)
    if found.quarantined:
        text += "\n" + decisions(state, run.run, found.token, found.quarantined, found.candidates)
    return text


def _waiting(waiting: Waiting, now: float) -> str:
    next_try = f"next try in {duration_text(waiting.due - now)}" if waiting.due > now else "trying again"
    return f"{counted(waiting.shards, 'shard')}: {waiting.reason}; {next_try}"


def _ambiguous(seconds: float) -> str:
    return f"its create got no answer {duration_text(max(0.0, seconds))} ago; looking for its job"
