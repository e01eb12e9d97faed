"""OpenAPI document of the service, and the route that serves it without a key.

The wires' operation tables list parameters and bodies; the schemas are derived from the wires' structs.
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

#: JSON Schema, or a type from which msgspec derives it.
Shape = Mapping[str, Any]
Schema = type | Shape

TEXT: Shape = {"type": "string"}
OBJECT: Shape = {"type": "object"}
NOTHING: Shape = {"type": "object", "maxProperties": 0}
BYTES: Shape = {"type": "string", "format": "binary"}

JSON, OCTETS = "application/json", "application/octet-stream"

_ABOUT = """Files, batch jobs and interactive calls of the Gemini API and the OpenAI API.

The Gemini wire is the same under /v1, /v1beta and /v1alpha, the OpenAI wire under /v1beta/openai and /v1. A key is
required if the service was started with one. Operations that differ only in a header or query parameter share a path;
fragments (#...), which are not sent, distinguish them."""

_KEYS = {
    "header": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
    "query": {"type": "apiKey", "in": "query", "name": "key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


class Parameter(Struct, frozen=True, omit_defaults=True):
    """A parameter object of OpenAPI."""

    name: str
    place: Literal["path", "query", "header"] = msgspec.field(name="in")
    schema: Shape
    required: bool = False
    description: str = ""


RANGE = Parameter("Range", "header", TEXT, description="For example bytes=100-.")


class Operation(Struct, frozen=True, kw_only=True):
    """One operation; ``route`` is a method and a path as in ``GET /v1beta/files/{file}``."""

    route: str
    summary: str
    parameters: Sequence[Parameter] = ()
    #: Media type and schema.
    request_body: tuple[str, Schema] | None = None
    #: Schema of the JSON response; None for file content, which supports ranges.
    response: Schema | None
    #: Names.
    response_headers: Sequence[str] = ()
    keyless: bool = False

    @property
    def method(self) -> str:
        return self.route.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.route.partition(" ")[2]


class Wire(Struct, frozen=True, kw_only=True):
    """The operations of one wire, by route name."""

    name: str
    operations: Mapping[str, Operation]
    #: Body of its error responses.
    error: type
    #: Schemas of the path parameters.
    path_parameters: Mapping[str, Shape] = {}


_SELF = Wire(
    name="Service",
    operations={
        "description": Operation(route="GET /openapi.json", summary="This document", response=OBJECT, keyless=True)
    },
    error=Envelope,
)


def route_names(wires: Sequence[Wire]) -> list[str]:
    """Names of all routes of the service."""
    return [name for wire in (_SELF, *wires) for name in wire.operations]


class OpenAPIRoutes:
    """The handler. The document is built on the first request: building takes as long as the rest of a start."""

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
    """The OpenAPI 3.1 document, including this operation."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for wire in (_SELF, *wires):
        references = _Schemas(wire)
        schemas |= references.components
        for name, operation in wire.operations.items():
            paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
                wire, name, operation, references
            )
    return {
        "openapi": "3.1.0",
        "info": {"title": "The local service of packtrain", "version": "1", "description": _ABOUT},
        "security": [{}, *({name: []} for name in _KEYS)],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _KEYS},
    }


class _Schemas:
    """Schemas of the types in a wire's operations, with unique names."""

    def __init__(self, wire: Wire) -> None:
        used = [schema for operation in wire.operations.values() for schema in _schemas_of(operation)]
        kinds = [wire.error, *(schema for schema in used if isinstance(schema, type))]
        template = f"#/components/schemas/{wire.name}.{{name}}"
        references, components = msgspec.json.schema_components(kinds, ref_template=template)
        self._references = dict(zip(kinds, references, strict=True))
        self.components = {f"{wire.name}.{name}": schema for name, schema in components.items()}

    def of(self, schema: Schema) -> Shape:
        return self._references[schema] if isinstance(schema, type) else schema


def _schemas_of(operation: Operation) -> list[Schema]:
    sent = [operation.request_body[1]] if operation.request_body else []
    return sent if operation.response is None else [*sent, operation.response]


def _operation(wire: Wire, name: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    in_path = [
        Parameter(part, "path", wire.path_parameters[part], True) for part in re.findall(r"\{(\w+)\}", operation.path)
    ]
    described: dict[str, Any] = {
        "operationId": name,
        "tags": [wire.name],
        "summary": operation.summary,
        "parameters": [msgspec.to_builtins(parameter) for parameter in (*in_path, *operation.parameters)],
        "responses": _responses(operation, schemas) | _errors(schemas.of(wire.error)),
    }
    if operation.request_body:
        media, schema = operation.request_body
        described["requestBody"] = {"required": True, "content": {media: {"schema": schemas.of(schema)}}}
    if operation.keyless:
        described["security"] = []
    return described


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    response_headers = {name: {"required": True, "schema": TEXT} for name in operation.response_headers}
    if operation.response is None:
        content = {OCTETS: {"schema": BYTES}}
        return {
            "200": {"description": "The bytes.", "content": content},
            "206": {"description": "The requested range of bytes.", "content": content},
        }
    content = {JSON: {"schema": schemas.of(operation.response)}}
    return {
        "200": {
            "description": "Done.",
            "content": content,
            **({"headers": response_headers} if response_headers else {}),
        }
    }


def _errors(error: Shape) -> dict[str, Any]:
    content = {JSON: {"schema": error}}
    return {
        "4XX": {"description": "Refused, with the reason.", "content": content},
        "5XX": {"description": "The backend or the disk failed.", "content": content},
    }
