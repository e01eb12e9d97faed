"""The library's own log records, as lines on standard error."""

from __future__ import annotations

import logging

from .console import say


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def show_logs(*, quiet: bool, debug: bool) -> None:
    """Warnings and above; every recorded step with ``debug``, nothing but errors with ``quiet``."""
    handler = _Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("packtrain")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING)
