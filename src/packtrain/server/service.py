"""A running service: its store, its background tasks and its listening socket.

async with serving("batch-service") as origin:
    ...  # point any client of the Gemini Batch API at ``origin``
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from .._errors import InputError, ManifestError
from .._io.clock import SystemClock
from .._io.threads import finish
from .._providers.service import is_loopback
from .app import create_app
from .auth import check_listen_address
from .backends.backend import open_backend
from .connections import accept, watch_connections
from .faults.injector import FaultInjector
from .faults.plan import check_plan
from .files import Files
from .jobs import Jobs
from .limits import LIMITS, affordable
from .openapi_document import route_names
from .runner import Runner
from .store import NO_QUOTAS, open_store
from .webhooks.deliveries import Deliveries
from .webhooks.destinations import Destinations
from .webhooks.sender import WebhookSender
from .webhooks.signing_keys import SigningKeys
from .wires.gemini.openapi import GEMINI
from .wires.openai.batch_runner import BatchRunner
from .wires.openai.batch_store import OpenAIBatches
from .wires.openai.openapi import OPENAI
from .wires.openai.upload_store import OpenAIUploads

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from .._io.clock import Clock
    from .._model import Secret
    from .backends.backend import Backend
    from .faults.plan import FaultPlan
    from .limits import Limits
    from .quotas import Quotas

#: Seconds for calls in flight when the service stops, and for the whole shutdown.
DRAIN_SECONDS = 1.0
STOP_SECONDS = 3.0
#: Connections that may wait to be accepted.
BACKLOG = 1024
#: Seconds between two removals of expired rows.
SWEEP_PERIOD = 3600.0


@asynccontextmanager
async def serving(
    directory: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    backend: str | Backend = "echo",
    backend_key: Secret | None = None,
    key: Secret | None = None,
    workers: int = 2,
    quotas: Quotas = NO_QUOTAS,
    faults: FaultPlan | None = None,
    limits: Limits = LIMITS,
    webhooks_to: Sequence[str] = (),
    clock: Clock | None = None,
) -> AsyncIterator[str]:
    """Serves the store in ``directory`` and yields the origin, as in ``http://127.0.0.1:8787``.

    ``port`` 0 picks a free one; ``workers`` jobs run at a time; ``quotas`` and ``limits`` bound what clients may use;
    ``backend`` is a name (``echo``, ``forward:URL``, ``module:function``) or a Backend, ``backend_key`` the API key of
    the URL's endpoint; ``faults`` is a plan of injected faults; ``webhooks_to`` are the origins that events may be sent
    to, as in ``https://host:8443``. Without any, a service on loopback sends events to loopback addresses, another one
    sends none. ``clock`` measures ``limits``, the system's by default.

    Raises InputError for an address that is in use, or reachable from other machines without a key; for an unknown
    backend; for a fault plan with unknown routes or values out of range; and for a malformed origin. Raises
    ManifestError for a directory that cannot be used.
    """
    check_listen_address(host, key)
    clock = clock or SystemClock()
    limits = affordable(limits)
    directory = Path(directory)
    local = is_loopback(host)
    destinations = Destinations(webhooks_to, loopback=local)
    if faults:
        check_plan(faults, route_names((GEMINI, OPENAI)))
    if await anyio.Path(directory).is_file():
        raise ManifestError(f"{directory}: is a file; give a directory, or a name that is not in use")
    servers: list[web.Server] = []
    async with (
        open_backend(backend, backend_key) as answerer,
        _bind(host, port, lambda: accept(servers[0], limits, clock)) as listener,
        open_store(directory, quotas=quotas) as store,
        _unwrap_groups(),
        anyio.create_task_group() as tasks,
    ):
        openai = BatchRunner(OpenAIBatches(store), store.blobs, answerer)
        runner = Runner(Jobs(store), store.blobs, answerer, openai, workers=workers)
        tasks.start_soon(store.watch)
        tasks.start_soon(_sweep_periodically, Files(store).sweep, Jobs(store).sweep, OpenAIUploads(store).sweep)
        tasks.start_soon(runner.run)
        tasks.start_soon(WebhookSender(store, Deliveries(store), SigningKeys(store), destinations).run)
        injector = FaultInjector(faults, store) if faults else None
        app = create_app(
            store,
            backend=answerer,
            wake=runner.wake,
            key=key,
            injector=injector,
            limits=limits,
            clock=clock,
            local=local,
            destinations=destinations,
        )
        if injector:
            tasks.start_soon(injector.run)
        async with _serve_http(listener, app, servers, limits, clock):
            # Two processes may bind one address until one of them listens.
            with _translate_bind_errors(host, port):
                await listener.start_serving()
            bound = listener.sockets[0].getsockname()[1]
            yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _unwrap_groups() -> AsyncIterator[None]:
    """Raises the only error of nested exception groups as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__


async def _sweep_periodically(*sweeps: Callable[[], Awaitable[None]]) -> None:
    while True:
        for sweep in sweeps:
            await sweep()
        await anyio.sleep(SWEEP_PERIOD)


@contextmanager
def _translate_bind_errors(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another one") from error


@asynccontextmanager
async def _bind(host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> AsyncIterator[asyncio.Server]:
    """Binds the address without serving. Raises InputError before anything else has started."""
    loop = asyncio.get_running_loop()
    with _translate_bind_errors(host, port):
        listener = await loop.create_server(factory, host, port, backlog=BACKLOG, start_serving=False)
    try:
        yield listener
    finally:
        listener.close()


@asynccontextmanager
async def _serve_http(
    listener: asyncio.Server, app: web.Application, servers: list[web.Server], limits: Limits, clock: Clock
) -> AsyncIterator[None]:
    runner = web.AppRunner(app, shutdown_timeout=DRAIN_SECONDS)
    try:
        await runner.setup()
        assert runner.server is not None
        servers.append(runner.server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_connections, runner.server, limits, clock)
            yield
            tasks.cancel_scope.cancel()
    finally:
        listener.close()
        await finish(_clean_up(runner))


async def _clean_up(runner: web.AppRunner) -> None:
    with anyio.move_on_after(STOP_SECONDS):
        await runner.cleanup()
