"""``packtrain split``: validate and cut into files."""

from packtrain import Options, SplitReport
from packtrain._validation import counted

from . import arguments as arg
from .console import put, put_json
from .exits import Exit
from .rejects import listed

_DEFAULT = Options()


async def split(
    *inputs: arg.Inputs,
    out_dir: arg.OutDir,
    max_shard_bytes: arg.ShardBytes = None,
    max_shard_requests: arg.ShardRequests = None,
    duplicates: arg.Duplicates = _DEFAULT.duplicates,
    max_rejects: arg.MaxRejects = None,
    workers: arg.Workers = None,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    arg.refuse_none(inputs, "split")
    from packtrain import split as split_inputs

    options = Options(
        shard_bytes=max_shard_bytes,
        shard_requests=max_shard_requests,
        duplicates=duplicates,
        max_rejects=max_rejects,
        workers=workers,
    )
    report = await split_inputs(inputs, out_dir, options=options)
    if json:
        put_json(report)
    else:
        put(_text(report))
    return _exit(report)


def _exit(report: SplitReport) -> Exit:
    if not report.valid:
        return Exit.INPUT
    return Exit.SOME_FAILED if report.rejected else Exit.COMPLETE


def _text(report: SplitReport) -> str:
    lines = [
        f"{file}  {counted(shard.lines, 'line')}, {counted(shard.bytes, 'byte')}, sha256 {shard.sha256}"
        for file, shard in zip(report.files, report.shards, strict=True)
    ]
    if report.rejects_file is not None:
        lines.append(f"{report.rejects_file}  {counted(report.rejected, 'rejected line')}")
        lines += listed(report.rejects_file, report.rejected)
    lines.append(f"{counted(report.lines, 'line')}: {report.valid:,} valid, {report.rejected:,} rejected")
    return "\n".join(lines)
