"""What goes to a terminal: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys


def plain(text: str) -> str:
    """The text with control and other unprintable characters written as escapes.

    Names and messages of others could otherwise move the cursor or repaint the terminal.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(plain(text), file=sys.stderr, flush=True)


def put(text: str) -> bool:
    """A line of the result, on standard output; False when nobody reads it any more.

    A reader that went away, as ``head`` does, changes nothing about how the work ended.
    """
    try:
        print(plain(text), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
