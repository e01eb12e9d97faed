"""Remote names, computed from the run's token, the shard and the attempt.

Where a service lets the client name a file, each attempt has a name of its own, so that deleting the file revokes a
create that is still on its way; the provider writes the name as its wire wants it. A job carries a tag, if the service
has a place for one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from .._model import Shard

PREFIX = "pt1"
_BASE32 = frozenset("abcdefghijklmnopqrstuvwxyz234567")
#: 18 digits for the shard: its cut times a million, plus its place in the cut.
_AFTER_RUN = re.compile(r"(\d{1,18})\.(\d{1,9})\.(\d{1,9})\.([0-9a-f]{16})\.(\d{1,12})")


class Tag(Struct, frozen=True):
    """The attempt and the content that a job's tag names."""

    shard: int
    generation: int
    attempt: int
    sha16: str
    lines: int


def token_from(random: bytes) -> str:
    """A run's token: 26 characters of lower-case base32 from 16 random bytes."""
    return _base32(random)


def is_token(text: str) -> bool:
    """Whether a run can have this token; it becomes part of paths."""
    return len(text) == 26 and set(text) <= _BASE32


def file_name(token: str, shard: int, generation: int, attempt: int) -> str:
    """``p`` and a digest of 38 characters: letters and digits, and one short of the 40 that services allow."""
    digest = hashlib.sha256(f"{PREFIX}|{token}|{shard}|{generation}|{attempt}".encode()).digest()
    return f"p{_base32(digest)[:38]}"


def is_file_name(name: str) -> bool:
    """Whether ``file_name`` may have made it."""
    return len(name) == 39 and name[0] == "p" and set(name) <= _BASE32


def plain_file(name: str) -> str:
    """The name of a file without the collection that a wire puts before it."""
    return name.rpartition("/")[2]


def same_file(one: str, other: str) -> bool:
    """Whether two names are of one file, with or without the collection that a wire puts before them."""
    return plain_file(one) == plain_file(other)


def same_model(one: str, other: str) -> bool:
    """Whether two names are of one model, with or without the collection that a wire puts before them."""
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def job_tag(token: str, shard: Shard, attempt: int) -> str:
    """The display name of the job of one attempt: binds run, shard, attempt and content. ASCII, under 128."""
    return f"{shard_prefix(token, shard.index, shard.generation)}{attempt}.{shard.sha256[:16]}.{shard.lines}"


def read_tag(token: str, display_name: str) -> Tag | None:
    """None for a display name that this run never gave."""
    found = _AFTER_RUN.fullmatch(display_name.removeprefix(run_prefix(token)))
    if found is None or not display_name.startswith(run_prefix(token)):
        return None
    shard, generation, attempt, sha16, lines = found.groups()
    return Tag(int(shard), int(generation), int(attempt), sha16, int(lines))


def file_tag(job_tag: str, instance: str) -> str:
    """The display name of an input file; ``instance`` says which manifest claimed the name."""
    return f"{job_tag}.{instance}"


def shard_prefix(token: str, shard: int, generation: int) -> str:
    """What the tags of all attempts of a shard begin with; the final dot keeps shard 1 apart from shard 10."""
    return f"{run_prefix(token)}{shard}.{generation}."


def run_prefix(token: str) -> str:
    return f"{PREFIX}.{token}."


def shard_file(index: int, generation: int) -> str:
    """The local name of a shard's file, and of what belongs to it."""
    return f"{index:05d}-{generation}.jsonl"


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().lower().rstrip("=")
