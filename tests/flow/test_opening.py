"""Opening a client leaves the running loop free."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio, sys, threading
from packtrain import Local, open_client

class Imports:
    names = []

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            cls.names.append(name)

async def main():
    sys.meta_path.insert(0, Imports)
    async with open_client(sys.argv[1], service=Local()):
        pass

asyncio.run(main())
assert "aiohttp" in sys.modules
print(*(name for name in Imports.names if name.startswith(("packtrain", "aiohttp", "msgspec", "sqlite3"))))
"""


def test_nothing_of_a_client_is_imported_in_the_thread_of_the_loop(tmp_path: Path) -> None:
    """A20: hundreds of modules, and files that they read, would block everything else for a second."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "state")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("\n", "")
