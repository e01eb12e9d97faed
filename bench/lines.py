"""Request lines for benches, written quickly: ``python bench/lines.py --megabytes 1000 >requests.jsonl``.

Each line is about ``--line`` bytes, with a key of its own; the same numbers give the same bytes.
"""

from __future__ import annotations

import argparse
import random
import sys

MB = 10**6
_WORDS = ("batch", "line", "shard", "offset", "lease", "token", "cursor", "answer", "question", "model", "river")
#: Different texts, which come round again and again behind ever new keys.
_TEXTS = 1024


def texts(size: int, seed: int = 1) -> list[bytes]:
    """Ends of lines, from behind the key, each of nearly ``size`` bytes; every tenth is not all ASCII."""
    chance = random.Random(seed)
    found = []
    for number in range(_TEXTS):
        words: list[str] = ["über", "東京"] if number % 10 == 0 else []
        while sum(len(word) + 1 for word in words) < size - 90:
            words += chance.choices(_WORDS, k=8)
        text = " ".join(words)[: max(1, size - 90)]
        found.append(f'","request":{{"contents":[{{"parts":[{{"text":"{text}"}}]}}]}}}}\n'.encode())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--line", type=int, default=1000, help="bytes of a line, or nearly")
    chosen = parser.parse_args()
    ends = texts(chosen.line)
    left, number = int(chosen.megabytes * MB), 0
    while left > 0:
        block = b"".join([b'{"key":"%015d%b' % (number + at, end) for at, end in enumerate(ends)])
        sys.stdout.buffer.write(block)
        number += len(ends)
        left -= len(block)


if __name__ == "__main__":
    main()
