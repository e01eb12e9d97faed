"""How a run ended, for people."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from packtrain._counts import counted
from packtrain._places import answers_of

from .quantities import duration_text, size_text

if TYPE_CHECKING:
    from packtrain import Summary


def summary_text(summary: Summary, out: str, state: Path, service: str) -> str:
    """``service`` as it was given on the command line."""
    counts = f"{summary.answered:,} of {counted(summary.valid, 'line')} answered"
    if summary.failed:
        counts += f", {summary.failed:,} failed"
    if summary.rejected:
        counts += f", {summary.rejected:,} rejected"
    if not summary.complete:
        return f"not finished: {counts}\n  state     {state}\nThe same command goes on."
    files = [f"  answers   {out}"]
    if summary.failed:
        files.append(f"  failed    {out.rstrip('/')}.failed.jsonl")
        files.append(f"            {_retry(out, state, service)} asks those again whose failure may pass, --all all")
    if summary.rejected:
        files.append(f"  rejected  {out.rstrip('/')}.rejected.jsonl")
    if summary.duplicates_healed:
        files.append(f"  too many  {counted(summary.duplicates_healed, 'job')}, not read; see packtrain status {state}")
    if summary.duplicates_live:
        files.append(
            f"  costing   {counted(summary.duplicates_live, 'job')} of these, not cancelled so far, may still cost "
            "money; the same command tries it again"
        )
    uploaded = f"{size_text(summary.bytes_uploaded)} uploaded, {duration_text(summary.seconds)}"
    return "\n".join([f"complete: {counts}", *files, f"  {counted(summary.shards, 'shard')}, {uploaded}"])


def _retry(out: str, state: Path, service: str) -> str:
    """The command as it can be run."""
    command = ["packtrain", "retry", str(state)]
    command += ["--out", out] if answers_of(state) != Path(out) else []
    command += ["--service", service] if service != "gemini" else []
    command += ["--wire", "gemini"] if "://" in service else []
    return f"`{shlex.join(command)}`"
