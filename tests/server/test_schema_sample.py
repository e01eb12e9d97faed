"""Sample values of schemas."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, json

from packtrain._model import RowError
from packtrain.server.backends.echo import Echo, answer_all
from packtrain.server.backends.schema_sample import OPTIONAL_DEPTH, sample
from tests.seeds import short

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
    """As close to the text as the schema allows."""
    assert sample(schema, "text") == expected


def test_recursive_schema_ends() -> None:
    """Lists are shortened at depth."""
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
async def test_unsatisfiable_schemas_are_row_errors(schema: Any) -> None:
    """Code 3 with the reason."""
    request = {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"responseJsonSchema": schema}}
    (answer,) = await Echo().answer([Raw(json.encode(request))], task="generate", model="m")
    assert isinstance(answer, RowError)
    assert answer.code == 3


@pytest.mark.parametrize("config", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("member", ["responseSchema", "response_schema"])
async def test_schema_in_the_dialect_of_the_api(config: str, member: str) -> None:
    """Upper-case types, numbers as strings, either spelling of every name."""
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


def _list(size: int) -> dict[str, Any]:
    return {"type": "array", "minItems": size}


def _inside(schema: Any, depth: int) -> Any:
    return schema if depth == 0 else {**_list(1), "items": _inside(schema, depth - 1)}


@pytest.mark.parametrize(
    "schema",
    [
        _list(10**9),
        {"type": "string", "minLength": 10**12},
        _inside({**_list(2), "prefixItems": [_list(-(10**9)), _list(10**6)]}, OPTIONAL_DEPTH),
        {**_list(1000), "items": _list(1000)},
        {**_list(1000), "items": {"const": "x" * 100_000}},
    ],
)
def test_oversized_schema_is_refused(schema: Any) -> None:
    """A small schema must not exhaust the memory."""
    with pytest.raises(ValueError, match="more values than one answer"):
        sample(schema, "text")


# fmt: off
_NAMES = st.sampled_from([
    "type", "properties", "required", "items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "const", "enum", "format",
    "anyOf", "oneOf", "allOf", "$ref", "$defs", "pattern", "a",
])
# fmt: on
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["object", "array", "string", "integer", "number", "#", "#/properties/a", "a"]),
)
_SCHEMAS = st.dictionaries(
    _NAMES,
    st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4)),
)


@given(schema=_SCHEMAS, member=st.sampled_from(["responseSchema", "responseJsonSchema"]))
@settings(max_examples=short(100, 300), deadline=None)
def test_any_json_as_schema_gives_a_value_or_an_error(schema: Any, member: str) -> None:
    """Never an unexpected exception."""
    request = {"contents": [{"parts": [{"text": "text"}]}], "generationConfig": {member: schema}}
    (found,) = answer_all([Raw(json.encode(request))], "generate", "m")
    assert isinstance(found, bytes | RowError)
