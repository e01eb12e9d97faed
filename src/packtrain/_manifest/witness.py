"""Files next to the database that outlive it: the tokens of its runs, and how far its history had come.

A database that is put back from a copy does not know what it has forgotten. The witness does: it is written before
each create, so a database that lags behind it may have forgotten a job that was paid for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._io.disk import disk_errors, make_durable, open_draft, write_all
from .._rules.past import Witnessed

if TYPE_CHECKING:
    from pathlib import Path


class Token(Struct, frozen=True):
    """A run, as ``recover`` needs to know it."""

    run: str
    id: str
    model: str
    task: str
    #: Of what must not change between two starts; empty in the record of an earlier version.
    fingerprint: str = ""


def witness_of(manifest: Path) -> Path:
    return manifest.with_suffix(".witness")


def tokens_of(manifest: Path) -> Path:
    return manifest.with_suffix(".run")


def read_witness(manifest: Path) -> Witnessed | None:
    """None when there is none that can be read. Blocks."""
    try:
        return msgspec.json.decode(witness_of(manifest).read_bytes(), type=Witnessed)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_witness(manifest: Path, instance: str, event: int) -> None:
    """Durable on return. Blocks."""
    _put("witness", witness_of(manifest), msgspec.json.encode(Witnessed(instance, event)))


def read_tokens(manifest: Path) -> list[Token]:
    """Of the runs that were ever opened here, as far as they can be read. Blocks."""
    try:
        lines = tokens_of(manifest).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [token for line in lines if (token := _read_token(line)) is not None]


def _read_token(line: bytes) -> Token | None:
    try:
        return msgspec.json.decode(line, type=Token)
    except msgspec.DecodeError:
        return None


def note_token(manifest: Path, token: Token) -> None:
    """Durable on return. Blocks."""
    tokens = read_tokens(manifest)
    if token.run not in {noted.run for noted in tokens}:
        tokens.append(token)
        _put("tokens", tokens_of(manifest), b"".join(msgspec.json.encode(noted) + b"\n" for noted in tokens))


def _put(what: str, path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.tmp")
    with disk_errors(path), open_draft(what, draft) as file:
        write_all(what, file, content)
        make_durable(what, file, draft, path)
