"""The service as a whole: the application, and one running instance of it.

async with serving(Path("batch-service")) as origin:
    ...  # any client of the Gemini Batch API, against ``origin``
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import anyio
from aiohttp import web
from anyio import CancelScope

from .._errors import InputError, ManifestError
from .._service import is_loopback
from .access import Doorkeeper, check_binding
from .answers import Refusal, refuse
from .backends import open_backend
from .connections import HEADERS, Connection, Stalled, connect, watch
from .description import DescriptionRoutes
from .files import Files
from .gemini.batches import BatchRoutes
from .gemini.description import GEMINI
from .gemini.files import FileRoutes
from .gemini.models import ModelRoutes
from .gemini.single import SingleUploadRoutes
from .gemini.uploads import UploadRoutes
from .gemini.webhooks import WebhookRoutes
from .intake import SPENT
from .jobs import Jobs
from .limits import APPLIED, LIMITS
from .mischief import Mischief
from .openai.answers import deny, is_lost
from .openai.description import OPENAI
from .openai.routes import openai_routes
from .openai.runs import BatchRuns
from .openai.stored_batches import Batches
from .openai.stored_uploads import PartUploads
from .routing import find
from .runner import Runner
from .store import NO_QUOTAS, open_store
from .uploads import Uploads
from .webhooks.courier import Courier
from .webhooks.deliveries import Deliveries
from .webhooks.destinations import LOOPBACK, Destinations
from .webhooks.keys import Keys
from .webhooks.stored import Webhooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from aiohttp.typedefs import Handler

    from .._model import Secret
    from .backends import Backend
    from .faults import FaultPlan
    from .limits import Limits
    from .quotas import Quotas
    from .routing import Route
    from .store import Store

_log = logging.getLogger(__name__)

#: How a call wants to be refused, once its route is known.
_FORM: web.RequestKey[Callable[[Refusal], web.Response]] = web.RequestKey("form")

#: Seconds: for calls under way when the service stops, and for all of the stopping.
DRAIN_SECONDS = 1.0
STOP_SECONDS = 3.0
#: Connections that may wait to be accepted.
BACKLOG = 128
#: Seconds between two sweeps of what has expired.
SWEEP_PERIOD = 3600.0


def create_app(
    store: Store,
    *,
    backend: Backend,
    wake: Callable[[], None],
    key: Secret | None = None,
    mischief: Mischief | None = None,
    limits: Limits = LIMITS,
    local: bool = True,
    destinations: Destinations = LOOPBACK,
) -> web.Application:
    """The application over ``store``. ``wake`` is called when a job was made; without ``key`` any key is good.

    ``backend`` answers the calls that do not wait for a job; events go to ``destinations`` alone. A ``local`` service
    is for this machine alone, and known by no other name than ``localhost`` and the loopback addresses.
    """
    routes = all_routes(store, backend, wake, destinations)
    door = Doorkeeper(key, local=local)
    if mischief:
        mischief.check(route.name for route in routes)

    async def dispatch(request: web.Request) -> web.StreamResponse:
        found = find(routes, request)
        request[_FORM] = found.route.refuse
        door.check_origin(request)
        if not found.route.keyless:
            door.admit(request)
        if found.route.bulk and isinstance(request.protocol, Connection):
            request.protocol.be_patient()
        if mischief:
            return await mischief.perform(found.route, request, lambda r: found.route.handler(r, *found.groups))
        return await found.route.handler(request, *found.groups)

    app = web.Application(client_max_size=limits.body_bytes, middlewares=[_attending, _answering])
    app[APPLIED] = limits
    app.on_response_prepare.append(_label)
    app.router.add_route("*", "/{path:.*}", dispatch)
    return app


def all_routes(
    store: Store, backend: Backend, wake: Callable[[], None], destinations: Destinations = LOOPBACK
) -> list[Route]:
    """Each is described in the table of operations of its wire; see ``description``."""
    files = Files(store)
    uploads = Uploads(files, store.blobs)
    downloads = FileRoutes(files, store.blobs)
    keys = Keys(store)
    return [
        *openai_routes(store, backend, downloads, wake),
        *SingleUploadRoutes(files, uploads).routes(),
        *UploadRoutes(files, uploads).routes(),
        *downloads.routes(),
        *BatchRoutes(Jobs(store), store.blobs, wake, keys=keys, destinations=destinations).routes(),
        *WebhookRoutes(Webhooks(store), keys, destinations).routes(),
        *ModelRoutes(backend).routes(),
        *DescriptionRoutes((GEMINI, OPENAI)).routes(),
    ]


async def _label(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


@web.middleware
async def _attending(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection from when to when it is being served."""
    connection = request.protocol
    with connection.attend(request) if isinstance(connection, Connection) else nullcontext():
        return await handler(request)


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ends the connection where it cannot be used again."""
    response = await _formed(request, handler)
    if request.get(SPENT):
        response.force_close()
    return response


async def _formed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure in the form of the wire it came by, none with a traceback."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return _form(request)(refusal)
    except web.HTTPException as error:
        return _form(request)(Refusal(error.status, error.reason))
    except Stalled as error:
        response = _form(request)(Refusal(408, f"{error}."))
        response.force_close()
        return response
    except ManifestError as error:
        return _form(request)(Refusal(503, f"The service is about to end: {error}."))
    except ConnectionError as error:
        _log.info("%s %s broke off: %s", request.method, request.path, error)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # nobody is left to read it
    except Exception:  # noqa: BLE001 - the outermost edge: the log gets the fault, the client none of it
        _log.exception("%s %s failed", request.method, request.path)
        return _form(request)(Refusal(500, "An internal error has occurred."))


def _form(request: web.Request) -> Callable[[Refusal], web.Response]:
    return request.get(_FORM) or (deny if is_lost(request) else refuse)


@asynccontextmanager
async def serving(
    directory: Path,
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
) -> AsyncIterator[str]:
    """Serves the store in ``directory`` and yields the origin, as in ``http://127.0.0.1:8787``.

    ``port`` 0 picks a free one; ``workers`` jobs run at a time; ``quotas`` is what clients may have; ``backend`` is a
    name (``echo``, ``forward:URL``, ``module:function``) or a Backend, ``backend_key`` what the URL's endpoint wants
    to see; ``faults`` makes it misbehave; ``webhooks_to`` are the origins that events may be sent to, as in
    ``https://host:8443``. Without any, a service that listens on loopback sends them to loopback addresses, another
    one nowhere. ``limits`` is what one client may take of its time and memory.

    Raises InputError for an address that cannot be listened on or would let others in without a key, for a backend
    that cannot be had, for a plan about routes that there are not, and for what is not an origin, ManifestError for a
    directory that cannot be used.
    """
    check_binding(host, key)
    local = is_loopback(host)
    destinations = Destinations(webhooks_to, loopback=local)
    async with (
        open_backend(backend, backend_key) as answerer,
        open_store(directory, quotas=quotas) as store,
        _alone(),
        anyio.create_task_group() as tasks,
    ):
        openai = BatchRuns(Batches(store), store.blobs, answerer)
        runner = Runner(Jobs(store), store.blobs, answerer, openai, workers=workers)
        tasks.start_soon(store.watch)
        tasks.start_soon(_sweeping, Files(store).sweep, Jobs(store).sweep, PartUploads(store).sweep)
        tasks.start_soon(runner.run)
        tasks.start_soon(Courier(store, Deliveries(store), Keys(store), destinations).run)
        mischief = Mischief(faults, store) if faults else None
        app = create_app(
            store,
            backend=answerer,
            wake=runner.wake,
            key=key,
            mischief=mischief,
            limits=limits,
            local=local,
            destinations=destinations,
        )
        if mischief:
            tasks.start_soon(mischief.run)
        async with _listening(app, host, port, limits) as origin:
            yield origin
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    """An error that comes out of task groups alone comes out as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__


async def _sweeping(*sweeps: Callable[[], Awaitable[None]]) -> None:
    while True:
        for sweep in sweeps:
            await sweep()
        await anyio.sleep(SWEEP_PERIOD)


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int, limits: Limits) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=DRAIN_SECONDS)
    try:
        await runner.setup()
        server = runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(lambda: connect(server, limits), host, port, backlog=BACKLOG)
        except OSError as error:
            raise InputError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another one") from error
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, server, limits)
                bound = listener.sockets[0].getsockname()[1]
                yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
                tasks.cancel_scope.cancel()
        finally:
            listener.close()
    finally:
        with CancelScope(shield=True), anyio.move_on_after(STOP_SECONDS):
            await runner.cleanup()
