"""HTTP application: the routes of both wires, authentication, and error responses."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from .._errors import ManifestError
from .._io.clock import SystemClock
from .auth import Authenticator
from .connections import RESPONSE_HEADERS, BodyTimeoutError, Connection
from .files import Files
from .jobs import Jobs
from .limits import BODY_MEMORY, CLOCK, LIMITS, LIMITS_KEY, TURNS, BodyMemory, release_memory, turn
from .openapi_document import OpenAPIRoutes
from .replies import HttpError, error_response
from .request_body import CONNECTION_SPENT
from .routing import find_route
from .uploads import ActiveUploads
from .webhooks.destinations import LOOPBACK, Destinations
from .webhooks.registry import WebhookRegistry
from .webhooks.signing_keys import SigningKeys
from .wires.gemini.batches import BatchRoutes
from .wires.gemini.files import FileRoutes
from .wires.gemini.interactive import ModelRoutes
from .wires.gemini.openapi import GEMINI
from .wires.gemini.resumable_upload import UploadRoutes
from .wires.gemini.simple_upload import SimpleUploadRoutes
from .wires.gemini.webhooks import WebhookRoutes
from .wires.openai.batch_store import OpenAIBatches
from .wires.openai.batches import OpenAIBatchRoutes
from .wires.openai.errors import is_openai_path, openai_error_response
from .wires.openai.file_store import OpenAIFiles
from .wires.openai.files import OpenAIFileRoutes
from .wires.openai.interactive import InteractiveRoutes
from .wires.openai.openapi import OPENAI
from .wires.openai.upload_store import OpenAIUploads
from .wires.openai.uploads import OpenAIUploadRoutes

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler

    from .._io.clock import Clock
    from .._model import Secret
    from .backends.backend import Backend
    from .faults.injector import FaultInjector
    from .limits import Limits
    from .routing import Match, Route
    from .store import Store

_log = logging.getLogger(__name__)

#: How the matched route encodes its errors.
_ENCODER: web.RequestKey[Callable[[HttpError], web.Response]] = web.RequestKey("encoder")


def create_app(
    store: Store,
    *,
    backend: Backend,
    wake: Callable[[], None],
    key: Secret | None = None,
    injector: FaultInjector | None = None,
    limits: Limits = LIMITS,
    clock: Clock | None = None,
    local: bool = True,
    destinations: Destinations = LOOPBACK,
) -> web.Application:
    """The application over ``store``. ``wake`` is called after a job is created; without ``key`` any key is accepted.

    ``backend`` answers interactive calls; events are sent to ``destinations`` only. A ``local`` service serves this
    machine only, and only under the names ``localhost`` and the loopback addresses.
    """
    routes = all_routes(store, backend, wake, destinations)
    authenticator = Authenticator(key, local=local)

    async def dispatch(request: web.Request) -> web.StreamResponse:
        match = find_route(routes, request)
        request[_ENCODER] = match.route.error_response
        authenticator.check_origin(request)
        if not match.route.keyless:
            authenticator.check_key(request)
        if match.route.bulk and isinstance(request.protocol, Connection):
            request.protocol.allow_long_body()
        if injector:
            return await injector.perform(match.route, request, lambda r: _serve(match, r))
        return await _serve(match, request)

    app = web.Application(client_max_size=limits.body_bytes, middlewares=[_track_request, _close_spent])
    app[LIMITS_KEY] = limits
    app[CLOCK] = clock or SystemClock()
    app[BODY_MEMORY] = BodyMemory(limits.all_bodies)
    app[TURNS] = anyio.CapacityLimiter(limits.calls)
    app.on_response_prepare.append(_add_headers)
    app.router.add_route("*", "/{path:.*}", dispatch)
    return app


def all_routes(
    store: Store, backend: Backend, wake: Callable[[], None], destinations: Destinations = LOOPBACK
) -> list[Route]:
    """All routes. Each needs an entry in the operations table of its wire's ``openapi`` module."""
    files = Files(store)
    uploads = ActiveUploads(files, store.blobs)
    downloads = FileRoutes(files, store.blobs)
    keys = SigningKeys(store)
    return [
        *openai_routes(store, backend, downloads, wake),
        *SimpleUploadRoutes(files, uploads).routes(),
        *UploadRoutes(files, uploads).routes(),
        *downloads.routes(),
        *BatchRoutes(Jobs(store), store.blobs, wake, keys=keys, destinations=destinations).routes(),
        *WebhookRoutes(WebhookRegistry(store), keys, destinations).routes(),
        *ModelRoutes(backend).routes(),
        *OpenAPIRoutes((GEMINI, OPENAI)).routes(),
    ]


async def _serve(match: Match, request: web.Request) -> web.StreamResponse:
    connection = request.protocol if match.route.interactive else None
    cancelling = connection.cancel_on_disconnect() if isinstance(connection, Connection) else nullcontext()
    with release_memory(request), cancelling:
        async with turn(request):
            return await match.route.handler(request, *match.groups)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(RESPONSE_HEADERS)


@web.middleware
async def _track_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets the connection apply its time limits while a request is served."""
    connection = request.protocol
    with connection.track_request(request) if isinstance(connection, Connection) else nullcontext():
        return await handler(request)


@web.middleware
async def _close_spent(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Closes the connection when it cannot be used again."""
    response = await _handle_errors(request, handler)
    if request.get(CONNECTION_SPENT):
        response.force_close()
    return response


async def _handle_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Encodes every failure in the format of its wire, without a traceback."""
    try:
        return await handler(request)
    except HttpError as error:
        return _encoder(request)(error)
    except web.HTTPException as error:
        return _encoder(request)(HttpError(error.status, error.reason))
    except BodyTimeoutError as error:
        response = _encoder(request)(HttpError(408, f"{error}."))
        response.force_close()
        return response
    except ManifestError as error:
        return _encoder(request)(HttpError(503, f"The service is stopping: {error}."))
    except ConnectionError as error:
        _log.info("%s %s: connection lost: %s", request.method, request.path, error)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # never sent, the connection is closed
    except Exception:  # noqa: BLE001 - outermost handler: the traceback goes to the log only
        _log.exception("%s %s failed", request.method, request.path)
        return _encoder(request)(HttpError(500, "An internal error has occurred."))


def _encoder(request: web.Request) -> Callable[[HttpError], web.Response]:
    return request.get(_ENCODER) or (openai_error_response if is_openai_path(request) else error_response)


def openai_routes(store: Store, backend: Backend, downloads: FileRoutes, wake: Callable[[], None]) -> list[Route]:
    """Routes of the OpenAI wire. They precede Gemini's, whose list routes match the same paths.

    ``backend`` answers interactive calls, ``downloads`` sends file content, ``wake`` is called after a create.
    """
    files = OpenAIFiles(store)
    return [
        *OpenAIFileRoutes(files, store.blobs, downloads).routes(),
        *OpenAIUploadRoutes(OpenAIUploads(store), store.blobs).routes(),
        *InteractiveRoutes(backend, store.quotas.openai).routes(),
        *OpenAIBatchRoutes(OpenAIBatches(store), wake).routes(),
    ]
