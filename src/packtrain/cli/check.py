"""``packtrain check``: validate, and nothing else."""

import re
from collections import Counter
from collections.abc import Iterator

import msgspec

from packtrain import CheckReport, Options, Reject
from packtrain._validation import counted

from . import arguments as arg
from .console import put
from .exits import Exit

_DEFAULT = Options()
#: Bad lines shown of each kind.
_SHOWN = 20
#: Where a reason begins to speak of the one line.
_DETAIL = re.compile(r"[;:'\"\d]")


async def check(
    *inputs: arg.Inputs,
    max_shard_bytes: arg.ShardBytes = None,
    duplicates: arg.Duplicates = _DEFAULT.duplicates,
    max_rejects: arg.MaxRejects = None,
    workers: arg.Workers = None,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    arg.refuse_none(inputs, "check")
    from packtrain import check as check_inputs

    options = Options(shard_bytes=max_shard_bytes, duplicates=duplicates, max_rejects=max_rejects, workers=workers)
    report = await check_inputs(inputs, options=options)
    put(_json(report) if json else _text(report))
    return _exit(report)


def _exit(report: CheckReport) -> Exit:
    if not report.valid:
        return Exit.INPUT
    return Exit.SOME_FAILED if report.rejected else Exit.COMPLETE


def _samples(rejects: list[Reject]) -> Iterator[Reject]:
    """The first few of each kind: a wrong file is wrong in the same way in every line."""
    seen: Counter[str] = Counter()
    for bad in rejects:
        kind = _DETAIL.split(bad.reason, maxsplit=1)[0]
        seen[kind] += 1
        if seen[kind] <= _SHOWN:
            yield bad


def _json(report: CheckReport) -> str:
    fields = {name: getattr(report, name) for name in ("lines", "valid", "rejected", "rejects")}
    return msgspec.json.encode(fields).decode()


def _text(report: CheckReport) -> str:
    lines = [f"{bad.source}:{bad.line} (byte {bad.offset}): {bad.reason}" for bad in _samples(report.rejects)]
    if unlisted := report.rejected - len(lines):
        listed = len(report.rejects)
        lines.append(
            f"... and {unlisted:,} more; --json lists {f'the first {listed:,}' if listed < report.rejected else 'all'}"
        )
    counts = f"{report.valid:,} valid, {report.rejected:,} rejected"
    lines.append(f"{counted(report.lines, 'line')}: {counts}" + (f", {report.blank:,} blank" if report.blank else ""))
    return "\n".join(lines)
