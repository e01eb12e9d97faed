"""Response faults: falsified states, lists, hashes and members."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from msgspec import UnsetType

from ..._wire.gemini.files import decode_hash, decode_time
from ..replies import HttpError, error_response
from .plan import Edit, Garble, List, Overrun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from .plan import FaultPlan, Rule, Script

#: JSON as the parser gives it.
Json = Any

LISTS = {
    "batches.list": "operations",
    "files.list": "files",
    "openai.batches.list": "data",
    "openai.files.list": "data",
}
_ENDS = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
_RECEIVED = "X-Goog-Upload-Size-Received"


class ResponseFaults:
    """The falsifications of a plan that concern all calls: scripted states, lags, page size, hash encoding."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._order: list[str] = []
        self._reports: dict[str, int] = {}

    def rewrite_request(self, route: str, request: web.Request) -> web.Request:
        """The request to pass to the handler."""
        if route.endswith(".list") and self._plan.page_size is not None:
            requested = request.query.get("pageSize", "")
            size = min(int(requested) if requested.isdecimal() else self._plan.page_size, self._plan.page_size)
            return request.clone(rel_url=request.rel_url.update_query(pageSize=str(size)))
        if route.endswith(".download") and not self._plan.ranges and "Range" in request.headers:
            headers = request.headers.copy()
            headers.popall("Range")
            return request.clone(headers=headers)
        return request

    def rewrite_response(self, route: str, response: web.StreamResponse) -> web.StreamResponse:
        """The response to send to the client."""
        body = read_json(response)
        if body is None or not isinstance(response, web.Response):
            return response
        if route == "batches.create":
            self._order.append(body.get("name", ""))
        elif route == "files.get" and self._is_new(body.get("createTime", ""), self._plan.file_lag):
            return error_response(HttpError(403, "You do not have permission to access the File, or it may not exist."))
        elif route in ("batches.get", "batches.list"):
            self._rewrite_jobs(body)
            response.body = msgspec.json.encode(body)
        if self._plan.hash_form != "base64-hex":
            _rehash(body, self._plan.hash_form)
            response.body = msgspec.json.encode(body)
        return response

    def _rewrite_jobs(self, body: Json) -> None:
        jobs = body.get("operations", [body])
        for job in jobs:
            self._apply_scripts(job)
        if "operations" in body:
            lag = self._plan.list_lag
            body["operations"] = [job for job in jobs if not self._is_new(job["metadata"]["createTime"], lag)]

    def _apply_scripts(self, job: Json) -> None:
        name = job.get("name", "")
        for script in self._plan.scripts:
            if self._applies_to(script, name):
                report = self._reports[name] = self._reports.get(name, 0) + 1
                state = state_at(script, report)
                if state:
                    set_state(job, state)

    def _applies_to(self, script: Script, name: str) -> bool:
        return name in self._order and (not script.jobs or self._order.index(name) + 1 in script.jobs)

    def _is_new(self, created: str, lag: float) -> bool:
        return lag > 0 and (decode_time(created) or 0.0) > time.time() - lag


def _rehash(body: Json, form: str) -> None:
    for file in (body, body.get("file") or {}, *body.get("files", [])):
        if digest := decode_hash(file.get("sha256Hash", "")):
            file["sha256Hash"] = digest if form == "hex" else base64.b64encode(bytes.fromhex(digest)).decode()


def state_at(script: Script, report: int) -> str:
    """The state in this report of the job, counted from 1; empty for the real one."""
    for step in script.steps:
        if step.looks == 0 or report <= step.looks:
            return step.state
        report -= step.looks
    return ""


def set_state(job: Json, state: str) -> None:
    """Sets the reported state and removes the members that would contradict it."""
    for member in ("done", "response", "error"):
        job.pop(member, None)
    for member in ("output", "endTime"):
        job["metadata"].pop(member, None)
    job["metadata"]["state"] = state if "_STATE_" in state else f"BATCH_STATE_{state}"
    if state.endswith(_ENDS):
        job["done"] = True


def apply(rule: Rule, route: str, response: web.StreamResponse, random: Random) -> None:
    """Changes one response as the rule says."""
    body = read_json(response)
    match rule:
        case Overrun() if _RECEIVED in response.headers:
            response.headers[_RECEIVED] = str(int(response.headers[_RECEIVED]) + rule.bytes)
        case Garble() if isinstance(response, web.Response) and isinstance(response.body, bytes):
            response.body = bytes(byte ^ 0x80 for byte in response.body)
        case Edit() if body is not None and isinstance(response, web.Response):
            edit(body, rule)
            response.body = msgspec.json.encode(body)
        case List() if body is not None and isinstance(response, web.Response):
            _rewrite_list(body, LISTS.get(route, ""), rule, random)
            response.body = msgspec.json.encode(body)
        case _:
            pass


def read_json(response: web.StreamResponse) -> Json:
    """The JSON object of a 200 response; None for any other response."""
    if not isinstance(response, web.Response) or response.status != 200 or not isinstance(response.body, bytes):
        return None
    try:
        body = msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        return None
    return body if isinstance(body, dict) else None


def edit(body: Json, rule: Edit) -> None:
    *path, last = rule.member.split(".")
    for parent in _objects_at(body, path):
        if isinstance(rule.value, UnsetType):
            parent.pop(last, None)
        else:
            parent[last] = rule.value


def _objects_at(value: Json, path: list[str]) -> Iterator[dict[str, Json]]:
    if not path:
        if isinstance(value, dict):
            yield value
    elif path[0] != "*":
        if isinstance(value, dict):
            yield from _objects_at(value.get(path[0]), path[1:])
    elif isinstance(value, list):
        for item in value:
            yield from _objects_at(item, path[1:])


def _rewrite_list(body: Json, member: str, rule: List, random: Random) -> None:
    items = body.get(member, [])
    match rule.how:
        case "empty" if member == "data":
            body |= {"data": [], "has_more": False}
        case "empty":
            body.clear()
        case "doubled":
            body[member] = items + items
        case "shuffled":
            random.shuffle(items)
        case "looping" if member == "data":
            body["has_more"] = True
        case "looping":
            body["nextPageToken"] = _FIRST_PAGE


#: A page token of this service for the first page.
_FIRST_PAGE = "YmVmb3JlOjk5OTk5OTk5OTk5OTk5OTk5OQ=="
