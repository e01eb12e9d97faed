"""Advice: what a person can do about an error, with the command to give, by class of error."""

from __future__ import annotations

import os
import shlex
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING

import packtrain as p
from packtrain._text import encodable

from .exits import Exit, code, is_bad_name

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What heals every error with ``AGAIN``.
AGAIN = "start the same command again"
_OTHER_OUT = "choose another --out, and another --state if you give one"
_ADOPTED = "each shard is then looked for at the service before it is sent"


def message(error: BaseException) -> str:
    """One paragraph for people: the fact, and below it the advice."""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {AGAIN}"
    if is_bad_name(error):
        return f"packtrain: {os.fsdecode(error.filename)}: {error.strerror}"
    further = advice(error)
    if not further and code(error) is Exit.AGAIN:
        further = f"Nothing is lost: {AGAIN}."
    return f"packtrain: {error}" + (f"\n{further}" if further else "")


@singledispatch
def advice(error: BaseException) -> str:
    """What to do about the error; empty where nothing but its message helps."""
    return ""


def operand(path: str | Path) -> str:
    """A path as an argument that is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def command(*words: str | Path) -> str:
    """A command as a shell takes it; paths are operands."""
    return shlex.join(["packtrain", *(operand(word) if isinstance(word, Path) else word for word in words)])


def decisions(
    state: Path, run: str, token: str | None, shards: Mapping[int, str], candidates: Mapping[int, str]
) -> str:
    """The ways to decide about the first quarantined shard, a line each."""
    shard = min(shards)
    resolve: list[str | Path] = ["resolve", state, "--shard", str(shard)]
    resolve += ["--run", run] if run != "main" else []
    lines = [
        f"  keep answers   {command(*resolve, '--adopt', candidates.get(shard, 'NAME'))}",
        f"  pay again      {command(*resolve, '--retry')}",
        f"  give up lines  {command(*resolve, '--drop')}",
    ]
    if any("was cancelled at the service" in reason for reason in shards.values()):
        lines.append(f"  pay again for all that were cancelled: {command('retry', state)}")
    if reason := next((reason for reason in shards.values() if reason.startswith(f"{encodable(str(state))}/")), None):
        path = reason.split(" ")[0]
        lines.insert(0, f"First put {path} back as it was{_MADE_AGAIN if '/shards/' in path else ''}.")
        lines.append(f"If it is lost, {_recover(state / 'manifest.db', token)}")
    return "\n".join(lines)


_MADE_AGAIN = " (of the same input `packtrain split` makes the same shards, with the limits that the run was given)"


def _recover(manifest: Path, run: str | None) -> str:
    """The way on without a file that is lost."""
    return (
        f"move {manifest}, and its -wal if there is one, away, and let `packtrain recover INPUT... --run "
        f"{run or 'TOKEN'}` make the run again: it fetches what was answered once more, and pays for no job twice."
    )


@advice.register(p.DiskFull)
def _(error: p.DiskFull) -> str:
    return f"Nothing is lost: {'raise that limit' if error.limit else 'make room'}, then {AGAIN}."


@advice.register(p.DiskFailed)
def _(error: p.DiskFailed) -> str:
    return f"Nothing is lost: put that right (see the disk and its free space), then {AGAIN}."


@advice.register(p.WorkerLost)
def _(error: p.WorkerLost) -> str:
    return f"Nothing is lost: {AGAIN}, or with --workers 1 to do without these processes."


@advice.register(p.InputUnfinished)
def _(error: p.InputUnfinished) -> str:
    return "Start the run itself again, with its input."


@advice.register(p.DecisionNeeded)
def _(error: p.DecisionNeeded) -> str:
    return f"{decisions(error.state, error.run, error.token, error.shards, error.candidates)}\nThen {AGAIN}."


@advice.register(p.InputDamaged)
def _(error: p.InputDamaged) -> str:
    return "Nothing is taken from it. Copy or make it again."


@advice.register(p.InputChanged)
def _(error: p.InputChanged) -> str:
    otherwise = f"put it back as it was, or start a new run: {_OTHER_OUT}."
    if error.mtime_ns is None:
        return otherwise.capitalize()
    seconds, rest = divmod(error.mtime_ns, 10**9)
    touch = shlex.join(["touch", "-d", f"@{seconds}.{rest:09}", error.name])
    return f"If its content is what it was, say so with `{touch}` and {AGAIN}. If not, {otherwise}"


_UNPACK = "Unpack it, and give the files in it, or a directory of them."
_LINES = 'Write each request as one line: {"key": "…", "request": {…}}.'
_FORMATS = {
    "tar": _UNPACK,
    "zip": _UNPACK,
    "parquet": f"{_LINES} Any tool that reads Parquet can write them.",
    "compressed": "Unpack it, or compress it with gzip or zstd instead.",
    "dictionary": "Unpack it with its dictionary: `zstd -d -D DICTIONARY OLD -o NEW`.",
    "window": "Compress it again: `zstd -dc --long=31 OLD | zstd -o NEW`.",
    "packed": "Unpack it first.",
    "nested": "Unpack it once.",
    "binary": _LINES,
    "utf-16": "Convert it to UTF-8, as in `iconv -f UTF-16 -t UTF-8 OLD > NEW`.",
    "markup": _LINES,
    "lfs": "Fetch the file with `git lfs pull`.",
    "csv": f"{_LINES} A column can be the key, another the text.",
    "text": _LINES,
    "array": "Write one element a line, as in `jq -c '.[]' OLD > NEW`.",
    "arrays": _LINES,
    "pretty": "Write each object on one line, as in `jq -c . OLD > NEW`.",
    "joined": "Write each object on its own line, as in `jq -c . OLD > NEW`.",
    "commas": "Remove the commas, as in `sed 's/,$//' OLD > NEW`.",
    "python": "Write it with json.dumps instead of str or print.",
    "results": "Give the file of requests; `packtrain merge` joins answers to requests.",
    "other service": f"{_LINES} The request is as this service documents it, so the content may have to change too.",
    "bare": f"{_LINES} The key is yours: any text that no other line has.",
    "no key": "Give each line a key of its own, as in `jq -c '{key: \"line-\\(input_line_number)\"} + .' OLD > NEW`.",
    "key name": "Call it \"key\", with a text as value.",
    "key type": "Write the keys as text, as in `jq -c '.key |= tostring' OLD > NEW`.",
    "request name": 'Call it "request", with the body of one call as value.',
    "request text": "Write the body as JSON, not as a text, as in `jq -c '.request |= fromjson' OLD > NEW`.",
    "rows": f"{_LINES} The request is the body of one call as the service documents it.",
    "beside": 'Put its options into "request": "generationConfig" and "systemInstruction" are members of it.',
    "task": "Give the other --task, or another input.",
    "text contents": 'Write {"contents": [{"parts": [{"text": "…"}]}]}, or for embed {"content": …} with the same.',
    "misspelt": "Correct the name: as it is, the service would refuse it, or ignore it.",
}  # fmt: skip


@advice.register(p.OtherFormat)
def _(error: p.OtherFormat) -> str:
    return _FORMATS[error.kind]


@advice.register(p.OtherInputs)
def _(error: p.OtherInputs) -> str:
    return f"Give the same inputs, or start a new run: {_OTHER_OUT}."


@advice.register(p.OutputTaken)
def _(error: p.OutputTaken) -> str:
    return (
        "Move it away, or choose another --out. If it is of a run whose state directory is gone, asking again would "
        "be paid for again."
    )


@advice.register(p.OutputReserved)
def _(error: p.OutputReserved) -> str:
    if error.state is None:
        return "Choose another --out, or move that file away if no run is to be published there."
    return (
        f"Finish that run first, or choose another --out. If it is not to be finished, remove {error.path}: its "
        f"answers stay in {error.state}."
    )


@advice.register(p.OutputBlocked)
def _(error: p.OutputBlocked) -> str:
    return f"Move it away, then {AGAIN}; or start it with the same --state and another --out."


@advice.register(p.OutputIsInput)
def _(error: p.OutputIsInput) -> str:
    return "Choose another --out, or another --out-dir for split."


@advice.register(p.OutputUnknown)
def _(error: p.OutputUnknown) -> str:
    return "Name them with --out, as at the first start."


@advice.register(p.NoRun)
def _(error: p.NoRun) -> str:
    return "Name the state directory of a run, by default OUT.packtrain."


@advice.register(p.DecisionRefused)
def _(error: p.DecisionRefused) -> str:
    return "" if error.path is None else f"Put it back as it was{_MADE_AGAIN}."


@advice.register(p.OtherContent)
def _(error: p.OtherContent) -> str:
    return (
        "Nothing was recovered or published. Give everything as at the first start: the same input in the same order, "
        "the same --model, --task, --join, --max-shard-bytes, --max-shard-requests and kind of --out. For a run that "
        "was recovered with another input, move manifest.db away and give `packtrain recover` the right one."
    )


@advice.register(p.FileDamaged)
def _(error: p.FileDamaged) -> str:
    return f"Put it back as it was, and {AGAIN}. If it is lost, {_recover(error.manifest, error.run)}"


@advice.register(p.KeysDamaged)
def _(error: p.KeysDamaged) -> str:
    return "Restore the directory as it was, or start the run again in another state directory."


@advice.register(p.InUse)
def _(error: p.InUse) -> str:
    return "Wait for it, or stop it."


@advice.register(p.UnsafeDirectory)
def _(error: p.UnsafeDirectory) -> str:
    closed = shlex.join(["chmod", "700", operand(error.path)])
    return (
        f"Correct that (use its real path, start as its owner, close it to others with `{closed}`), or give another "
        "--state, on a local disk."
    )


@advice.register(p.ManifestDamaged)
def _(error: p.ManifestDamaged) -> str:
    path = error.path
    moved = "move the database" if path is None else f"move {path.name}, and {path.name}-wal if there is one,"
    return (
        "Do not delete the state directory: it names jobs that may still run and cost money. Check the disk, "
        f"{moved} away, then `packtrain recover` makes it again."
    )


@advice.register(p.ManifestGone)
def _(error: p.ManifestGone) -> str:
    runs = " and ".join(f"--run {token} --model {model}" for token, model in error.runs) or "--run TOKEN"
    path = error.path
    return (
        f"Put it back, or move {path.name} away, and {path.name}-wal, as far as they are there, and let `packtrain "
        f"recover INPUT... {runs} --out OUT` make it again from the input and the service's list of jobs. For a new "
        f"run in its place, where all is paid for again, {_OTHER_OUT}."
    )


@advice.register(p.ManifestExists)
def _(error: p.ManifestExists) -> str:
    if error.path.suffix != ".db":
        return (
            f"Put its manifest back if you have it, and start the same `packtrain run` again; or move "
            f"{error.path.name} away, then {AGAIN}."
        )
    return (
        "Start the same `packtrain run` again to go on. If it is damaged, or can't be adopted, move it, and its -wal "
        "if there is one, away first; if it was copied, moved or put back here, see "
        f"`{command('adopt', error.path.parent)}`."
    )


@advice.register(p.NewerSchema)
def _(error: p.NewerSchema) -> str:
    return "Start that version, or a later one."


@advice.register(p.Restored)
def _(error: p.Restored) -> str:
    return (
        "If no other copy of it is at work, and none will be, say so with "
        f"`{command('adopt', error.state)}`; {_ADOPTED}. `packtrain recover` makes it again from the input and the "
        f"service's list of jobs. For a new run in its place, {_OTHER_OUT}."
    )


@advice.register(p.OtherAccount)
def _(error: p.OtherAccount) -> str:
    first = "Give a key of the same account" if error.key else "Give --service as it was"
    return (
        f"{first}: otherwise they would be created, and paid for, again. If it is the same, and the jobs are gone "
        f"because they are old, say so with `{command('adopt', error.state)}`."
    )


@advice.register(p.OtherSettings)
def _(error: p.OtherSettings) -> str:
    unsent = "" if error.sent else " As far as it knows no job was ever created, so its state directory may be removed."
    return f"Start it as it was, or {_OTHER_OUT}.{unsent}"


@advice.register(p.UnknownRun)
def _(error: p.UnknownRun) -> str:
    return "See its name, or start it first."


@advice.register(p.NothingToRecover)
def _(error: p.NothingToRecover) -> str:
    return (
        "See whether the key is of the same account, and whether the run is the one that the names of its jobs have "
        "after 'pt1.'"
    )


@advice.register(p.OutputChanged)
def _(error: p.OutputChanged) -> str:
    return f"Put it back. To ask the service again, and pay again: {_OTHER_OUT}."


@advice.register(p.Conflict)
def _(error: p.Conflict) -> str:
    return f"Nothing is lost: {AGAIN}."
