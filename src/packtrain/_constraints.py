"""Types of numbers that a caller may give, and the check of a struct against its annotations."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, inspect

from ._errors import InputError

Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
#: In seconds.
Duration = Annotated[float, Meta(gt=0)]


def check_fields(value: Struct, *names: str) -> None:
    """Check fields, by default all, against their annotations, because the constructor of a Struct takes anything.

    Raises InputError naming the first field that does not fit and what it may be.
    """
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        try:
            if not names or field.name in names:
                msgspec.convert(found, field.type)
        except msgspec.ValidationError:
            allowed = _words(inspect.type_info(field.type))
            raise InputError(f"{type(value).__name__}.{field.name} is {found!r}; it may be {allowed}") from None


def _words(kind: inspect.Type) -> str:
    """The values that ``kind`` takes, in words."""
    match kind:
        case inspect.IntType(ge=least):
            return f"a whole number of at least {least}"
        case inspect.FloatType():
            return "a number of seconds above 0"
        case inspect.LiteralType(values=values):
            return " or ".join(map(repr, values))
        case inspect.UnionType(types=kinds):
            return ", or ".join(map(_words, kinds))
        case inspect.VarTupleType(item_type=each):
            return f"a tuple of {_words(each)}"
        case inspect.TupleType(item_types=kinds):
            return f"({', '.join(map(_words, kinds))})"
        case _:
            return "None"
