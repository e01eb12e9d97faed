"""What a process that judges frames is told and answers: the messages as bytes.

The frame's own bytes do not travel with them. For a frame of which every line is accepted, which is nearly every
one, the answer is the ends of the lines and the digests of their keys, twenty bytes a line.
"""

from __future__ import annotations

from array import array

import msgspec
from msgspec import Struct

from .framing import Frame
from .keys import DIGEST_BYTES, digests_of
from .records import Batch, clean

_CLEAN, _OTHER = b"CO"


class Question(Struct, frozen=True):
    """A frame without its ``size`` bytes of data."""

    source: str
    frame: Frame
    size: int


_questions = msgspec.msgpack.Decoder(Question)
_batches = msgspec.msgpack.Decoder(Batch)


def packed_question(frame: Frame, source: str) -> bytes:
    bare = msgspec.structs.replace(frame, data=b"")
    return msgspec.msgpack.encode(Question(source, bare, len(frame.data)))


def question(message: bytes) -> Question:
    return _questions.decode(message)


def packed_answer(frame: Frame, batch: Batch) -> bytes:
    same = batch.data is frame.data
    if same and not batch.rejects and not batch.blank:
        return b"".join((bytes([_CLEAN]), array("I", batch.ends), *batch.keys))
    bare = msgspec.structs.replace(batch, data=b"") if same else batch
    return b"".join((bytes([_OTHER]), msgspec.msgpack.encode(bare, enc_hook=list)))  # a range is no type of msgpack


def answer(message: bytes, frame: Frame, source: str) -> Batch:
    """The batch that a frame has become; an end is a number of four bytes, so no frame may have 4 GiB."""
    view = memoryview(message)[1:]
    if message[0] == _OTHER:
        batch = _batches.decode(view)
        return batch if batch.data or not batch.ends else msgspec.structs.replace(batch, data=frame.data)
    ends = array("I")
    count = len(view) // (ends.itemsize + DIGEST_BYTES)
    ends.frombytes(view[: count * ends.itemsize])
    keys = digests_of(view[count * ends.itemsize :])
    return clean(frame, frame.data, ends, keys, source=source, raw_ends=ends)
