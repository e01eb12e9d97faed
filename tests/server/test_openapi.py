"""The OpenAPI document at /openapi.json."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from packtrain._model import Secret
from packtrain.server import serving
from packtrain.server.app import all_routes
from packtrain.server.backends.echo import Echo
from packtrain.server.openapi_document import build_document
from packtrain.server.store import open_store
from packtrain.server.wires.gemini.openapi import GEMINI
from packtrain.server.wires.openai.openapi import OPENAI

from .service_calls import Calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from packtrain.server.routing import Route

KEY = "k" * 32


@pytest.fixture
async def routes(directory: Path) -> AsyncIterator[list[Route]]:
    async with open_store(directory) as store:
        yield all_routes(store, Echo(), lambda: None)


def operations(description: Any) -> list[tuple[str, str, Any]]:
    """Method, example path and description of each operation."""
    return [
        (method.upper(), example(path, operation), operation)
        for path, item in description["paths"].items()
        for method, operation in item.items()
    ]


def example(path: str, operation: Any) -> str:
    """The path without its fragment, as clients send it."""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            schema = parameter["schema"]
            value = schema["enum"][0] if "enum" in schema else schema["pattern"].removesuffix("[^/:]+$")[1:] + "x"
            path = path.replace(f"{{{parameter['name']}}}", value)
    return path.partition("#")[0]


async def test_every_route_has_one_operation_and_every_operation_a_route(routes: list[Route]) -> None:
    """A new route needs an entry in its wire's operations table."""
    ids = [operation["operationId"] for _, _, operation in operations(build_document((GEMINI, OPENAI)))]
    assert sorted(ids) == sorted({route.name for route in routes})


async def test_every_operation_has_the_path_of_its_route(routes: list[Route]) -> None:
    """The route accepts the operation's method and path."""
    for method, path, operation in operations(build_document((GEMINI, OPENAI))):
        named = [route for route in routes if route.name == operation["operationId"]]
        assert any(route.method == method and route.pattern.fullmatch(path) for route in named), (method, path)


async def test_document_needs_no_key(directory: Path) -> None:
    """It is served without a key, and every schema reference resolves."""
    async with serving(directory, key=Secret(KEY)) as origin, ClientSession() as session:
        answer = await Calls(session, origin).call("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == json.loads(json.dumps(build_document((GEMINI, OPENAI))))
    spoken_of = set(re.findall(rb'"\$ref":"#/components/schemas/([^"]+)"', answer.body))
    assert spoken_of
    assert spoken_of <= {name.encode() for name in answer.json["components"]["schemas"]}


async def test_only_operations_without_security_need_no_key(directory: Path) -> None:
    """Every other operation is refused without a key."""
    async with serving(directory, key=Secret(KEY)) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        for method, path, operation in operations(build_document((GEMINI, OPENAI))):
            query = {p["name"]: "x" for p in operation["parameters"] if p["in"] == "query" and p.get("required")}
            answer = await calls.call(method, path, params=query)
            keyless = operation.get("security") == []
            assert (answer.status not in (401, 403)) is keyless, (path, answer.status)
