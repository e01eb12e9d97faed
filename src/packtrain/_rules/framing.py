"""Cutting a stream of bytes into whole lines.

Only ``\\n`` ends a line. U+2028, U+0085 and a lone CR are ordinary content, because the service that reads
our files cuts at ``\\n`` as well. A line above the limit is dropped while it streams by, so that memory
stays bounded whatever its length; it still counts as a line, and every other line keeps its exact offset.
"""

from __future__ import annotations

from msgspec import Struct

BOM = b"\xef\xbb\xbf"
#: Bytes that are kept of a dropped line.
HEAD_BYTES = 1000


class Overlong(Struct, frozen=True):
    """A dropped line: ``offset`` counts from 0, ``length`` excludes the newline."""

    offset: int
    length: int
    #: The limit that it passed.
    limit: int
    #: Its first bytes.
    head: bytes = b""


class RawBlock(Struct, frozen=True):
    """Whole lines that follow each other in the source, then perhaps one dropped line."""

    #: Ends with a newline, except that the last line of a source may have none. May be empty.
    data: bytes
    #: Offset of ``data`` in the source, in bytes.
    offset: int
    #: Offset of the end of the block, the dropped line and its newline included.
    end: int
    #: The dropped line right behind ``data``.
    overlong: Overlong | None = None


class Framer:
    """Cuts one source. ``feed`` its blocks in order, then ``finish``.

    ``max_line`` is in bytes, without the newline. ``offset`` is that of the first block when reading
    goes on in the middle; it must be the start of a line. A byte order mark at the very start of a source is
    skipped; its three bytes count in offsets.
    """

    def __init__(self, max_line: int, *, offset: int = 0) -> None:
        self._max_line = max_line
        self._offset = offset
        self._parts: list[bytes] = []
        self._held = 0
        self._dropping = False
        #: The first bytes of the line that is dropped.
        self._start = b""
        self._head: bytes | None = b"" if offset == 0 else None

    def feed(self, chunk: bytes) -> list[RawBlock]:
        """The lines that this block completes; the start of the last line is kept inside."""
        chunk = self._skip_bom(chunk)
        raws: list[RawBlock] = []
        if self._dropping:
            stop = chunk.find(b"\n")
            if stop < 0:
                self._held += len(chunk)
                return raws
            raws.append(self._raw(b"", dropped=self._held + stop, head=self._start))
            chunk = chunk[stop + 1 :]
            self._release()
        cut = chunk.rfind(b"\n") + 1
        if cut:
            data = b"".join((*self._parts, memoryview(chunk)[:cut]))
            self._release()
            raws += self._split(data)
        self._carry(chunk[cut:])
        return raws

    def finish(self) -> list[RawBlock]:
        """The last line, if it has no newline."""
        if self._head:
            self._carry(self._head)
            self._head = None
        if not self._held:
            return []
        data = b"" if self._dropping else b"".join(self._parts)
        raw = self._raw(data, dropped=self._held if self._dropping else None, newline=0, head=self._start)
        self._release()
        return [raw]

    def _skip_bom(self, chunk: bytes) -> bytes:
        if self._head is None:
            return chunk
        head = self._head + chunk
        if len(head) < len(BOM) and BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        if not head.startswith(BOM):
            return head
        self._offset += len(BOM)
        return head[len(BOM) :]

    def _carry(self, rest: bytes) -> None:
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
        if self._held > self._max_line:
            self._start = self._start or b"".join(self._parts)[:HEAD_BYTES]
            self._parts.clear()
            self._dropping = True

    def _release(self) -> None:
        self._parts.clear()
        self._held = 0
        self._dropping = False
        self._start = b""

    def _split(self, data: bytes) -> list[RawBlock]:
        """Frames of ``data``, cut at each overlong line; steps of a whole limit, not of a line."""
        raws: list[RawBlock] = []
        start = at = 0
        while len(data) - at > self._max_line + 1:
            stop = data.rfind(b"\n", at, at + self._max_line + 1)
            if stop < 0:
                stop = data.index(b"\n", at)
                raws.append(self._raw(data[start:at], dropped=stop - at, head=data[at : at + HEAD_BYTES]))
                start = stop + 1
            at = stop + 1
        if start < len(data):
            raws.append(self._raw(data[start:]))
        return raws

    def _raw(self, data: bytes, *, dropped: int | None = None, newline: int = 1, head: bytes = b"") -> RawBlock:
        offset = self._offset
        self._offset += len(data)
        overlong = None
        if dropped is not None:
            overlong = Overlong(self._offset, dropped, self._max_line, head)
            self._offset += dropped + newline
        return RawBlock(data, offset, self._offset, overlong)
