"""The lines of a frame: which are accepted, and why the others are not."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._model import Reject
from .keys import digests
from .lines import Refused, judge, judge_all, quote
from .requests import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .framing import Frame, Overlong

_BLANK = b" \t\r"
_CR = ord("\r")


class Batch(Struct, frozen=True, kw_only=True):
    """What a frame came to. The lists from ``ends`` to ``keys`` run parallel, one entry an accepted line.

    Lines are counted from the start of the frame, until ``numbered`` counts them from the start of the source.
    """

    source: str
    #: The accepted lines in order, each with one newline: the frame's own object if nothing had to change.
    data: bytes
    #: End of each line within ``data``.
    ends: Sequence[int]
    #: Where the frame starts in the source.
    offset: int
    #: Where each line starts in the frame, and where the byte behind its newline stands.
    raw_starts: Sequence[int]
    raw_ends: Sequence[int]
    #: Number of each line, from 1.
    lines_no: Sequence[int]
    #: Digest of each line's key.
    keys: list[bytes]
    #: In the order of the source.
    rejects: list[Reject]
    blank: int
    #: Lines of any kind: accepted, rejected and blank.
    lines: int
    #: Where the frame ends in the source.
    end: int

    def line(self, position: int) -> bytes:
        """An accepted line, with its newline."""
        return self.data[self.ends[position - 1] if position else 0 : self.ends[position]]

    def start(self, position: int) -> int:
        """Where an accepted line starts in the source."""
        return self.offset + self.raw_starts[position]


def scan(frame: Frame, *, source: str) -> Batch:
    """Judge the lines of a frame. It blocks for about 2 us per line of 1 kB: call it in a thread or process of its own.

    Raises InputError only when the calling stack leaves no room for ``MAX_DEPTH`` levels of nesting; no
    content of a line raises.
    """
    return _scan_clean(frame, source) or _scan_each(frame, source)


def numbered(batch: Batch, before: int) -> Batch:
    """The batch with its lines counted from the start of the source, where ``before`` lines stand before them."""
    if not before:
        return batch
    numbers = batch.lines_no
    return msgspec.structs.replace(
        batch,
        lines_no=range(numbers.start + before, numbers.stop + before)
        if isinstance(numbers, range)
        else [number + before for number in numbers],
        rejects=[msgspec.structs.replace(reject, line=reject.line + before) for reject in batch.rejects],
    )


def without(batch: Batch, positions: Collection[int], reason: Callable[[bytes], str]) -> Batch:
    """The batch with the lines at ``positions`` turned into rejects; ``reason`` is given each such line."""
    if not positions:
        return batch
    gone = set(positions)
    kept = [position for position in range(len(batch.ends)) if position not in gone]
    lines = [batch.line(position) for position in kept]
    refused = [
        Reject(batch.source, batch.lines_no[position], batch.start(position), reason(batch.line(position)))
        for position in sorted(gone)
    ]
    return msgspec.structs.replace(
        batch,
        data=b"".join(lines),
        ends=list(itertools.accumulate(map(len, lines))),
        raw_starts=[batch.raw_starts[position] for position in kept],
        raw_ends=[batch.raw_ends[position] for position in kept],
        lines_no=[batch.lines_no[position] for position in kept],
        keys=[batch.keys[position] for position in kept],
        rejects=sorted([*batch.rejects, *refused], key=lambda reject: reject.line),
    )


def repeated_key(line: bytes) -> str:
    """The reason for a line whose key was used before."""
    return f"key {quote(key_of(line).encode())} was already used earlier in this run; keys must be unique"


def larger_than_shard(line: bytes, max_bytes: int) -> str:
    """The reason for a line that fits no shard."""
    return f"a line of {len(line)} bytes is larger than a shard of {max_bytes} bytes; raise the limit or cut it"


def _scan_clean(frame: Frame, source: str) -> Batch | None:
    """A frame in which every line is good, with all its lines ending alike; None for any other."""
    if frame.overlong:
        return None
    data = frame.data.replace(b"\r\n", b"\n") if _CR in frame.data else frame.data
    found = judge_all(data)
    if found is None:
        return None
    ends, keys = found
    trimmed, uneven = divmod(len(frame.data) - len(data), len(ends))
    if uneven:
        return None
    raw_ends = [end + number * trimmed for number, end in enumerate(ends, 1)] if trimmed else ends
    return clean(frame, data, ends, digests(keys), source=source, raw_ends=raw_ends)


def clean(
    frame: Frame, data: bytes, ends: Sequence[int], keys: list[bytes], *, source: str, raw_ends: Sequence[int]
) -> Batch:
    """A frame of which every line is accepted."""
    return Batch(
        source=source,
        data=data,
        ends=ends,
        offset=frame.offset,
        raw_starts=[0, *raw_ends[:-1]],
        raw_ends=raw_ends,
        lines_no=range(1, len(ends) + 1),
        keys=keys,
        rejects=[],
        blank=0,
        lines=len(ends),
        end=frame.end,
    )


def _scan_each(frame: Frame, source: str) -> Batch:
    """The careful way: each line by itself, with a reason for each that is refused."""
    kept: list[bytes] = []
    starts: list[int] = []
    stops: list[int] = []
    numbers: list[int] = []
    keys: list[bytes] = []
    rejects: list[Reject] = []
    blank = 0
    number = stop = 0
    for line in io.BytesIO(frame.data):
        number += 1
        start, stop = stop, stop + len(line)
        text = line.removesuffix(b"\n").rstrip(b"\r")
        if not text.strip(_BLANK):
            blank += 1
            continue
        try:
            keys.append(judge(text))
        except Refused as refused:
            rejects.append(Reject(source, number, frame.offset + start, str(refused)))
            continue
        kept.append(text + b"\n")
        starts.append(start)
        stops.append(stop)
        numbers.append(number)
    if frame.overlong:
        number += 1
        rejects.append(_overlong(frame.overlong, number, source))
    data = b"".join(kept)
    return Batch(
        source=source,
        data=frame.data if data == frame.data else data,
        ends=list(itertools.accumulate(map(len, kept))),
        offset=frame.offset,
        raw_starts=starts,
        raw_ends=stops,
        lines_no=numbers,
        keys=digests(keys),
        rejects=rejects,
        blank=blank,
        lines=number,
        end=frame.end,
    )


def _overlong(line: Overlong, number: int, source: str) -> Reject:
    reason = f"a line of {line.length} bytes, above the limit of {line.limit}"
    return Reject(source, number, line.offset, reason)
