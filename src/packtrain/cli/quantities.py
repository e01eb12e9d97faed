"""Sizes and durations as people write and read them."""

from __future__ import annotations

import re

_DECIMAL = ("B", "KB", "MB", "GB", "TB")
_BINARY = ("KIB", "MIB", "GIB", "TIB")
_BYTES = {name: 10 ** (3 * power) for power, name in enumerate(_DECIMAL)} | {
    name: 2 ** (10 * power) for power, name in enumerate(_BINARY, start=1)
}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?([A-Za-z]*)", re.ASCII)
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|[smhd])", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes from ``2GB``, ``512MiB``, ``1.5 GB`` or ``1000``. Raises ValueError saying what would be understood.

    ``2G`` is refused: half of the world's programs mean 2,000,000,000 by it, the others 2,147,483,648.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _BYTES.get((match[2] or "B").upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write 2GB (2,000,000,000 bytes) or 2GiB (2,147,483,648 bytes)")
    size = int(match[1]) * factor if match[1].isdigit() else int(float(match[1]) * factor)
    if size < 1:
        raise ValueError(f"{text!r} is less than one byte")
    return size


def parse_duration(text: str) -> float:
    """Seconds from ``30s``, ``5m``, ``1h30m``, ``250ms`` or ``30``. Raises ValueError like ``parse_size``."""
    stripped = text.strip()
    if re.fullmatch(r"\d{1,12}(?:\.\d{1,9})?", stripped, re.ASCII):
        stripped += "s"
    parts = _PART.findall(stripped)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != stripped or seconds <= 0:
        raise ValueError(f"{text!r} is not a duration; write 30s, 5m, 1h30m or 250ms")
    return seconds


def size_text(size: float) -> str:
    """``1.2 GB``: three digits at most before the point, decimal units."""
    power = 0
    while size >= 999.5 and power < len(_DECIMAL) - 1:
        size /= 1000
        power += 1
    return f"{size:.{1 if power and size < 99.95 else 0}f} {_DECIMAL[power]}"


def duration_text(seconds: float) -> str:
    """``0.3 s``, ``45 s``, ``12 min``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"
