"""``packtrain recover``: make a lost manifest again."""

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from packtrain import Options, Recovery
from packtrain._validation import counted, state_of

from . import arguments as arg
from .console import put, put_json, say
from .credentials import find_key
from .exits import Exit
from .interrupts import Interrupts, interruptible
from .proxies import through
from .service import choose

_DEFAULT = Options()


async def recover(
    *inputs: arg.Inputs,
    run: Annotated[str, Parameter(metavar="TOKEN", help="The run's token, as `status` and manifest.run show it.")],
    model: Annotated[arg.Model, Parameter(help="As at the first start.")],
    out: arg.Out,
    service: arg.ServiceName = "gemini",
    wire: arg.WireName = None,
    api_key_file: arg.KeyFile = None,
    proxy: arg.Proxy = None,
    task: Annotated[Literal["generate", "embed"], Parameter(help="What the requests ask for.")] = "generate",
    state: arg.State = None,
    max_shard_bytes: arg.ShardBytes = None,
    max_shard_requests: arg.ShardRequests = None,
    spool_bytes: Annotated[arg.Size, Parameter(help="Disk for shards; what is beyond it, the run reads.")] = (
        _DEFAULT.spool_bytes
    ),
    duplicates: arg.Duplicates = _DEFAULT.duplicates,
    max_rejects: arg.MaxRejects = None,
    patience: arg.Patience = _DEFAULT.patience,
    join: arg.Join = False,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    arg.refuse_none(inputs, "recover")
    where = state or state_of(out)
    chosen = choose(service, wire=wire, key=find_key(api_key_file, os.environ))
    chosen = through(chosen, proxy, quiet=common.quiet)
    options = Options(
        shard_bytes=max_shard_bytes,
        shard_requests=max_shard_requests,
        spool_bytes=spool_bytes,
        duplicates=duplicates,
        max_rejects=max_rejects,
        patience=patience,
    )
    from packtrain import recover as make_again

    async def work(_: Interrupts) -> Recovery:
        return await make_again(
            inputs,
            run=run,
            model=model,
            out=out,
            state=where,
            service=chosen,
            task=task,
            join=join,
            options=options,
        )

    found = await interruptible(work)
    if found is None:
        say("stopped; nothing was recovered; start the same command again")
        return Exit.AGAIN
    if json:
        put_json(found)
    else:
        put(_text(found, where))
    return Exit.COMPLETE


def _text(found: Recovery, state: Path) -> str:
    missing = found.shards - found.with_job
    shards = counted(found.shards, "shard")
    lines = [f"recovered {state}: {shards}, {found.with_job:,} of them with a job at the service"]
    if missing:
        lines.append(f"  {counted(missing, 'shard')} without one: looked for again before anything is sent")
    if not found.whole:
        lines.append("  the rest of the input is read by the run, when there is room")
    return "\n".join([*lines, "Start the same `packtrain run` again to go on."])
