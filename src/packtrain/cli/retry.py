"""``packtrain retry``: ask the failed lines of a complete run again."""

import os
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from packtrain import NoRun, Options, Summary
from packtrain._validation import answers_of

from . import arguments as arg
from .console import put, put_json, say
from .credentials import find_key
from .exits import Exit, UsageError, of_summary
from .interrupts import Interrupts, interruptible, stopped
from .progress import show
from .proxies import through
from .service import choose_of_state, paced
from .summaries import summary_text

_DEFAULT = Options()


async def retry(
    state: Annotated[Path, Parameter(metavar="STATE", help="The state directory of the run.")],
    /,
    *,
    everything: Annotated[
        bool, Parameter(name="--all", negative=(), help="Every failed line, not only those whose failure may pass.")
    ] = False,
    out: Annotated[
        str | None, Parameter(metavar="OUT", help="Where the answers are; default: STATE without .packtrain.")
    ] = None,
    service: arg.ServiceOfState = None,
    wire: arg.WireName = None,
    api_key_file: arg.KeyFile = None,
    proxy: arg.Proxy = None,
    uploads: arg.Uploads = _DEFAULT.uploads,
    poll: arg.Poll = None,
    settle: arg.Settle = None,
    patience: arg.Patience = _DEFAULT.patience,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    where = out or answers_of(state)
    if where is None:
        raise UsageError(f"{state}: its name does not say where its answers are; name them with --out")
    if not await anyio.Path(state / "manifest.db").is_file():
        raise NoRun(f"{state}: there is no run here", state=state)
    from packtrain import driver, open_client, request_retry

    if await driver(state) is not None:
        id = await request_retry(state, everything=everything)
        put(f"requested ({id}): the driver of the run asks failed lines again once the run is published")
        return Exit.AGAIN
    chosen = await choose_of_state(state, service, wire=wire, key=find_key(api_key_file, os.environ))
    chosen = through(chosen, proxy, quiet=common.quiet)
    chosen = paced(chosen, poll=poll, settle=settle)

    async def work(interrupts: Interrupts) -> Summary:
        async with open_client(state, service=chosen, options=Options(uploads=uploads, patience=patience)) as client:
            interrupts.on_first(client.stop)
            interrupts.group.start_soon(show, client.progress, common.quiet)
            return await client.retry(where, everything=everything)

    summary = await interruptible(work)
    if summary is None:
        say(stopped(state))
        return Exit.AGAIN
    if json:
        put_json(summary)
    else:
        put(summary_text(summary, str(where), state))
    return of_summary(summary)
