"""The join against a naive one: rows in order and out of it, missing, repeated, of nobody, broken."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from packtrain._errors import InputError
from packtrain._io.join import Outputs, join_files
from packtrain._model import Tally
from tests.seeds import seeded, short

if TYPE_CHECKING:
    from pathlib import Path


class Row(NamedTuple):
    """A line of results, with what it says."""

    line: bytes
    key: str | None
    answered: bool = False


def request(key: str, draw: random.Random) -> bytes:
    """In one of the spellings that tools use."""
    name = json.dumps(key, ensure_ascii=draw.random() < 0.5)
    form = draw.choice(['{"key":%s,"request":{}}', '{"key": %s, "request": {"n": 1}}', '{"request":{}, "key":%s }'])
    return (form % name).encode() + b"\n"


def answer(key: str, draw: random.Random) -> Row:
    """Now and then so long that few rows, or only one, are looked at together."""
    name = json.dumps(key, ensure_ascii=draw.random() < 0.5)
    text = draw.choice(
        ["yes", "ü", "one\u2028two", "\\u00e9", 'say \\"key\\":'] * 5 + ["long " * draw.randrange(20_000)]
    )
    forms = [
        '{"key":%s,"response":{"t":"%s"}}',
        '{"response": {"t":"%s"}, "key": %s}',
        '{"error":null,"key":%s,"response":"%s"}',
    ]
    form = draw.choice(forms[:1] * 8 + forms)
    line = form % ((text, name) if form is forms[1] else (name, text))
    return Row(line.encode() + b"\n", key, answered=True)


def failure(key: str, draw: random.Random) -> Row:
    """An error, or a row with nothing in it."""
    body = draw.choice([b'"error":{"code":13}', b'"response":null', b'"x":1', b'"response":{},"error":{"code":1}'])
    return Row(b'{"key":%b,%b}\n' % (json.dumps(key).encode(), body), key)


def disturb(rows: list[Row], keys: list[str], draw: random.Random) -> list[Row]:
    """What may happen to results, in a strength of the seed's choice."""
    strength = draw.choice([0, 0.02, 0.2])
    told = []
    for row in rows:
        dice = draw.random() / strength if strength else 9
        told += [] if dice < 0.2 else [failure(row.key or "", draw)] if dice < 0.5 else [row]
        if dice < 1:
            name = draw.choice(keys)
            junk = [
                b"garbage\n",
                b"\n",
                b" \r\n",
                b'{"key":"\xff","response":{}}\n',
                b'{"response":{}}\n',
                b'{"key":1}\n',
            ]
            line = draw.choice(junk)
            told.append(draw.choice([answer(name, draw), failure(name, draw), answer("?", draw), Row(line, None)]))
    if draw.random() < 0.4:
        width = draw.choice([2, 10, len(told) + 1])
        told = [row for _, row in sorted(enumerate(told), key=lambda item: item[0] + draw.random() * width)]
    return told[draw.choice([0] * 5 + [len(told) // 2]) :]


def naive(keys: list[str], rows: list[Row], window: int) -> tuple[bytes, list[str], bytes, Tally]:
    """Answers, failed keys, rows of nobody, and the counts; each window of keys looks at all rows."""
    answers, failed, missing, duplicates = [], [], 0, 0
    for start in range(0, len(keys), window):
        some = keys[start : start + window]
        found = {key: [row for row in rows if row.key == key] for key in some}
        duplicates += sum(max(len(same) - 1, 0) for same in found.values())
        for key in some:
            good = [row for row in found[key] if row.answered]
            answers += good[:1]
            failed += [] if good else [key]
            missing += not found[key]
    rest = [row for row in rows if row.key not in keys and not row.line.isspace()]
    told, unknown = (b"".join(row.line for row in some) for some in (answers, rest))
    tally = Tally(
        answered=len(answers),
        failed=len(failed),
        missing=missing,
        duplicates=duplicates,
        unknown=len(rest),
        bytes=len(told),
    )
    return told, failed, unknown, tally


class Joins:
    """Files of joins, one after the other."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def join(self, keys: list[str], rows: list[Row], *, validated: bool) -> bytes:
        """The answers alone; for results of which they are known."""
        outputs = Outputs(self._root / "answers", self._root / "failed", self._root / "unknown")
        requests, results = self._root / "in", self._root / "results"
        requests.write_bytes(b"".join(b'{"key":"%b","request":{}}\n' % key.encode() for key in keys))
        results.write_bytes(b"".join(row.line for row in rows))
        join_files([requests], [results], outputs, validated=validated)
        return outputs.answers.read_bytes()

    def check(self, keys: list[str], rows: list[Row], draw: random.Random, *, window: int, validated: bool) -> None:
        """Join, over files cut anywhere between two lines, and compare with the naive way."""
        outputs = Outputs(self._root / "answers", self._root / "failed", self._root / "unknown")
        requests = self._files("in", [request(key, draw) for key in keys], draw)
        results = self._files("results", [row.line for row in rows], draw)
        tally = join_files(requests, results, outputs, window=window, validated=validated)
        failed = [json.loads(line)["key"] for line in outputs.failed.read_bytes().splitlines()]
        found = (outputs.answers.read_bytes(), failed, outputs.unknown.read_bytes(), tally)
        assert found == naive(keys, rows, window)

    def _files(self, name: str, lines: list[bytes], draw: random.Random) -> list[Path]:
        cut = draw.randrange(len(lines) + 1) if draw.random() < 0.3 else 0
        paths = [self._root / f"{name}{number}" for number in range(2)]
        paths[0].write_bytes(b"".join(lines[:cut]))
        paths[1].write_bytes(b"".join(lines[cut:]))
        return paths


@pytest.fixture
def joins(tmp_path: Path) -> Joins:
    return Joins(tmp_path)


@pytest.mark.parametrize("validated", [True, False])
def test_whatever_happens_to_the_rows_the_join_is_the_naive_one(joins: Joins, validated: bool) -> None:
    """Over runs in order with all kinds of trouble in them, in windows of all sizes."""
    draw = seeded("rows")
    for _ in range(short(100, 250)):
        keys = [draw.choice(["k%d", "ü%d", 'q"%d']) % number for number in range(draw.randrange(1, 120))]
        rows = disturb([answer(key, draw) for key in keys], keys, draw)
        joins.check(keys, rows, draw, window=draw.choice([1, 7, 50, 1000]), validated=validated)


def test_a_key_that_is_asked_twice_gets_one_row_both_times(joins: Joins) -> None:
    """The first answer, however many there are and however they stand; only a sealed shard has each key once."""
    draw = seeded("repeated")
    for _ in range(short(40, 100)):
        keys = [f"k{draw.randrange(40)}" for _ in range(30)]
        rows = disturb([answer(key, draw) for key in keys], keys, draw)
        joins.check(keys, rows, draw, window=draw.choice([7, 1000]), validated=False)


def test_a_repeated_key_behind_the_last_row_counts(joins: Joins) -> None:
    """Though no row is left to walk with."""
    draw = random.Random(1)
    joins.check(["a", "b", "a"], [answer("a", draw), answer("b", draw)], draw, window=9, validated=False)


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("order", ["shuffled", "reversed", "halves", "blocks", "errors", "blanks"])
def test_the_order_may_break_far_from_where_a_walk_would_look(joins: Joins, order: str, validated: bool) -> None:
    """More rows than are put aside, and steps longer than are looked ahead."""
    draw = seeded("buckets")
    keys = [f"k{number}" for number in range(5000)]
    rows = [Row(b'{"key":"%b","response":{}}\n' % key.encode(), key, answered=True) for key in keys]
    if order == "errors":
        rows = [Row(b'{"key":"%b","error":{}}\n' % key.encode(), key) for key in keys[:4000]] + rows[4000:]
    orders = {
        "shuffled": lambda: draw.sample(rows, len(rows)),
        "reversed": lambda: rows[::-1],
        "halves": lambda: rows[2500:] + rows[:2500],
        "blocks": lambda: [row for block in range(48, -1, -2) for row in rows[block * 100 : block * 100 + 200]],
        "errors": lambda: rows,
        "blanks": lambda: [told for row in rows for told in (row, Row(b"\n", None))],
    }
    # The naive way would take minutes over so many; here each key has one row, in some place.
    assert joins.join(keys, orders[order](), validated=validated) == b"".join(row.line for row in rows if row.answered)


def test_an_early_answer_wins_over_that_in_its_place(joins: Joins) -> None:
    """A row that stood far before its request is the first of its key."""
    draw = random.Random(1)
    keys = [f"k{number}" for number in range(3000)]
    rows = [answer(keys[2500], draw), *(answer(key, draw) for key in keys)]
    joins.check(keys[2400:2600], [rows[0], *rows[2401:2601]], draw, window=1000, validated=True)
    told = joins.join(keys, rows, validated=True)
    assert told == b"".join(row.line for row in [*rows[1:2501], rows[0], *rows[2502:]])


@pytest.mark.parametrize("trouble", ["none", "late", "failed", "failed at first", "in its place too", "asked twice"])
def test_answers_written_while_rows_are_walked_by_stand_where_they_belong(joins: Joins, trouble: str) -> None:
    """Even when an answer that belongs between them comes last, and when the order proves to be none."""
    draw = random.Random(1)
    keys = [f"k{number}" for number in range(300)]
    rows = [Row(b'{"key":"%b","response":"%b"}\n' % (key.encode(), b"x" * 100_000), key, answered=True) for key in keys]
    rest = [*rows[:3], *rows[4:]]
    told = {
        "late": [*rest, rows[3]],
        "failed": [*rows[:3], failure("k3", draw), *rows[4:]],
        "failed at first": [*rows[:200], failure("k200", draw), *rows[201:], rows[200]],
        "in its place too": [answer("k250", draw), *rows],
    }
    asked = [*keys, "k5"] if trouble == "asked twice" else keys
    joins.check(asked, told.get(trouble, rows), draw, window=1000, validated=trouble != "asked twice")


def test_rows_are_of_nobody_when_nothing_was_asked(joins: Joins) -> None:
    """However many there are."""
    draw = random.Random(1)
    joins.check([], [answer(f"k{number}", draw) for number in range(3000)], draw, window=1000, validated=False)


def test_a_request_without_a_key_is_found_behind_the_last_row(joins: Joins, tmp_path: Path) -> None:
    """With its file and line, whoever validated it before."""
    path = tmp_path / "in"
    path.write_bytes(b'{"key":"a","request":{}}\n\n{"key":"\xff","request":{}}\n')
    outputs = Outputs(tmp_path / "answers", tmp_path / "failed", tmp_path / "unknown")
    for validated in (True, False):
        with pytest.raises(InputError, match=r"in:3: no key"):
            join_files([path], [], outputs, validated=validated)
