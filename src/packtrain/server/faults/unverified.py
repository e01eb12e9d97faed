"""Unverified behaviours: alternatives where the real service's behaviour is not known for certain."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from ..replies import json_response
from ..wires.gemini.files import file_body, origin
from ..wires.gemini.json_body import member, members, object_member, strict_json
from . import transport
from .storage import StorageFaults, file_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..files import StoredFile
    from .plan import FaultPlan

    Execute = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The affected routes. Bodies of their calls are kept in memory.
ROUTES = frozenset({"upload.start", "batches.create", "files.delete", "files.get"})


class UnverifiedBehaviours:
    """Wraps the handlers of ROUTES as the plan says."""

    def __init__(self, plan: FaultPlan, damage: StorageFaults) -> None:
        self._plan = plan
        self._storage = damage
        self._made: dict[tuple[str, bytes], bytes] = {}
        self._deleted: dict[str, tuple[float, StoredFile]] = {}

    async def execute(self, route: str, request: web.Request, execute: Execute, body: bytes) -> web.StreamResponse:
        """Executes the call with the plan's behaviours."""
        match route:
            case "upload.start":
                return await execute(transport.with_body(request, await self._start(body)))
            case "batches.create":
                return await self._create(transport.with_body(request, body), execute, body)
            case "files.delete":
                return await self._delete(transport.with_body(request, body), execute)
            case "files.get":
                return await self._get(transport.with_body(request, body), execute)
            case _:
                return await execute(transport.with_body(request, body))

    async def _start(self, body: bytes) -> bytes:
        if (self._plan.chosen_names and self._plan.taken_names == "refused") or not body.strip():
            return body
        file = object_member(members(strict_json(body)), "file")
        name = member(file, "name", str, "")
        if self._plan.chosen_names and not await self._storage.find(name):
            return body
        return msgspec.json.encode({"file": {key: value for key, value in file.items() if key != "name"}})

    async def _create(self, request: web.Request, execute: Execute, body: bytes) -> web.StreamResponse:
        order = (request.path, body)
        if self._plan.repeated_create == "same" and order in self._made:
            return web.Response(body=self._made[order], content_type="application/json")
        async with AsyncExitStack() as stack:
            if self._plan.missing_input != "strict" and (name := file_in(body.decode("utf-8", "replace"))):
                await stack.enter_async_context(self._storage.placeholder_file(name))
            response = await execute(request)
        if response.status == 200 and isinstance(response, web.Response) and isinstance(response.body, bytes):
            self._made[order] = response.body
        return response

    async def _delete(self, request: web.Request, execute: Execute) -> web.StreamResponse:
        name = file_in(request.path)
        file = await self._storage.find(name)
        if self._plan.missing_input == "blind":
            await self._storage.keep_copy(name)
        response = await execute(request)
        if file and response.status == 200:
            self._deleted[name] = (time.monotonic(), file)
            if self._plan.deleted_input == "fails":
                await self._storage.fail_jobs_of(name)
        return response

    async def _get(self, request: web.Request, execute: Execute) -> web.StreamResponse:
        response = await execute(request)
        at, file = self._deleted.get(file_in(request.path), (0.0, None))
        if file and response.status != 200 and time.monotonic() - at < self._plan.delete_lag:
            return json_response(file_body(file, origin(request)))
        return response
