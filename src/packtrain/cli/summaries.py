"""How a run ended, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .quantities import duration_text, size_text

if TYPE_CHECKING:
    from pathlib import Path

    from packtrain import Summary


def summary_text(summary: Summary, out: str, state: Path) -> str:
    counts = f"{summary.answered:,} of {summary.valid:,} lines answered"
    if summary.failed:
        counts += f", {summary.failed:,} failed"
    if summary.rejected:
        counts += f", {summary.rejected:,} rejected"
    if not summary.complete:
        return f"not finished: {counts}\n  state     {state}\nThe same command goes on."
    files = [f"  answers   {out}"]
    if summary.failed:
        files.append(f"  failed    {out.rstrip('/')}.failed.jsonl; packtrain retry {state} asks for them again")
    if summary.rejected:
        files.append(f"  rejected  {out.rstrip('/')}.rejected.jsonl")
    if summary.duplicates_healed:
        files.append(f"  too many  {summary.duplicates_healed:,} jobs, not read; see packtrain status {state}")
    if summary.duplicates_live:
        files.append(
            f"  costing   {summary.duplicates_live:,} of these jobs could not be cancelled so far and may still cost "
            "money; the same command tries it again"
        )
    shards = f"{summary.shards:,} {'shard' if summary.shards == 1 else 'shards'}"
    uploaded = f"{size_text(summary.bytes_uploaded)} uploaded, {duration_text(summary.seconds)}"
    return "\n".join([f"complete: {counts}", *files, f"  {shards}, {uploaded}"])
