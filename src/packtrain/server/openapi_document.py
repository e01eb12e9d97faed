"""The OpenAPI description of the service, and the route that gives it.

The tables of the two wires say what each operation takes and gives; the structs of the wires say the rest. It tells
nothing but shapes, so that no key is needed to read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from .._wire.gemini.errors import Envelope
from .routing import Route

#: JSON Schema, and what stands for it: a type that msgspec can describe.
Shape = Mapping[str, Any]
Schema = type | Shape

TEXT: Shape = {"type": "string"}
OBJECT: Shape = {"type": "object"}
NOTHING: Shape = {"type": "object", "maxProperties": 0}
BYTES: Shape = {"type": "string", "format": "binary"}

JSON, OCTETS = "application/json", "application/octet-stream"

_ABOUT = """Files, batch jobs and interactive calls, as the Gemini API and the OpenAI API have them.

The Gemini wire is the same under /v1, /v1beta and /v1alpha, the OpenAI wire under /v1beta/openai and /v1. A key is
asked for where the service was started with one. Operations that differ in a header or a query alone have one path,
and fragments (#...) to tell them apart, which are not sent."""

_KEYS = {
    "header": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
    "query": {"type": "apiKey", "in": "query", "name": "key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


class Parameter(Struct, frozen=True, omit_defaults=True):
    """One parameter, in OpenAPI's own words."""

    name: str
    place: Literal["path", "query", "header"] = msgspec.field(name="in")
    schema: Shape
    required: bool = False
    description: str = ""


RANGE = Parameter("Range", "header", TEXT, description="As in bytes=100-.")


class Operation(Struct, frozen=True, kw_only=True):
    """What stands at ``route``, a method and a path as in ``GET /v1beta/files/{file}``."""

    route: str
    summary: str
    parameters: Sequence[Parameter] = ()
    #: The request's body: its media type, and what is in it.
    request_body: tuple[str, Schema] | None = None
    #: The body of the answer; None is the bytes of a file, of which a part can be asked for.
    response: Schema | None
    #: Headers of the answer.
    response_headers: Sequence[str] = ()
    keyless: bool = False

    @property
    def method(self) -> str:
        return self.route.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.route.partition(" ")[2]


class Wire(Struct, frozen=True, kw_only=True):
    """The operations of one wire by the names of their routes."""

    name: str
    operations: Mapping[str, Operation]
    #: The body of its refusals.
    error: type
    #: What stands for {name} in its paths.
    parts: Mapping[str, Shape] = {}


_SELF = Wire(
    name="Service",
    operations={"description": Operation(route="GET /openapi.json", summary="This", response=OBJECT, keyless=True)},
    error=Envelope,
)


def route_names(wires: Sequence[Wire]) -> list[str]:
    """Of all that is served."""
    return [name for wire in (_SELF, *wires) for name in wire.operations]


class OpenAPIRoutes:
    """The handler. The description is made when it is first asked for: it takes as long as the rest of a start."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self._wires = wires

    def routes(self) -> list[Route]:
        path = re.compile(re.escape("/openapi.json"))
        return [Route(name="description", method="GET", pattern=path, handler=self.get, keyless=True)]

    async def get(self, request: web.Request) -> web.Response:
        return web.Response(body=self._body, content_type=JSON)

    @cached_property
    def _body(self) -> bytes:
        return msgspec.json.encode(build_document(self._wires))


def build_document(wires: Sequence[Wire]) -> dict[str, Any]:
    """The whole description, this operation's own included, as OpenAPI 3.1 has it."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for wire in (_SELF, *wires):
        told = _Schemas(wire)
        schemas |= told.components
        for name, operation in wire.operations.items():
            paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(wire, name, operation, told)
    return {
        "openapi": "3.1.0",
        "info": {"title": "The local service of packtrain", "version": "1", "description": _ABOUT},
        "security": [{}, *({name: []} for name in _KEYS)],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _KEYS},
    }


class _Schemas:
    """The types that a wire's operations speak of, each under a name of its own."""

    def __init__(self, wire: Wire) -> None:
        said = [schema for operation in wire.operations.values() for schema in _schemas_of(operation)]
        kinds = [wire.error, *(schema for schema in said if isinstance(schema, type))]
        template = f"#/components/schemas/{wire.name}.{{name}}"
        references, found = msgspec.json.schema_components(kinds, ref_template=template)
        self._references = dict(zip(kinds, references, strict=True))
        self.components = {f"{wire.name}.{name}": schema for name, schema in found.items()}

    def of(self, schema: Schema) -> Shape:
        return self._references[schema] if isinstance(schema, type) else schema


def _schemas_of(operation: Operation) -> list[Schema]:
    sent = [operation.request_body[1]] if operation.request_body else []
    return sent if operation.response is None else [*sent, operation.response]


def _operation(wire: Wire, name: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    inside = [Parameter(part, "path", wire.parts[part], True) for part in re.findall(r"\{(\w+)\}", operation.path)]
    told: dict[str, Any] = {
        "operationId": name,
        "tags": [wire.name],
        "summary": operation.summary,
        "parameters": [msgspec.to_builtins(parameter) for parameter in (*inside, *operation.parameters)],
        "responses": _responses(operation, schemas) | _refusals(schemas.of(wire.error)),
    }
    if operation.request_body:
        media, schema = operation.request_body
        told["requestBody"] = {"required": True, "content": {media: {"schema": schemas.of(schema)}}}
    if operation.keyless:
        told["security"] = []
    return told


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    response_headers = {name: {"required": True, "schema": TEXT} for name in operation.response_headers}
    if operation.response is None:
        content = {OCTETS: {"schema": BYTES}}
        return {
            "200": {"description": "The bytes.", "content": content},
            "206": {"description": "The bytes that Range asks for.", "content": content},
        }
    content = {JSON: {"schema": schemas.of(operation.response)}}
    return {
        "200": {
            "description": "Done.",
            "content": content,
            **({"headers": response_headers} if response_headers else {}),
        }
    }


def _refusals(error: Shape) -> dict[str, Any]:
    content = {JSON: {"schema": error}}
    return {
        "4XX": {"description": "Refused, and why.", "content": content},
        "5XX": {"description": "The backend or the disk failed.", "content": content},
    }
