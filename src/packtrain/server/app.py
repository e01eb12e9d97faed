"""The application: every route of both wires, who may call it, and how a failure is told."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

from aiohttp import web

from .._errors import ManifestError
from .auth import Authenticator
from .connections import RESPONSE_HEADERS, BodyTimeoutError, Connection
from .files import Files
from .jobs import Jobs
from .limits import BODY_MEMORY, LIMITS, LIMITS_KEY, BodyMemory, release_memory
from .openapi_document import OpenAPIRoutes
from .replies import HttpError, error_response
from .request_body import CONNECTION_SPENT
from .routing import find
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

    from .._model import Secret
    from .backends.backend import Backend
    from .faults.injector import FaultInjector
    from .limits import Limits
    from .routing import Match, Route
    from .store import Store

_log = logging.getLogger(__name__)

#: How a call wants to be refused, once its route is known.
_FORM: web.RequestKey[Callable[[HttpError], web.Response]] = web.RequestKey("form")


def create_app(
    store: Store,
    *,
    backend: Backend,
    wake: Callable[[], None],
    key: Secret | None = None,
    injector: FaultInjector | None = None,
    limits: Limits = LIMITS,
    local: bool = True,
    destinations: Destinations = LOOPBACK,
) -> web.Application:
    """The application over ``store``. ``wake`` is called when a job was made; without ``key`` any key is good.

    ``backend`` answers the calls that do not wait for a job; events go to ``destinations`` alone. A ``local`` service
    is for this machine alone, and known by no other name than ``localhost`` and the loopback addresses.
    """
    routes = all_routes(store, backend, wake, destinations)
    authenticator = Authenticator(key, local=local)

    async def dispatch(request: web.Request) -> web.StreamResponse:
        found = find(routes, request)
        request[_FORM] = found.route.error_response
        authenticator.check_origin(request)
        if not found.route.keyless:
            authenticator.check_key(request)
        if found.route.bulk and isinstance(request.protocol, Connection):
            request.protocol.allow_long_body()
        if injector:
            return await injector.perform(found.route, request, lambda r: _serve(found, r))
        return await _serve(found, request)

    app = web.Application(client_max_size=limits.body_bytes, middlewares=[_attending, _answering])
    app[LIMITS_KEY] = limits
    app[BODY_MEMORY] = BodyMemory(limits.all_bodies)
    app.on_response_prepare.append(_label)
    app.router.add_route("*", "/{path:.*}", dispatch)
    return app


def all_routes(
    store: Store, backend: Backend, wake: Callable[[], None], destinations: Destinations = LOOPBACK
) -> list[Route]:
    """Each is described in the table of operations of its wire; see ``description``."""
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


async def _serve(found: Match, request: web.Request) -> web.StreamResponse:
    wire = request.protocol if found.route.interactive else None
    with release_memory(request), wire.cancel_on_disconnect() if isinstance(wire, Connection) else nullcontext():
        return await found.route.handler(request, *found.groups)


async def _label(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(RESPONSE_HEADERS)


@web.middleware
async def _attending(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection from when to when it is being served."""
    connection = request.protocol
    with connection.track_request(request) if isinstance(connection, Connection) else nullcontext():
        return await handler(request)


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ends the connection where it cannot be used again."""
    response = await _formed(request, handler)
    if request.get(CONNECTION_SPENT):
        response.force_close()
    return response


async def _formed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure in the form of the wire it came by, none with a traceback."""
    try:
        return await handler(request)
    except HttpError as error:
        return _form(request)(error)
    except web.HTTPException as error:
        return _form(request)(HttpError(error.status, error.reason))
    except BodyTimeoutError as error:
        response = _form(request)(HttpError(408, f"{error}."))
        response.force_close()
        return response
    except ManifestError as error:
        return _form(request)(HttpError(503, f"The service is about to end: {error}."))
    except ConnectionError as error:
        _log.info("%s %s broke off: %s", request.method, request.path, error)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # nobody is left to read it
    except Exception:  # noqa: BLE001 - the outermost edge: the log gets the fault, the client none of it
        _log.exception("%s %s failed", request.method, request.path)
        return _form(request)(HttpError(500, "An internal error has occurred."))


def _form(request: web.Request) -> Callable[[HttpError], web.Response]:
    return request.get(_FORM) or (openai_error_response if is_openai_path(request) else error_response)


def openai_routes(store: Store, backend: Backend, downloads: FileRoutes, wake: Callable[[], None]) -> list[Route]:
    """``backend`` answers the calls that do not wait for a batch, ``downloads`` sends the bytes of files.

    ``wake`` is called when a batch was made. They go before the routes of the other wire, whose lists would hide ours.
    """
    files = OpenAIFiles(store)
    return [
        *OpenAIFileRoutes(files, store.blobs, downloads).routes(),
        *OpenAIUploadRoutes(OpenAIUploads(store), store.blobs).routes(),
        *InteractiveRoutes(backend, store.quotas.openai).routes(),
        *OpenAIBatchRoutes(OpenAIBatches(store), wake).routes(),
    ]
