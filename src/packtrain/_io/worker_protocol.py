"""Messages between this process and its worker processes, and the command that starts one."""

from __future__ import annotations

import sys
from array import array

import msgspec
from msgspec import Struct

from .._rules.framing import RawBlock
from .._rules.keys import DIGEST_BYTES, digests_of
from .._rules.validate import Block, clean


def command(module: str, *arguments: str) -> list[str]:
    """To call ``main`` of one of our modules, with ``arguments`` in its ``sys.argv``.

    multiprocessing would run the caller's main module again. Start it with an empty environment, so that no
    credentials are ever in it.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


_CLEAN, _OTHER = b"CO"


class Question(Struct, frozen=True):
    """A frame without its ``size`` bytes of data."""

    source: str
    raw: RawBlock
    size: int


_questions = msgspec.msgpack.Decoder(Question)
_blocks = msgspec.msgpack.Decoder(Block)


def packed_question(raw: RawBlock, source: str) -> bytes:
    bare = msgspec.structs.replace(raw, data=b"")
    return msgspec.msgpack.encode(Question(source, bare, len(raw.data)))


def question(message: bytes) -> Question:
    return _questions.decode(message)


def packed_answer(raw: RawBlock, block: Block) -> bytes:
    same = block.data is raw.data
    if same and not block.rejects and not block.blank:
        return b"".join((bytes([_CLEAN]), array("I", block.ends), *block.keys))
    bare = msgspec.structs.replace(block, data=b"") if same else block
    return b"".join((bytes([_OTHER]), msgspec.msgpack.encode(bare, enc_hook=list)))  # a range is no type of msgpack


def answer(message: bytes, raw: RawBlock, source: str) -> Block:
    """The batch that a frame has become; an end is a number of four bytes, so no frame may have 4 GiB."""
    view = memoryview(message)[1:]
    if message[0] == _OTHER:
        block = _blocks.decode(view)
        return block if block.data or not block.ends else msgspec.structs.replace(block, data=raw.data)
    ends = array("I")
    count = len(view) // (ends.itemsize + DIGEST_BYTES)
    ends.frombytes(view[: count * ends.itemsize])
    keys = digests_of(view[count * ends.itemsize :])
    return clean(raw, raw.data, ends, keys, source=source, raw_ends=ends)
