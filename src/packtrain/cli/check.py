"""``packtrain check``: validate, and nothing else."""

from packtrain import CheckReport, Options
from packtrain._validation import counted

from . import arguments as arg
from .console import put, put_json
from .exits import Exit
from .rejects import collapsed

_DEFAULT = Options()


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
    if json:
        put_json({name: getattr(report, name) for name in ("lines", "valid", "rejected", "rejects")})
    else:
        put(_text(report))
    return _exit(report)


def _exit(report: CheckReport) -> Exit:
    if not report.valid:
        return Exit.INPUT
    return Exit.SOME_FAILED if report.rejected else Exit.COMPLETE


def _text(report: CheckReport) -> str:
    lines = collapsed(report.samples, report.reasons)
    counts = f"{report.valid:,} valid, {report.rejected:,} rejected"
    lines.append(f"{counted(report.lines, 'line')}: {counts}" + (f", {report.blank:,} blank" if report.blank else ""))
    return "\n".join(lines)
