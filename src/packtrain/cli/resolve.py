"""``packtrain resolve``: decide about a shard that is quarantined."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from packtrain import Decision, Gemini, InUse, Local, NoRun, Service, ShardRow

from . import arguments as arg
from .console import put
from .credentials import find_key
from .exits import Exit, UsageError
from .proxies import through
from .requests import requested
from .service import choose_of_state


async def resolve(
    state: Annotated[Path, Parameter(metavar="STATE", help="The state directory of the run.")],
    /,
    *,
    shard: Annotated[int, Parameter(metavar="N", help="The number of the shard, as run and status name it.")],
    adopt: Annotated[
        str | None, Parameter(metavar="NAME", help="The job NAME at the service is the shard's; it is looked up there.")
    ] = None,
    retry: Annotated[bool, Parameter(negative=(), help="Make one more attempt, with a job of its own.")] = False,
    drop: Annotated[bool, Parameter(negative=(), help="Let all lines of the shard fail, with the reason.")] = False,
    run: Annotated[
        str, Parameter(metavar="NAME", help="The run's name, where the state directory holds several.")
    ] = "main",
    service: arg.ServiceOfState = None,
    wire: arg.WireName = None,
    api_key_file: arg.KeyFile = None,
    proxy: arg.Proxy = None,
    common: arg.Common = arg.COMMON,
) -> Exit:
    if (adopt is not None) + retry + drop != 1:
        raise UsageError("give one decision: --adopt NAME, --retry or --drop")
    if not await anyio.Path(state / "manifest.db").is_file():
        raise NoRun(f"{state}: there is no run here", state=state)
    decision: Decision = "retry" if retry else "drop" if drop else "adopt"
    from packtrain import driver, open_client, request_decision

    if await driver(state) is None:
        chosen: Service | Local = Gemini()  # which is not asked anything
        if adopt is not None:
            chosen = await choose_of_state(state, service, wire=wire, key=find_key(api_key_file, os.environ))
            chosen = through(chosen, proxy, quiet=common.quiet)
        with suppress(InUse):  # a driver has started meanwhile
            async with open_client(state, service=chosen) as client:
                put(_text(await client.resolve(shard, decision, job=adopt, run_id=run)))
            return Exit.COMPLETE
    return await requested(state, await request_decision(state, shard, decision, job=adopt, run_id=run))


def _text(job: ShardRow) -> str:
    return f"shard {job.shard}: now {job.state}, {job.reason}\nStart the run again to go on."
