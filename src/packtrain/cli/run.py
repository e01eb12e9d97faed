"""``packtrain run``: the whole job."""

import os
from typing import Annotated, Literal

import anyio
from cyclopts import Parameter
from cyclopts.validators import Number

from packtrain import Options, Summary
from packtrain._validation import state_of

from . import arguments as arg
from .console import put, put_json, say
from .credentials import find_key
from .exits import Exit, UsageError, of_summary
from .interrupts import Interrupts, interruptible, stopped
from .progress import show
from .proxies import through
from .service import choose_again, choose_of_state, paced
from .summaries import summary_text

_DEFAULT = Options()
_Ambiguity = Literal["revoke", "wait", "quarantine", "fence", "settle"]
#: Former values of --on-ambiguous, which are still taken.
_FORMER: dict[str, Literal["revoke", "wait"]] = {"fence": "revoke", "settle": "wait"}


async def run(
    *inputs: arg.Inputs,
    model: arg.Model | None = None,
    out: arg.Out | None = None,
    into: arg.Into = None,
    service: arg.ServiceName | None = None,
    wire: arg.WireName = None,
    api_key_file: arg.KeyFile = None,
    proxy: arg.Proxy = None,
    task: Annotated[Literal["generate", "embed"], Parameter(help="What the requests ask for.")] = "generate",
    state: arg.State = None,
    max_shard_bytes: arg.ShardBytes = None,
    max_shard_requests: arg.ShardRequests = None,
    max_shard_age: Annotated[
        arg.Duration | None, Parameter(help="Seal the open shard after this long, for slow endless streams.")
    ] = None,
    uploads: arg.Uploads = _DEFAULT.uploads,
    spool_bytes: Annotated[
        arg.Size, Parameter(help="Disk for shards; the source is held back when it is full.")
    ] = _DEFAULT.spool_bytes,
    duplicates: arg.Duplicates = _DEFAULT.duplicates,
    max_rejects: arg.MaxRejects = None,
    workers: arg.Workers = None,
    on_ambiguous: Annotated[
        _Ambiguity,
        Parameter(
            show_choices=False,
            metavar="revoke|wait|quarantine",
            help="When it is not known whether a job was created, and the service lists none: delete the input file "
            "and try again, only wait and try again, or leave the shard to a person.",
        ),
    ] = _DEFAULT.on_ambiguous,
    poll: arg.Poll = None,
    settle: arg.Settle = None,
    retries: Annotated[
        int,
        Parameter(metavar="N", validator=Number(gte=0), help="Ask lines again, up to N times, whose failure may pass."),
    ] = _DEFAULT.retries,
    patience: arg.Patience = _DEFAULT.patience,
    retry_class: arg.RetryClasses = (),
    no_wait: Annotated[bool, Parameter(negative=(), help="Submit what can be submitted, then exit with 75.")] = False,
    join: arg.Join = False,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    arg.refuse_none(inputs, "run")
    target = _target(out, into, model)
    where = state or state_of(target)
    key = find_key(api_key_file, os.environ)
    if into is None:
        chosen = await choose_again(where, service or "gemini", wire=wire, key=key)
    else:
        chosen = await choose_of_state(where, service, wire=wire, key=key)
    chosen = through(chosen, proxy, quiet=common.quiet)
    chosen = paced(chosen, poll=poll, settle=settle)
    options = Options(
        shard_bytes=max_shard_bytes,
        shard_requests=max_shard_requests,
        shard_age=max_shard_age,
        uploads=uploads,
        spool_bytes=spool_bytes,
        duplicates=duplicates,
        max_rejects=max_rejects,
        workers=workers,
        on_ambiguous=_present(on_ambiguous),
        retries=retries,
        patience=patience,
        retry_class=retry_class,
    )
    from packtrain import finished

    async def extend(interrupts: Interrupts) -> Summary:
        from packtrain import open_client

        async with open_client(where, service=chosen, options=options) as client:
            interrupts.on_first(client.stop)
            interrupts.group.start_soon(show, client.progress, common.quiet)
            return await client.extend(inputs, into=target, wait=not no_wait)

    async def work(interrupts: Interrupts) -> tuple[Summary, bool]:
        if model is None or into is not None:
            return await extend(interrupts), False
        # The manifest alone shows that a run is finished, before anything that a service needs is loaded.
        done = await finished(
            where, inputs=inputs, service=chosen, model=model, out=target, task=task, join=join, options=options
        )
        if done is not None:
            return done, True
        from packtrain import diagnose, open_client

        if not await anyio.Path(where).exists():
            await diagnose(inputs, task=task, state=where, out=target)
        async with open_client(where, service=chosen, options=options) as client:
            interrupts.on_first(client.stop)
            interrupts.group.start_soon(show, client.progress, common.quiet)
            return await client.run(inputs, model=model, out=target, task=task, join=join, wait=not no_wait), False

    ended = await interruptible(work)
    if ended is None:
        say(stopped(where))
        return Exit.AGAIN
    summary, already = ended
    if json:
        put_json(summary)
    else:
        put(summary_text(summary, target, where, already=already))
    return of_summary(summary)


def _target(out: str | None, into: str | None, model: str | None) -> str:
    """Where the answers go. Raises UsageError for what is missing, and for two outputs."""
    if into is not None:
        if out is not None:
            raise UsageError("give --out for a new run, or --into to add to a complete one, not both")
        return into
    if missing := [name for name, value in (("--model", model), ("--out", out)) if value is None]:
        raise UsageError(f"{missing[0]} is missing\nSee packtrain run --help.")
    return out or ""


def _present(given: _Ambiguity) -> Literal["revoke", "wait", "quarantine"]:
    if given == "fence" or given == "settle":
        say(f"packtrain: --on-ambiguous {given} is called {_FORMER[given]} now")
        return _FORMER[given]
    return given
