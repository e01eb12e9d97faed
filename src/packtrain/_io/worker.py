"""Worker process that validates blocks, and the messages between it and the process that starts it.

A worker gets nothing but blocks: no environment, no credentials, and not the program that it was started from. It ends
with its standard input.
"""

from __future__ import annotations

import gc
import mmap
import sys
from array import array
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._rules.framing import RawBlock
from .._rules.keys import DIGEST_BYTES, digests_of
from .._rules.lines import OWN, LineShape
from .._rules.validate import Block, clean, scan
from .._signals import ignore_stops

if TYPE_CHECKING:
    from typing import BinaryIO

#: Each message follows its length, in so many bytes.
LENGTH_BYTES = 4
_CLEAN, _OTHER = b"CO"


class Question(Struct, frozen=True):
    """A block to validate, without its ``size`` bytes of data, which are in the shared memory."""

    source: str
    raw: RawBlock
    size: int
    shape: LineShape


_questions = msgspec.msgpack.Decoder(Question)
_blocks = msgspec.msgpack.Decoder(Block)


def command(module: str, *arguments: str) -> list[str]:
    """The command line that calls ``main`` of one of our modules, with ``arguments`` in its ``sys.argv``.

    multiprocessing would run the caller's main module again. Start it with an empty environment, so that no
    credentials are ever in it.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def packed_question(raw: RawBlock, source: str, shape: LineShape = OWN) -> bytes:
    bare = msgspec.structs.replace(raw, data=b"")
    return msgspec.msgpack.encode(Question(source, bare, len(raw.data), shape))


def question(message: bytes) -> Question:
    return _questions.decode(message)


def packed_answer(raw: RawBlock, block: Block) -> bytes:
    same = block.data is raw.data
    if same and not block.rejects and not block.blank:
        return b"".join((bytes([_CLEAN]), array("I", block.ends), *block.keys))
    bare = msgspec.structs.replace(block, data=b"") if same else block
    return b"".join((bytes([_OTHER]), msgspec.msgpack.encode(bare, enc_hook=list)))  # a range is no type of msgpack


def answer(message: bytes, raw: RawBlock, source: str) -> Block:
    """The validated block. An end is a number of four bytes, so no block may have 4 GiB."""
    view = memoryview(message)[1:]
    if message[0] == _OTHER:
        block = _blocks.decode(view)
        return block if block.data or not block.ends else msgspec.structs.replace(block, data=raw.data)
    ends = array("I")
    count = len(view) // (ends.itemsize + DIGEST_BYTES)
    ends.frombytes(view[: count * ends.itemsize])
    keys = digests_of(view[count * ends.itemsize :])
    return clean(raw, raw.data, ends, keys, source=source, raw_ends=ends)


def main() -> None:
    """The worker's part; the first argument is the descriptor of the shared memory."""
    gc.disable()  # nothing here refers to itself, and the lists are long
    ignore_stops()
    with mmap.mmap(int(sys.argv[1]), 0, access=mmap.ACCESS_READ) as memory:
        while message := _read(sys.stdin.buffer):
            asked = question(message)
            raw = msgspec.structs.replace(asked.raw, data=memory[: asked.size])
            reply = packed_answer(raw, scan(raw, source=asked.source, shape=asked.shape))
            sys.stdout.buffer.write(len(reply).to_bytes(LENGTH_BYTES, "big") + reply)
            sys.stdout.buffer.flush()


def _read(pipe: BinaryIO) -> bytes:
    return pipe.read(int.from_bytes(pipe.read(LENGTH_BYTES), "big"))
