"""The service misbehaves by plan: rules are matched with calls, and what they ask for is done around the handler."""

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

#: The rest of a call: its handler, with the groups of the route.
Act = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RuleState:
    """A rule, the calls that it has seen, and its own luck."""

    def __init__(self, rule: Rule, seed: str) -> None:
        self.rule = rule
        self.random = Random(seed)  # noqa: S311 - a schedule needs a seed, not a secret
        self._calls = 0
        self._triggered = 0

    def triggers(self, route: str, command: str) -> bool:
        """Whether it is about this call, which it counts, and the call's turn has come."""
        rule = self.rule
        if not fnmatchcase(route, rule.route) or rule.command not in ("", command):
            return False
        self._calls += 1
        chosen = not rule.calls or self._calls in rule.calls
        triggered = chosen and self.random.random() < rule.share and self._triggered != rule.times
        self._triggered += triggered
        return triggered


class FaultInjector:
    """Carries one plan out, over one store. ``run`` works beside the service."""

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
        """Until cancelled: acts on the calls that come late."""
        async with anyio.create_task_group() as tasks:
            while True:
                postponed = self._postponed
                while self._late:
                    tasks.start_soon(self._late.pop(0))
                await postponed.wait()

    async def perform(self, route: Route, request: web.Request, act: Act) -> web.StreamResponse:
        """The call, with all that the plan has in store for it."""
        command = request.headers.get("X-Goog-Upload-Command", "")
        triggered = [state for state in self._rules if state.triggers(route.name, command)]
        await self._record(route.name, request, [state.rule for state in triggered])
        try:
            return await self._perform(route, request, _answering(act, route), triggered)
        finally:
            self._ended[route.name] += 1
            self._end.set()
            self._end = anyio.Event()

    async def _perform(
        self, route: Route, request: web.Request, act: Act, triggered: Sequence[RuleState]
    ) -> web.StreamResponse:
        rules = [state.rule for state in triggered]
        transport.install_faulty_writer(request, rules)
        seen = self._responses.rewrite_request(route.name, request)
        for state in triggered:
            before = await self._before(state, route, seen, act)
            if isinstance(before, web.Response):
                return before
            seen = before
        response = self._responses.apply(route.name, await self._act(route.name, seen, act, rules))
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
        self, state: RuleState, route: Route, request: web.Request, act: Act
    ) -> web.Request | web.Response:
        """The request to act on, or an answer already. Raises ConnectionError when there will be none."""
        match state.rule:
            case Drop(acted=False):
                raise ConnectionAbortedError("broken on demand, before anything was done")
            case Late() as rule:
                await self._postpone(rule, route.name, request, act)
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

    async def _act(self, route: str, request: web.Request, act: Act, rules: Sequence[Rule]) -> web.StreamResponse:
        repeated = any(isinstance(rule, Duplicate) for rule in rules)
        if not repeated and route not in ROUTES:
            return await act(request)
        body = await transport.take_body(request)
        if repeated:
            await self._unverified.act(route, request, act, body)
        return await self._unverified.act(route, request, act, body)

    async def _after(
        self, state: RuleState, route: Route, request: web.Request, response: web.StreamResponse
    ) -> web.StreamResponse:
        match state.rule:
            case Drop():
                raise ConnectionAbortedError("broken on demand, after all was done")
            case Status() as rule:
                return _status_response(rule, route)
            case Flip(bit=bit):
                await self._flip(response, bit)
            case Rewind(bytes=count):
                await self._storage.truncate_upload(request.query.get("upload_id", ""), count)
            case rule:
                responses.apply(rule, route.name, response, state.random)
        return response

    # What takes more than a line

    async def _postpone(self, rule: Late, route: str, request: web.Request, act: Act) -> None:
        body = await transport.take_body(request)
        limit = _server_timeout(request) if self._plan.server_timeout else math.inf
        started = time.monotonic()

        async def come() -> None:
            await self._wait(rule)
            if time.monotonic() - started < limit:
                with suppress(ConnectionError):  # it acts, but nobody is left to take a stream
                    self._responses.apply(route, await self._unverified.act(route, request, act, body))

        self._late.append(come)
        self._postponed.set()
        self._postponed = anyio.Event()
        raise ConnectionAbortedError("broken on demand; the call comes later")

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


def _answering(act: Act, route: Route) -> Act:
    """Refusals are answers too, and can be lost or changed like any other."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await act(request)
        except HttpError as error:
            return route.error_response(error)

    return answer


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
