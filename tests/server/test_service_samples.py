"""Values made for a schema."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw, json

from packtrain._model import RowError
from packtrain.server.echo import Echo
from packtrain.server.samples import sample

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "minLength": 6}, "text.."),
        ({"type": "string", "enum": ["a", "b"]}, "a"),
        ({"const": 7}, 7),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5}, 10),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "number"}, 0),
        ({"type": ["null", "string"]}, None),
        ({"type": "boolean"}, True),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [0, 0, 0]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, []),
        ({"properties": {"a": {"type": "string"}}, "required": ["b"]}, {"a": "text", "b": "text"}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 0),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}, {"a": 1, "b": 2}),
        ({"type": "string", "format": "date"}, "2026-01-01"),
    ],
)
def test_value_fits_its_schema(schema: Any, expected: object) -> None:
    """As near to the text as the schema allows."""
    assert sample(schema, "text") == expected


def test_schema_that_contains_itself_comes_to_an_end() -> None:
    """Lists get short when it is deep enough."""
    node = sample(TREE, "text")
    depth = 0
    while node["children"]:
        (node,) = node["children"]
        depth += 1
    assert 0 < depth < 10


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a+"},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"$ref": "#/none"},
        {"$ref": "#"},
        {"type": "other"},
        {"properties": 5},
        5,
    ],
)
async def test_schemas_that_cannot_be_met_are_the_rows_own(schema: Any) -> None:
    """Code 3 with the reason."""
    request = {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"responseJsonSchema": schema}}
    (answer,) = await Echo().answer([Raw(json.encode(request))], task="generate", model="m")
    assert isinstance(answer, RowError)
    assert answer.code == 3


@pytest.mark.parametrize("config", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("member", ["responseSchema", "response_schema"])
async def test_schema_in_the_dialect_of_the_api(config: str, member: str) -> None:
    """Types in capitals, counts as text, in either spelling of every name."""
    schema = {
        "type": "OBJECT",
        "properties": {"tags": {"type": "ARRAY", "items": {"type": "STRING"}, "min_items": "2"}},
        "property_ordering": ["tags"],
    }
    request = {"contents": [{"parts": [{"text": "x"}]}], config: {member: schema}}
    (answer,) = await Echo().answer([Raw(json.encode(request))], task="generate", model="m")
    assert isinstance(answer, bytes)
    text = json.decode(answer)["candidates"][0]["content"]["parts"][0]["text"]
    assert json.decode(text) == {"tags": ["x", "x"]}
