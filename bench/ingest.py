"""A file of requests validated and cut into shards, beside programs that only cut or read it.

    python bench/ingest.py --megabytes 1000 --rounds 3

Lines are of about 1 kB. ``packtrain split`` looks at every byte of every line, at every key against all others, hashes
the shards and syncs them to disk. ``split`` cuts and checks nothing; it comes with ``sync`` of what it wrote, and
without. DuckDB and Polars read the two columns, ``jq`` parses and prints, the plain script does what most people
write. What was cut is compared with the input in length. Prints a JSON line a run, then a table of medians. Needs the
packages ``polars`` and ``duckdb``, and ``jq``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from trials import Facts, Rival, compete, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES = Path(__file__).with_name("lines.py")
OURS = "packtrain"


class Place:
    """Where the input lies, and where what was made of it goes."""

    def __init__(self, directory: Path) -> None:
        self.input = directory / "requests.jsonl"
        self.out = directory / "out"

    def write(self, megabytes: int) -> None:
        with self.input.open("wb") as file:
            subprocess.run([sys.executable, LINES, "--megabytes", str(megabytes)], stdout=file, check=True)

    def clear(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def check(self) -> Facts:
        """Raises ValueError when the files made are not as long as the input."""
        written = sum(path.stat().st_size for path in self.out.iterdir())
        if written != self.input.stat().st_size:
            raise ValueError(f"{written} bytes were made of {self.input.stat().st_size}")
        return {"files": len([*self.out.iterdir()])}


def plain(source: Path, out: Path) -> None:
    """As it is written in an afternoon."""
    seen = set()
    with source.open() as file, (out / "shard").open("w") as shard:
        for line in file:
            row = json.loads(line)
            if not isinstance(row["request"], dict) or row["key"] in seen:
                raise ValueError(line)
            seen.add(row["key"])
            shard.write(line)


def duckdb(source: Path, _: Path) -> None:
    import duckdb

    # The file name is our own.
    duckdb.execute(
        f"""select count(key), sum(length(request)) from read_json('{source}', format='newline_delimited',
            columns={{key: 'VARCHAR', request: 'JSON'}})"""  # noqa: S608
    ).fetchall()


def polars(source: Path, _: Path) -> None:
    import polars

    polars.scan_ndjson(source).select("key", "request").collect(engine="streaming")


SCRIPTS: dict[str, Callable[[Path, Path], None]] = {"duckdb": duckdb, "polars": polars, "plain json": plain}


def rivals(place: Place) -> Iterator[Rival]:
    ours = [sys.executable, "-m", "packtrain", "split", str(place.input), "--out-dir", str(place.out), "--quiet"]
    cut = f"split -C 2G --elide {place.input} {place.out}/shard."
    for name, command in {
        OURS: ours,
        "packtrain, one process": [*ours, "--workers", "1"],
        "split -C, sync": ["/bin/sh", "-c", f"{cut} && sync {place.out}/*"],
        "split -C": ["/bin/sh", "-c", cut],
    }.items():
        yield Rival(name=name, command=command, prepare=place.clear, check=place.check)
    for name in SCRIPTS:
        command = [sys.executable, __file__, "--as", name, "--files", str(place.input), str(place.out)]
        yield Rival(name=name, command=command, prepare=place.clear)
    yield Rival(name="jq -c .", command=["/bin/sh", "-c", f"jq -c . {place.input} >{place.out}/shard"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the files are made, a temporary directory if not given")
    parser.add_argument("--as", dest="rival", help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.rival:
        SCRIPTS[chosen.rival](*chosen.files)
        return
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        place = Place(Path(name))
        place.write(chosen.megabytes)
        size = place.input.stat().st_size
        found = compete("ingest", [*rivals(place)], size=size, rounds=chosen.rounds, directory=Path(name))
    print(f"\n{table(found, against=OURS)}\n")


if __name__ == "__main__":
    main()
