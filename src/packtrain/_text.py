"""Text of others in a form that every stream takes."""

from __future__ import annotations

import os
import re

_HALF_PAIR = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    r"""The text with the halves of surrogate pairs escaped: as ``\xe9`` the bytes that Python keeps in them, because a
    file name is not UTF-8."""
    return text if text.isascii() else _HALF_PAIR.sub(_escape, text)


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as ``encodable`` text that is the same in every locale."""
    return encodable(os.fsencode(path).decode("utf-8", "surrogateescape"))


def _escape(half: re.Match[str]) -> str:
    number = ord(half[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"
