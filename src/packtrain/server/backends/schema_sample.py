"""Sample values of a JSON Schema: the echo backend's answer to a request with a response schema."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Beyond the first depth optional members are left out and lists are as short as allowed, so that recursive schemas
#: end; beyond the second the schema is refused.
OPTIONAL_DEPTH, MAX_DEPTH = 4, 64
#: Most values in one sample; this many characters of text count as one value.
MAX_VALUES, TEXT_WEIGHT = 100_000, 256

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "somebody@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(schema: Any, text: str) -> Any:
    """A value valid for ``schema``, with ``text`` in its strings.

    Raises ValueError for a schema without such a value, and for one with ``pattern``, which is not supported.
    """
    return _Sampler(schema, text).value(schema, 0)


class _Sampler:
    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text
        self._left = MAX_VALUES

    def value(self, schema: Any, depth: int) -> Any:
        self._spend(1)
        if depth > MAX_DEPTH:
            raise ValueError("the schema is endlessly recursive")
        if schema is True or schema == {}:
            return self._string_value(self._text)
        if not isinstance(schema, dict):
            raise ValueError("the schema, or a part of it, is not an object")
        if "$ref" in schema:
            return self.value(self._resolved(schema["$ref"]), depth + 1)
        if "const" in schema:
            return self._literal(schema["const"])
        if schema.get("enum"):
            return self._literal(schema["enum"][0])
        for choice in ("anyOf", "oneOf"):
            if schema.get(choice):
                return self.value(self._simplest(schema[choice], depth), depth + 1)
        if schema.get("allOf"):
            return self.value(_merged(schema), depth + 1)
        return self._typed(schema, depth)

    def _simplest(self, choices: list[Any], depth: int) -> Any:
        plain = (choice for choice in choices if isinstance(choice, dict) and choice.get("type") == "null")
        return next(plain, choices[0]) if depth >= OPTIONAL_DEPTH else choices[0]

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        match kind[0] if isinstance(kind, list) else kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number" as number:
                return _number(schema, whole=number == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case other:
                raise ValueError(f"the schema has a type {other!r} that is not known")

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        wanted = [name for name in properties if name in required or depth < OPTIONAL_DEPTH]
        wanted += [name for name in required if name not in properties]
        return {name: self.value(properties.get(name, True), depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        count = least if depth >= OPTIONAL_DEPTH else max(least, min(1, schema.get("maxItems", 1)))
        self._spend(count)
        fixed = schema.get("prefixItems", [])[:count]
        rest = [schema.get("items", True)] * (count - len(fixed))
        return [self.value(item, depth + 1) for item in [*fixed, *rest]]

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "pattern" in schema:
            raise ValueError("the schema has a pattern, which this backend does not support")
        text: str = _FORMATS.get(schema.get("format", ""), self._text)
        least = schema.get("minLength", 0)
        self._spend(least // TEXT_WEIGHT)
        return self._string_value(text.ljust(least, ".")[: schema.get("maxLength")])

    def _string_value(self, text: str) -> str:
        self._spend(len(text) // TEXT_WEIGHT)
        return text

    def _literal(self, value: Any) -> Any:
        self._spend(len(msgspec.json.encode(value)) // TEXT_WEIGHT)
        return value

    def _spend(self, values: int) -> None:
        self._left -= max(values, 0)
        if self._left < 0:
            raise ValueError("the schema needs more values than one answer may have")

    def _resolved(self, reference: object) -> Any:
        target = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise ValueError(f"the schema refers to {reference!r}, which is not inside it")
        for name in reference.removeprefix("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or name not in target:
                raise ValueError(f"the schema refers to {reference!r}, which is not inside it")
            target = target[name]
        return target


def _merged(schema: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
    for part in schema["allOf"]:
        for name, value in part.items():
            known = merged.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                merged[name] = {**known, **value}
            elif isinstance(known, list) and isinstance(value, list):
                merged[name] = [*known, *value]
            else:
                merged[name] = value
    return merged


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """The allowed number closest to 0."""
    step = schema.get("multipleOf", 1 if whole else 0.5)
    low = schema.get("minimum", -math.inf)
    high = schema.get("maximum", math.inf)
    if "exclusiveMinimum" in schema:
        low = max(low, schema["exclusiveMinimum"] + step)
    if "exclusiveMaximum" in schema:
        high = min(high, schema["exclusiveMaximum"] - step)
    near = min(max(0, low), high)
    number = (math.ceil if near > 0 else math.floor)(near / step) * step if step else near
    if not low <= number <= high:
        raise ValueError("no number satisfies the schema")
    return int(number) if whole else number
