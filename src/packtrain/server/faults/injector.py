"""Fault injector: matches the rules of a plan with calls, and applies them around the handler."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING

import anyio
import msgspec
from aiohttp import web

from ..._wire.gemini.files import encode_hash
from ..replies import HttpError
from . import responses, transport
from .plan import Delay, Drop, Duplicate, Expire, Flip, Late, Results, Rewind, Status
from .storage import StorageFaults, file_in
from .unverified import ROUTES, UnverifiedBehaviours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing import Route
    from ..store import Store
    from ..transactions import Transaction
    from .plan import FaultPlan, Rule

#: Executes the call: the route's handler with its path groups.
Execute = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RuleState:
    """A rule with its counters and its random generator."""

    def __init__(self, rule: Rule, seed: str) -> None:
        self.rule = rule
        self.random = Random(seed)  # noqa: S311 - a schedule needs a seed, not a secret
        self._calls = 0
        self._triggered = 0

    def triggers(self, route: str, command: str) -> bool:
        """Counts the call if the rule matches it; True when the rule applies to it."""
        rule = self.rule
        if not fnmatchcase(route, rule.route) or rule.command not in ("", command):
            return False
        self._calls += 1
        chosen = not rule.calls or self._calls in rule.calls
        triggered = chosen and self.random.random() < rule.share and self._triggered != rule.times
        self._triggered += triggered
        return triggered


class FaultInjector:
    """Carries out one plan over one store. ``run`` is a background task."""

    def __init__(self, plan: FaultPlan, store: Store) -> None:
        self._plan = plan
        self._store = store
        self._storage = StorageFaults(store)
        self._responses = responses.ResponseFaults(plan)
        self._unverified = UnverifiedBehaviours(plan, self._storage)
        self._rules = [RuleState(rule, f"{plan.seed}/{number}") for number, rule in enumerate(plan.rules)]
        self._ended: Counter[str] = Counter()
        self._end = anyio.Event()
        self._late: list[Callable[[], Coroutine[None, None, None]]] = []
        self._postponed = anyio.Event()

    async def run(self) -> None:
        """Executes postponed calls, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                postponed = self._postponed
                while self._late:
                    tasks.start_soon(self._late.pop(0))
                await postponed.wait()

    async def perform(self, route: Route, request: web.Request, execute: Execute) -> web.StreamResponse:
        """Executes the call with the faults that the plan has for it."""
        command = request.headers.get("X-Goog-Upload-Command", "")
        triggered = [state for state in self._rules if state.triggers(route.name, command)]
        await self._record(route.name, request, [state.rule for state in triggered])
        try:
            return await self._perform(route, request, _with_error_responses(execute, route), triggered)
        finally:
            self._ended[route.name] += 1
            self._end.set()
            self._end = anyio.Event()

    async def _perform(
        self, route: Route, request: web.Request, execute: Execute, triggered: Sequence[RuleState]
    ) -> web.StreamResponse:
        rules = [state.rule for state in triggered]
        transport.install_faulty_writer(request, rules)
        seen = self._responses.rewrite_request(route.name, request)
        for state in triggered:
            before = await self._before(state, route, seen, execute)
            if isinstance(before, web.Response):
                return before
            seen = before
        response = self._responses.rewrite_response(route.name, await self._act(route.name, seen, execute, rules))
        for state in triggered:
            response = await self._after(state, route, request, response)
        return response

    async def _record(self, route: str, request: web.Request, rules: Sequence[Rule]) -> None:
        def record(tx: Transaction) -> None:
            for rule in rules:
                tx.record("fault", do=type(rule).__name__.lower(), route=route, path=request.path)

        if rules:
            await self._store.transact(record)

    async def _before(
        self, state: RuleState, route: Route, request: web.Request, execute: Execute
    ) -> web.Request | web.Response:
        """The request to execute, or a response instead. Raises ConnectionError to break the connection."""
        match state.rule:
            case Drop(acted=False):
                raise ConnectionAbortedError("injected fault: dropped before execution")
            case Late() as rule:
                await self._postpone(rule, route.name, request, execute)
            case Delay() as rule:
                await self._wait(rule)
            case Status(acted=False) as rule:
                return _status_response(rule, route)
            case Expire():
                return await self._expire(request)
            case Results(how=how):
                await self._storage.rewrite_results(file_in(request.path), how, state.random)
            case _:
                pass
        return request

    async def _act(
        self, route: str, request: web.Request, execute: Execute, rules: Sequence[Rule]
    ) -> web.StreamResponse:
        repeated = any(isinstance(rule, Duplicate) for rule in rules)
        if not repeated and route not in ROUTES:
            return await execute(request)
        body = await transport.take_body(request)
        if repeated:
            await self._unverified.execute(route, request, execute, body)
        return await self._unverified.execute(route, request, execute, body)

    async def _after(
        self, state: RuleState, route: Route, request: web.Request, response: web.StreamResponse
    ) -> web.StreamResponse:
        match state.rule:
            case Drop():
                raise ConnectionAbortedError("injected fault: dropped after execution")
            case Status() as rule:
                return _status_response(rule, route)
            case Flip(bit=bit):
                await self._flip(response, bit)
            case Rewind(bytes=count):
                await self._storage.truncate_upload(request.query.get("upload_id", ""), count)
            case rule:
                responses.apply(rule, route.name, response, state.random)
        return response

    # Single faults

    async def _postpone(self, rule: Late, route: str, request: web.Request, execute: Execute) -> None:
        body = await transport.take_body(request)
        limit = _server_timeout(request) if self._plan.server_timeout else math.inf
        started = time.monotonic()

        async def execute_late() -> None:
            await self._wait(rule)
            if time.monotonic() - started < limit:
                with suppress(ConnectionError):  # there is no client left for a streamed response
                    self._responses.rewrite_response(
                        route, await self._unverified.execute(route, request, execute, body)
                    )

        self._late.append(execute_late)
        self._postponed.set()
        self._postponed = anyio.Event()
        raise ConnectionAbortedError("injected fault: dropped, executed later")

    async def _wait(self, rule: Delay | Late) -> None:
        await anyio.sleep(rule.seconds)
        before = self._ended[rule.until]
        while rule.until and self._ended[rule.until] == before:
            await self._end.wait()

    async def _expire(self, request: web.Request) -> web.Request:
        if upload_id := request.query.get("upload_id"):
            await self._storage.expire_upload(upload_id)
            return request
        body = await transport.take_body(request)
        await self._storage.expire_file(file_in(request.path) or file_in(body.decode("utf-8", "replace")))
        return transport.with_body(request, body)

    async def _flip(self, response: web.StreamResponse, bit: int) -> None:
        body = responses.read_json(response)
        if body is None or "file" not in body or not isinstance(response, web.Response):
            return
        body["file"]["sha256Hash"] = encode_hash(await self._storage.flip_bit(body["file"]["name"], bit))
        response.body = msgspec.json.encode(body)


def _with_error_responses(execute: Execute, route: Route) -> Execute:
    """Turns errors into responses, so that faults apply to them too."""

    async def respond(request: web.Request) -> web.StreamResponse:
        try:
            return await execute(request)
        except HttpError as error:
            return route.error_response(error)

    return respond


def _status_response(rule: Status, route: Route) -> web.Response:
    if rule.form == "google":
        return route.error_response(HttpError(rule.status, rule.message, headers=rule.headers))
    text = f"<html><body>{rule.message}</body></html>" if rule.form == "html" else ""
    return web.Response(status=rule.status, text=text, content_type="text/html", headers=rule.headers)


def _server_timeout(request: web.Request) -> float:
    try:
        return float(request.headers.get("X-Server-Timeout", "inf"))
    except ValueError:
        return math.inf
