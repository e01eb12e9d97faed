"""Output to a terminal: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

from packtrain._text import encodable

from .exits import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

#: To the upper left corner, and nothing behind it.
_CLEAR = "\x1b[H\x1b[J"


def prepare_streams() -> None:
    """Let no file of ours get the number of a standard stream that was closed, and be written into as one.

    Characters that the encoding of standard output does not have are written as escapes, as on standard error.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a handle, to the end
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    r"""The text with control and other unprintable characters written as escapes, bytes that are not UTF-8 as ``\xe9``.

    Names and messages of others could otherwise move the cursor or repaint the terminal.
    """
    text = encodable(text)
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """A line for people, on standard error; that it cannot be written changes nothing about the work."""
    with suppress(OSError):
        print(plain(text), file=sys.stderr, flush=True)


def put(text: str, *, cleared: bool = False) -> bool:
    """A line of the result, on standard output, or on a terminal ``cleared`` for it; False when the reader has gone.

    A reader that went away, as ``head`` does, changes nothing about how the work ended. Raises OutputError.
    """
    return _put(lambda: print(_CLEAR * cleared + plain(text)))


def put_json(value: object) -> bool:
    """As ``put``, as one line of JSON, which is UTF-8 whatever the encoding of the stream."""
    import msgspec

    try:
        line = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a file name that is not UTF-8
        line = msgspec.json.encode(_encodable(msgspec.to_builtins(value)))
    return _put(lambda: sys.stdout.buffer.write(line + b"\n"))


def _encodable(value: object) -> object:
    match value:
        case str():
            return encodable(value)
        case dict():
            return {_encodable(key): _encodable(item) for key, item in value.items()}
        case list():
            return [_encodable(item) for item in value]
    return value


def _put(write: Callable[[], object]) -> bool:
    try:
        with telling():
            write()
    except BrokenPipeError:
        _give_up(sys.stdout)
        return False
    return True


def is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def telling() -> Iterator[None]:
    """A block that writes to standard output. Raises OutputError when that takes nothing, closed or on a full disk."""
    if sys.stdout is None:
        raise OutputError("standard output is closed, so the result is not shown")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up(sys.stdout)
        raise OutputError(
            f"standard output cannot be written ({error.strerror}), so the result is not shown"
        ) from error


def flush_errors() -> None:
    """What standard error still does not take is given up, or Python would end with a code of its own."""
    try:
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
