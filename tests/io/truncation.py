"""A results file cut at every so many bytes, through the code that takes results in.

``python -m tests.io.truncation`` is the long form: 10,000 lines, a cut at every 97th byte, with a length announced and
without. A cut that nobody notices would be an answer lost in silence.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from packtrain._errors import IntegrityError, TransportError
from packtrain._io.join import Outputs, join_files
from packtrain._io.result_file import PartialDownload

if TYPE_CHECKING:
    from collections.abc import Iterable


class Bench:
    """Requests, their results in full, and a part that is cut shorter and shorter."""

    def __init__(self, root: Path, lines: int) -> None:
        self.requests = root / "requests"
        self.part = root / "part"
        self.whole = b"".join(_answer(number) for number in range(lines))
        self._lines = lines
        self._outputs = Outputs(root / "answers", root / "failed", root / "unknown")
        self.requests.write_bytes(b"".join(b'{"key":"key-%d","request":{}}\n' % number for number in range(lines)))
        self.part.write_bytes(self.whole)

    def cuts(self, every: int) -> range:
        """From the end to the start, so that each cut is made of the one before."""
        return range((len(self.whole) - 1) // every * every, -1, -every)

    def unnoticed(self, cuts: Iterable[int], *, length: bool) -> list[int]:
        """The cuts after which the results pass for whole."""
        return [cut for cut in cuts if not self._notices(cut, length=length)]

    def _notices(self, cut: int, *, length: bool) -> bool:
        with self.part.open("r+b") as file:
            file.truncate(cut)
        part = PartialDownload(self.part)
        try:
            part.begin(part.offset)
            part.write(self.whole[part.offset : cut])
            part.finish(len(self.whole) if length else None)
        except TransportError:
            return True
        finally:
            part.close()
        return not self._is_whole()

    def _is_whole(self) -> bool:
        try:
            tally = join_files([self.requests], [self.part], self._outputs)
        except IntegrityError:
            return False
        return tally.answered == self._lines


def _answer(number: int) -> bytes:
    text = f"answer {number} " + "word " * (number % 7)
    row = {"key": f"key-{number}", "response": {"candidates": [{"content": {"parts": [{"text": text}]}}]}}
    return json.dumps(row).encode() + b"\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=97)
    chosen = parser.parse_args()
    began, verdict = time.monotonic(), {"lines": chosen.lines, "every": chosen.every}
    for name, length in (("length", True), ("no_length", False)):
        with tempfile.TemporaryDirectory() as root:
            bench = Bench(Path(root), chosen.lines)
            cuts = bench.cuts(chosen.every)
            verdict |= {f"cuts_{name}": len(cuts), f"unnoticed_{name}": len(bench.unnoticed(cuts, length=length))}
    print(json.dumps({**verdict, "bytes": len(bench.whole), "seconds": round(time.monotonic() - began, 1)}))
    return 1 if verdict["unnoticed_length"] or verdict["unnoticed_no_length"] else 0


if __name__ == "__main__":
    sys.exit(main())
