"""The entry point: ``packtrain``, and ``python -m packtrain``."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

#: As ``exits.Exit.AGAIN``, which is still to be loaded.
_AGAIN = 75


def main() -> None:
    """``packtrain.cli.main``; a signal while it is loaded, or once all is said, ends the process with one line."""
    try:
        from ._signals import stop_signals

        for number in stop_signals():
            signal.signal(number, signal.default_int_handler)
        from .cli import main as perform

        perform()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            with suppress(OSError):
                print("interrupted; start the same command again", file=sys.stderr, flush=True)
        sys.exit(_AGAIN)


if __name__ == "__main__":
    main()
