"""A file held against what is known of it. All functions block."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from .._options import MIB
from .._validation import counted

if TYPE_CHECKING:
    from pathlib import Path


class Claim(Struct, frozen=True):
    """What one part of a file should be; ``lines`` is None where nobody counted."""

    name: str
    bytes: int
    sha256: str
    lines: int | None = None


def differences(path: Path, claims: list[Claim], read: bool) -> list[str]:
    """How a file differs from these parts, one after the other; with ``read`` by their bytes, else by its size."""
    try:
        with path.open("rb", buffering=0) as file:
            size, expected = file.seek(0, 2), sum(claim.bytes for claim in claims)
            if size != expected:
                return [f"has {size} bytes instead of {expected}"]
            file.seek(0)
            return [flaw for claim in claims for flaw in _differences(file, claim)] if read else []
    except FileNotFoundError:
        return ["is gone"]
    except OSError as error:
        return [f"cannot be read ({error.strerror})"]


def _differences(file: BinaryIO, claim: Claim) -> list[str]:
    digest, lines, left = hashlib.sha256(), 0, claim.bytes
    while left and (block := file.read(min(MIB, left))):
        digest.update(block)
        lines += block.count(b"\n")
        left -= len(block)
    if digest.hexdigest() != claim.sha256:
        return [f"{claim.name}: its bytes are not what they were (SHA-256 {digest.hexdigest()[:16]}…)"]
    if claim.lines not in (None, lines):
        return [f"{claim.name}: has {counted(lines, 'line')} instead of {claim.lines}"]
    return []
