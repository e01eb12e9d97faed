"""``responseSchema``, a dialect of OpenAPI, as JSON Schema."""

from __future__ import annotations

import re
from typing import Any

#: Numbers that may travel as text, because they are int64.
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})


def to_json_schema(schema: Any) -> dict[str, Any]:
    """Types in lower case, ``nullable`` as a type, members in camelCase. Raises ValueError for what is no schema."""
    if not isinstance(schema, dict):
        raise ValueError("the schema, or a part of it, is not an object")
    found = {_camel(name): value for name, value in schema.items() if value is not None}
    nullable = found.pop("nullable", False)
    found.pop("propertyOrdering", None)
    converted = {name: _member(name, value) for name, value in found.items()}
    if nullable:
        return {"anyOf": [converted, {"type": "null"}]}
    return converted


def _member(name: str, value: Any) -> Any:
    if name == "type" and isinstance(value, str):
        return value.lower()
    if name == "items":
        return to_json_schema(value)
    if name == "properties" and isinstance(value, dict):
        return {key: to_json_schema(inner) for key, inner in value.items()}
    if name == "anyOf" and isinstance(value, list):
        return [to_json_schema(inner) for inner in value]
    return int(value) if name in _COUNTS else value


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
