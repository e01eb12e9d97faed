"""Errors out of the groups that task groups wrap them in."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._errors import ApiError, InputError, IntegrityError, ManifestError, PacktrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a person has to deal with first, when several errors came together.
_WEIGHT = (ManifestError, IntegrityError, InputError, ApiError)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the one error that counts; a group with a stranger in it stays as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        if len(errors) > 1 and not all(isinstance(error, PacktrainError) for error in errors):
            raise
        raise min(errors, key=_weight) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _weight(error: BaseException) -> int:
    return next((place for place, kind in enumerate(_WEIGHT) if isinstance(error, kind)), len(_WEIGHT))
