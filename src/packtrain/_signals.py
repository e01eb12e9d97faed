"""Signals that ask a command to stop."""

from __future__ import annotations

import signal

#: By hand, by the system, by a terminal that closes, by a batch scheduler some time before its limit.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Those of ``STOPS`` that this process should heed: not SIGHUP or SIGUSR1 when it was started to ignore them, as by
    nohup."""
    optional = (signal.SIGHUP, signal.SIGUSR1)
    return tuple(s for s in STOPS if s not in optional or signal.getsignal(s) is not signal.SIG_IGN)


def ignore_stops() -> None:
    """For a process that ends with the one that started it, and which a batch scheduler signals as well."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
