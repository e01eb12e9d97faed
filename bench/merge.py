"""Requests joined with their results by key, in the order of the requests, beside Polars, DuckDB and a plain script.

    python bench/merge.py --megabytes 1000 --rounds 3

Results stand in the order of the requests, as services promise, and shuffled, as some deliver them. Each rival writes
one file, whose rows are checked one by one: the same keys in the same order, and the same content however it is
spelled. Polars and DuckDB come twice: reading JSON as they are meant to, and with the lines as text from which a
regular expression takes the key, which is less work, keeps the bytes, and checks nothing. DuckDB is given 4 GB.
Prints a JSON line a run, then a table of medians. Needs the packages ``polars`` and ``duckdb``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trials import MB, Facts, Rival, compete, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORDS = ("the", "of", "and", "batch", "model", "answer", "river", "mountain", "token", "data", "careful", "bright")
OURS = "packtrain"


class Row(msgspec.Struct):
    """A line of requests or results, as far as the check looks into it."""

    key: str
    response: object = None


class Data:
    """The files of the bench: requests, results in their order, and the same results shuffled."""

    def __init__(self, directory: Path) -> None:
        self.requests = directory / "requests.jsonl"
        self.ordered = directory / "ordered.jsonl"
        self.shuffled = directory / "shuffled.jsonl"
        self.out = directory / "out.jsonl"

    def write(self, megabytes: int, seed: int) -> None:
        """So many megabytes of requests, and a tenth more of results; every tenth text is not ASCII."""
        draw = random.Random(seed)
        plain = " ".join(draw.choices(WORDS, k=20_000))
        texts = [plain.replace("e", "é"), *[plain] * 9]
        results, number, written = [], 0, 0
        with self.requests.open("wb") as requests, self.ordered.open("wb") as ordered:
            while written < megabytes * MB:
                text = texts[number % len(texts)]
                key = f"request-{number:09d}"
                line = _request(key, _piece(draw, text, 700, 1500))
                row = _result(key, _piece(draw, text, 700, 1550))
                written += requests.write(line)
                results.append((ordered.tell(), len(row)))
                ordered.write(row)
                number += 1
        draw.shuffle(results)
        with self.ordered.open("rb") as ordered, self.shuffled.open("wb") as shuffled:
            for offset, length in results:
                ordered.seek(offset)
                shuffled.write(ordered.read(length))

    def check(self) -> Facts:
        """Raises ValueError when the output is not the results in the order of the requests."""
        untouched = _digest(self.out) == _digest(self.ordered)
        if not untouched:
            with self.ordered.open("rb") as expected, self.out.open("rb") as found:
                for number, (one, other) in enumerate(zip(map(_content, expected), map(_content, found), strict=True)):
                    if one != other:
                        raise ValueError(f"row {number + 1} of the output is not the answer to request {number + 1}")
        return {"same_rows": "yes", "bytes_untouched": "yes" if untouched else "no"}


def _piece(draw: random.Random, text: str, least: int, most: int) -> str:
    start = draw.randrange(len(text) - most)
    return text[start : start + draw.randrange(least, most)]


def _request(key: str, text: str) -> bytes:
    body = {"contents": [{"parts": [{"text": text}]}], "generation_config": {"temperature": 0.7}}
    return json.dumps({"key": key, "request": body}, ensure_ascii=False).encode() + b"\n"


def _result(key: str, text: str) -> bytes:
    answer = {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 34, "totalTokenCount": 46},
        "modelVersion": "gemini-2.5-flash",
    }
    return msgspec.json.encode({"key": key, "response": answer}) + b"\n"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(line: bytes) -> Row:
    return msgspec.json.decode(line, type=Row)


def plain(requests: Path, results: Path, out: Path) -> None:
    """As it is written in an afternoon: all rows in one dictionary."""
    with results.open() as file:
        rows = {json.loads(line)["key"]: line for line in file}
    with requests.open() as file, out.open("w") as target:
        for line in file:
            target.write(rows[json.loads(line)["key"]])


def polars_json(requests: Path, results: Path, out: Path) -> None:
    import polars

    keys = polars.scan_ndjson(requests).select("key")
    joined = keys.join(polars.scan_ndjson(results), on="key", how="left", maintain_order="left")
    joined.sink_ndjson(out, engine="streaming")


def polars_text(requests: Path, results: Path, out: Path) -> None:
    import polars

    def lines(path: Path) -> polars.LazyFrame:
        text = polars.scan_csv(
            path, has_header=False, separator="\x01", quote_char=None, schema={"line": polars.String()}
        )
        return text.with_columns(key=polars.col("line").str.extract(r'^\{"key": ?"([^"]*)"'))

    keys = lines(requests).select("key")
    joined = keys.join(lines(results), on="key", how="left", maintain_order="left").select("line")
    joined.sink_csv(out, include_header=False, quote_style="never", separator="\x01", engine="streaming")


def duckdb_json(requests: Path, results: Path, out: Path) -> None:
    _duckdb(
        # The file names are our own.
        f"""copy (
            select answer.key, answer.response
            from (select row_number() over () as place, key from read_json('{requests}', format='newline_delimited',
                  columns={{key: 'VARCHAR'}})) as request
            join read_json('{results}', format='newline_delimited',
                 columns={{key: 'VARCHAR', response: 'JSON'}}) as answer using (key)
            order by place) to '{out}' (format json)""",  # noqa: S608
        out,
    )


def duckdb_text(requests: Path, results: Path, out: Path) -> None:
    def lines(path: Path) -> str:
        return (
            f"read_csv('{path}', header=false, delim='\\x01', quote='', escape='', auto_detect=false, "
            "max_line_size=20000000, columns={line: 'VARCHAR'})"
        )

    key = 'regexp_extract(line, \'^\\{"key": ?"([^"]*)"\', 1) as key'
    _duckdb(
        # The file names are our own.
        f"""copy (
            select answer.line
            from (select row_number() over () as place, {key} from {lines(requests)}) as request
            join (select line, {key} from {lines(results)}) as answer using (key)
            order by place) to '{out}' (format csv, header false, delim '\\x01', quote '', escape '')""",  # noqa: S608
        out,
    )


def _duckdb(query: str, out: Path) -> None:
    import duckdb

    base = duckdb.connect()
    base.execute(f"set memory_limit = '4GB'; set temp_directory = '{out.parent / 'duckdb'}'")
    base.execute(query)


RIVALS: dict[str, Callable[[Path, Path, Path], None]] = {
    "polars, json": polars_json,
    "polars, text": polars_text,
    "duckdb, json": duckdb_json,
    "duckdb, text": duckdb_text,
    "plain json": plain,
}


def rivals(data: Data, results: Path, order: str, names: list[str]) -> Iterator[Rival]:
    """Ours first; each finds no output standing, and what it wrote is checked."""
    ours = [sys.executable, "-m", "packtrain", "merge", "--out", str(data.out)]
    ours += ["--requests", str(data.requests), "--results", str(results)]
    for name in names:
        files = [str(data.requests), str(results), str(data.out)]
        yield Rival(
            name=name + order,
            command=ours if name == OURS else [sys.executable, __file__, "--as", name, "--files", *files],
            prepare=lambda: data.out.unlink(missing_ok=True),
            check=data.check,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000, help="of requests; results are a tenth more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rivals", nargs="*", choices=[*RIVALS], default=[*RIVALS])
    parser.add_argument("--directory", type=Path, help="where the files are made, a temporary directory if not given")
    parser.add_argument("--as", dest="rival", help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=3, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.rival:
        RIVALS[chosen.rival](*chosen.files)
        return
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        data = Data(Path(name))
        data.write(chosen.megabytes, chosen.seed)
        for order, results in (("", data.ordered), (", shuffled", data.shuffled)):
            size = data.requests.stat().st_size + results.stat().st_size
            field = [*rivals(data, results, order, [OURS, *chosen.rivals])]
            found = compete("merge", field, size=size, rounds=chosen.rounds, directory=data.out.parent)
            print(f"\n{table(found, against=OURS + order)}\n")


if __name__ == "__main__":
    main()
