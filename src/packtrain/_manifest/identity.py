"""Identity of the manifest's file and machine, by which one that was copied, moved or put back is recognised.

The number of a file is given to another one as soon as it is free, so its generation counts as well, where the file
system gives it. Devices get new numbers at every start of a machine, and machines change their names; neither counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path

from msgspec import Struct

#: The id of this installation of the system; many containers have none.
MACHINE = Path("/etc/machine-id")
#: FS_IOC_GETVERSION, ``_IOR('v', 1, long)``: the generation of an inode.
_GENERATION = 0x80007601 | struct.calcsize("l") << 16


class Identity(Struct, frozen=True):
    """``machine`` and ``generation`` are None where the system does not give them."""

    machine: str | None
    inode: int
    generation: int | None


def identify(path: Path) -> Identity:
    """Blocking, and for a file that this process has not opened: closing it would drop SQLite's locks."""
    with path.open("rb") as file:
        return Identity(_machine(), os.fstat(file.fileno()).st_ino, _generation(file.fileno()))


def difference(then: Identity, now: Identity) -> str | None:
    """Why this is not the same file any more; None when nothing says so."""
    if _differ(then.machine, now.machine):
        return "it was made on another machine"
    if then.inode != now.inode or _differ(then.generation, now.generation):
        return "it was copied here, or put back"
    return None


def _differ(then: object, now: object) -> bool:
    return None not in (then, now) and then != now


def _machine() -> str | None:
    """A digest: systemd asks that the id itself be kept private."""
    text = MACHINE.read_bytes().strip() if MACHINE.is_file() else b""
    return hashlib.sha256(b"packtrain " + text).hexdigest()[:16] if text else None


def _generation(handle: int) -> int | None:
    try:
        answer = fcntl.ioctl(handle, _GENERATION, bytes(struct.calcsize("l")))
    except OSError:
        return None
    # The kernel fills in an int, whatever the number of the call says.
    return int(struct.unpack_from("I", answer)[0])
