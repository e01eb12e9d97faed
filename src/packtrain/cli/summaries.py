"""The summary of a run, for people."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from packtrain._validation import answers_of, counted

from .advice import command, operand
from .quantities import duration_text, size_text
from .rejects import listed
from .row_counts import little_text, paid_twice_text, unusable_text

if TYPE_CHECKING:
    from packtrain import Summary


def summary_text(summary: Summary, out: str, state: Path, *, already: bool = False) -> str:
    """``already`` for a start that found everything done."""
    counts = f"{summary.answered:,} of {counted(summary.valid, 'line')} answered"
    if summary.failed:
        counts += f", {summary.failed:,} failed"
    if summary.rejected:
        counts += f", {summary.rejected:,} rejected"
    if summary.skipped:
        counts += f", {summary.skipped:,} skipped because they had answers"
    if not summary.complete:
        return f"not finished: {counts}\n  state     {state}\nStart the same command again to go on."
    files = [f"  answers   {out}"]
    if little := little_text(summary.rows):
        files.append(f"            of these {little}")
    if summary.failed:
        files.append(f"  failed    {out.rstrip('/')}.failed.jsonl")
        if unusable := unusable_text(summary.rows):
            files.append(f"            of these {unusable}; see its members `reason` and `row_base64`")
        files.append(f"            {_retry(out, state)}")
    if summary.rejected:
        bad = f"{out.rstrip('/')}.rejected.jsonl"
        files += [f"  rejected  {bad}", *(f"            {line.strip()}" for line in listed(bad, summary.rejected))]
    if summary.rows.unknown:
        unknown = f"{out.rstrip('/')}.unknown.jsonl"
        files.append(f"  unknown   {unknown}: {counted(summary.rows.unknown, 'row')} of no request")
    if twice := paid_twice_text(summary.paid_twice):
        files.append(f"  twice     paid for more than once: {twice}")
    if summary.duplicates_healed:
        seen = f"see `{command('status', state)}`"
        files.append(f"  duplicate {counted(summary.duplicates_healed, 'job')}, not read; {seen}")
    if summary.duplicates_live:
        files.append(
            f"  costing   {counted(summary.duplicates_live, 'job')} of these, not cancelled so far, may still cost "
            "money; start the same command again to try it once more"
        )
    done = f"{size_text(summary.bytes_uploaded)} uploaded, {duration_text(summary.seconds)}"
    if already:
        done = "already complete"
    return "\n".join([f"complete: {counts}", *files, f"  {counted(summary.shards, 'shard')}, {done}"])


def _retry(out: str, state: Path) -> str:
    """The command as it can be run, and what it does."""
    words: list[str | Path] = ["retry", state]
    words += ["--out", operand(out)] if answers_of(state) != Path(out) else []
    if _may_pass(Path(f"{out.rstrip('/')}.failed.jsonl")):
        return f"`{command(*words)}` asks those again whose failure may pass, --all all"
    return f"none is of a kind that passes; `{command(*words, '--all')}` asks them again all the same"


class _Failed(msgspec.Struct):
    """What is read of a line of failed keys."""

    retryable: bool = False


def _may_pass(failed: Path) -> bool:
    """Whether asking again without --all would ask any line. Reads one line at a time."""
    decode = msgspec.json.Decoder(_Failed).decode
    # Most lines need no parser. One that has the text may have it in the service's own error.
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError), failed.open("rb") as lines:
        return any(b'"retryable":true' in line and decode(line).retryable for line in lines)
    return True
