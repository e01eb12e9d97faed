"""Core dumps switched off: they would hold the key."""

from __future__ import annotations

import ctypes
import resource
import sys

#: prctl(2): also for kernels that hand dumps to a program, which the limit on their size does not hold back.
_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """As far as the system lets one; a program that is started from here may dump again."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
