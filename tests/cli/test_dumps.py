"""S5: a crash leaves no picture of the memory with the key in it."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import listening

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

#: prctl(2)
PR_GET_DUMPABLE = 3


def test_every_command_may_dump_no_core(terminal: Terminal) -> None:
    """From its first moment on, whatever the shell allows."""
    service = terminal.start("serve", "--dir", "service", "--port", "0")
    listening(service)
    assert resource.prlimit(service.pid, resource.RLIMIT_CORE) == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_linux_is_told_as_well(terminal: Terminal) -> None:
    """Where dumps go to a program, their size is not limited. A child that is another program is not concerned."""
    asked = f"print(ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}))"
    code = f"""
import ctypes, subprocess, sys
from packtrain.cli.dumps import forbid_core_dumps
forbid_core_dumps()
{asked}
sys.stdout.flush()
subprocess.run([sys.executable, "-c", {f"import ctypes; {asked}"!r}], check=True)
"""
    assert ctypes.CDLL(None).prctl(PR_GET_DUMPABLE) == 1
    done = subprocess.run([sys.executable, "-c", code], env=terminal.environ, capture_output=True, check=True)
    assert done.stdout.split() == [b"0", b"1"]
