"""A process that judges frames: started by ``workers``, it ends with its standard input.

It is given nothing but the frames: no environment, no credentials, and not the program that it was started from.
"""

from __future__ import annotations

import gc
import mmap
import sys
from typing import TYPE_CHECKING

import msgspec

from .._rules.validate import scan
from .worker_protocol import packed_answer, question

if TYPE_CHECKING:
    from typing import BinaryIO

#: Before each message stands its length.
LENGTH_BYTES = 4


def main() -> None:
    """The memory that frames stand in is the descriptor that the first argument names."""
    gc.disable()  # nothing here refers to itself, and the lists are long
    with mmap.mmap(int(sys.argv[1]), 0, access=mmap.ACCESS_READ) as memory:
        while message := _read(sys.stdin.buffer):
            asked = question(message)
            raw = msgspec.structs.replace(asked.raw, data=memory[: asked.size])
            reply = packed_answer(raw, scan(raw, source=asked.source))
            sys.stdout.buffer.write(len(reply).to_bytes(LENGTH_BYTES, "big") + reply)
            sys.stdout.buffer.flush()


def _read(pipe: BinaryIO) -> bytes:
    return pipe.read(int.from_bytes(pipe.read(LENGTH_BYTES), "big"))
