"""Request files, read from front to back as often as needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._errors import InputError
from .._options import KIB, MIB
from .._rules.validate import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_BYTES = 64 * KIB
# A line as most tools write it, with a key that stands there as it is. In a line that was judged the name is not given
# twice, so what comes behind need not be looked at.
_PLAIN = re.compile(rb'\{"key": ?"([^"\\]+)"')


class Asked(Struct, frozen=True):
    """``judged``: the files are sealed shards, in which every line is valid and no key stands twice."""

    paths: tuple[Path, ...]
    judged: bool = False

    def keys(self) -> Iterator[list[str]]:
        """All keys in order, some at a time. Raises InputError for a line without one."""
        take = _judged_keys if self.judged else _keys
        for path in self.paths:
            yield from _read(path, take)

    def lines(self) -> Iterator[bytes]:
        for path in self.paths:
            with path.open("rb", buffering=MIB) as file:
                yield from (line for line in file if not line.isspace())


class _Key(Struct, gc=False):
    key: str


_key = msgspec.json.Decoder(_Key)


def judged_key(line: bytes) -> str:
    """The key of a line that was judged before, which makes it quick. InputError if it has none after all."""
    plain = _PLAIN.match(line)
    try:
        return plain[1].decode() if plain else key_of(line)
    except UnicodeDecodeError:
        return key_of(line)


def _read(path: Path, take: Callable[[list[bytes]], list[str] | None]) -> Iterator[list[str]]:
    number = 0
    with path.open("rb", buffering=MIB) as file:
        while lines := file.readlines(_CHUNK_BYTES):
            keys = take(lines)
            yield keys if keys is not None else list(_each(path, number, lines))
            number += len(lines)


def _judged_keys(lines: list[bytes]) -> list[str] | None:
    try:
        return [plain[1].decode() if (plain := _PLAIN.match(line)) else key_of(line) for line in lines]
    except (InputError, UnicodeDecodeError):
        return None


def _keys(lines: list[bytes]) -> list[str] | None:
    try:
        return [row.key for row in map(_key.decode, lines)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _each(path: Path, before: int, lines: list[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, before + 1):
        try:
            if not line.isspace():
                yield key_of(line)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
