"""The lines of a frame: which are accepted, and why the others are not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._model import Reject
from .keys import digests
from .lines import Refused, groups, judge, judge_all, judge_group, quote
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
    """The careful way: where a group of lines is not all good, each by itself, with a reason for each refused."""
    found = _Found(frame, source)
    for lines in groups(frame.data):
        keys = judge_group(lines) if lines[-1].endswith(b"\n") else None
        if keys is None:
            for line in lines:
                found.judge(line)
        else:
            found.take(lines, keys)
    return found.batch()


class _Found:
    """What has been found in a frame so far."""

    def __init__(self, frame: Frame, source: str) -> None:
        self._frame = frame
        self._source = source
        self._kept: list[bytes] = []
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._numbers: list[int] = []
        self._keys: list[bytes] = []
        self._rejects: list[Reject] = []
        self._blank = self._number = self._stop = 0

    def take(self, lines: list[bytes], keys: list[bytes]) -> None:
        """The next lines, all of them good."""
        ends = [*itertools.accumulate(map(len, lines), initial=self._stop)]
        self._kept += lines
        self._starts += ends[:-1]
        self._stops += ends[1:]
        self._numbers += range(self._number + 1, self._number + len(lines) + 1)
        self._keys += keys
        self._number += len(lines)
        self._stop = ends[-1]

    def judge(self, line: bytes) -> None:
        """The next line, of which nothing is known."""
        text = line.removesuffix(b"\n").rstrip(b"\r")
        self._number += 1
        start, self._stop = self._stop, self._stop + len(line)
        if not text.strip(_BLANK):
            self._blank += 1
            return
        try:
            self._keys.append(judge(text))
        except Refused as refused:
            self._rejects.append(Reject(self._source, self._number, self._frame.offset + start, str(refused)))
            return
        self._kept.append(text + b"\n")
        self._starts.append(start)
        self._stops.append(self._stop)
        self._numbers.append(self._number)

    def batch(self) -> Batch:
        frame, data = self._frame, b"".join(self._kept)
        rejects, lines = self._rejects, self._number
        if frame.overlong:
            lines += 1
            rejects = [*rejects, _overlong(frame.overlong, lines, self._source)]
        return Batch(
            source=self._source,
            data=frame.data if data == frame.data else data,
            ends=list(itertools.accumulate(map(len, self._kept))),
            offset=frame.offset,
            raw_starts=self._starts,
            raw_ends=self._stops,
            lines_no=self._numbers,
            keys=digests(self._keys),
            rejects=rejects,
            blank=self._blank,
            lines=lines,
            end=frame.end,
        )


def _overlong(line: Overlong, number: int, source: str) -> Reject:
    reason = f"a line of {line.length} bytes, above the limit of {line.limit}"
    return Reject(source, number, line.offset, reason)
