"""Text of others in a form that every stream takes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

_HALF_PAIR = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    r"""The text with the halves of surrogate pairs escaped: as ``\xe9`` the bytes that Python keeps in them, because a
    file name is not UTF-8."""
    return text if text.isascii() else _HALF_PAIR.sub(_escape, text)


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as ``encodable`` text that is the same in every locale."""
    return encodable(os.fsencode(path).decode("utf-8", "surrogateescape"))


_URI = "file://"


def stored_path(path: str | os.PathLike[str]) -> str:
    """An absolute path as text for JSON, the same in every locale: as it is, or where it is not UTF-8, as a URI."""
    raw = os.fsencode(path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _URI + quote(raw)


def path_of(stored: str) -> Path:
    """The path that ``stored_path`` has stored."""
    raw = unquote_to_bytes(stored.removeprefix(_URI)) if stored.startswith(f"{_URI}/") else stored.encode()
    return Path(os.fsdecode(raw))


def _escape(half: re.Match[str]) -> str:
    number = ord(half[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"
