"""What a generation leaves of rows that are no plain answers: who is asked again, and what stays."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec

from packtrain import Tally, Verdict
from packtrain._io.generation_files import GenerationRequests, account
from packtrain._io.spool import GenerationFiles
from packtrain._wire.gemini.lines import LINES

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

NO_ROW = "the service returned no row for this key"
FULL = b'{"key":"%b","response":{"embedding":{"values":[1]}}}\n'
EMPTY = b'{"key":"%b","response":{"candidates":[]}}\n'
ERROR = b'{"key":"%b","error":{"code":13,"message":"broke"}}\n'
NAN = b'{"key":"%b","response":NaN}\n'


class Generations:
    """One shard through its generations, each asked for what the one before picked."""

    def __init__(self, root: Path, keys: str) -> None:
        self.root = root
        self.keys = keys
        self.number = -1
        self.tally = Tally()
        self.asked = root / "shard"
        self.asked.write_bytes(b"".join(b'{"key":"%b","request":{}}\n' % key.encode() for key in keys))
        self.parent: GenerationFiles | None = None

    def land(self, rows: list[bytes], again: Collection[Verdict] = (), *, last: bool = False) -> str:
        """The keys that the next generation asks."""
        self.number += 1
        results, child = self.root / f"results{self.number}", self.root / f"child{self.number}"
        results.write_bytes(b"".join(rows))
        asked = GenerationRequests(
            requests=self.asked,
            lines=len(self.asked.read_bytes().splitlines()),
            results=(results,),
            first=0,
            absent=(NO_ROW, True),
            parent=self.parent,
            parent_tally=self.tally,
            shape=LINES,
            places=(self.root / "places", self.root / "sources"),
            again=frozenset(again),
        )
        names = ("answers", "failed", "unknown", "requests")
        kept = GenerationFiles(*(self.root / f"{name}{self.number}" for name in names))
        self.tally, picked = account(asked, kept.drafts, None if last else child, with_request=False, window=100)
        for draft, final in zip(kept.drafts.all, kept.all, strict=True):
            draft.rename(final)
        self.parent, self.asked = kept, child
        assert self.tally.answered + self.tally.failed == len(self.keys)
        assert self.tally.answered == len(kept.answers.read_bytes().splitlines())
        assert self.tally.again == (picked.lines if picked else 0)
        return "".join(json.loads(line)["key"] for line in child.read_bytes().splitlines()) if picked else ""

    def answers(self) -> list[bytes]:
        assert self.parent is not None
        return self.parent.answers.read_bytes().splitlines(keepends=True)

    def failed(self) -> list[dict[str, Any]]:
        assert self.parent is not None
        return [json.loads(line) for line in self.parent.failed.read_bytes().splitlines()]


def test_a_row_that_is_no_json_is_not_asked_again_by_itself(tmp_path: Path) -> None:
    """A6: its bytes are in the list, and an error beside it is asked again."""
    run = Generations(tmp_path, "abc")
    assert run.land([NAN % b"a", ERROR % b"b", FULL % b"c"]) == "b"
    assert run.land([FULL % b"b"]) == ""
    (failed,) = run.failed()
    assert (failed["class"], failed["retryable"], failed["asked"]) == ("not-json", False, 1)
    assert base64.b64decode(failed["row_base64"]) + b"\n" == NAN % b"a"
    assert (run.tally.not_json, run.tally.repeated) == (1, 0)


def test_on_request_it_is_asked_again_and_its_bytes_stay_until_an_answer_comes(tmp_path: Path) -> None:
    """An error that comes back is no reason to forget what was paid for."""
    run = Generations(tmp_path, "ab")
    again = {Verdict.NOT_JSON}
    assert run.land([NAN % b"a", FULL % b"b"], again) == "a"
    assert run.land([ERROR % b"a"], again) == "a"
    (failed,) = run.failed()
    assert (failed["class"], failed["asked"]) == ("not-json", 2)
    assert "row_base64" in failed
    assert run.land([FULL % b"a"], again, last=True) == ""
    assert run.answers() == [FULL % b"a", FULL % b"b"]
    assert (run.tally.failed, run.tally.not_json, run.tally.repeated) == (0, 0, 2)


def test_a_key_without_a_row_is_not_asked_again_when_rows_came_that_belong_to_no_request(tmp_path: Path) -> None:
    """One of them may be its own, and paid for."""
    run = Generations(tmp_path, "abc")
    assert run.land([b'{"kex":"a","response":{}}\n', FULL % b"b", ERROR % b"c"]) == "c"
    failed = next(failed for failed in run.failed() if failed["key"] == "a")
    assert failed["reason"] == f"{NO_ROW}; 1 row of the results belongs to no request"
    assert failed["retryable"] is False


def test_a_key_without_a_row_is_asked_again_when_all_rows_have_their_requests(tmp_path: Path) -> None:
    """As ever."""
    run = Generations(tmp_path, "ab")
    assert run.land([FULL % b"b", FULL % b"b", b"\n"]) == "a"


def test_classes_are_asked_again_on_request_alone_and_the_earlier_answer_stays_without_a_better_one(
    tmp_path: Path,
) -> None:
    """Four keys that were answered with nothing: a better answer, none, an error, nothing again."""
    rows = [EMPTY % key for key in (b"a", b"b", b"c", b"d")]
    run = Generations(tmp_path, "abcd")
    assert run.land(rows) == ""
    assert (run.answers(), run.tally.empty) == (rows, 4)
    (tmp_path / "again").mkdir()
    run = Generations(tmp_path / "again", "abcd")
    assert run.land(rows, {Verdict.EMPTY}) == "abcd"
    assert (run.tally.answered, run.tally.failed, run.tally.empty) == (0, 4, 0)
    assert run.land([FULL % b"a", ERROR % b"c", EMPTY % b"d"], {Verdict.EMPTY}, last=True) == ""
    assert run.answers() == [FULL % b"a", *rows[1:]]
    assert (run.tally.answered, run.tally.failed, run.tally.empty, run.tally.repeated) == (4, 0, 3, 4)


def test_an_error_that_our_parser_refuses_is_an_error_all_the_same(tmp_path: Path) -> None:
    """Half a surrogate pair in its message, or thousands of levels: the row is kept as it came."""
    half = b'{"key":"a","error":{"code":13,"message":"\\ud83d"}}'
    deep = b'{"key":"b","error":{"details":%b}}' % (b"[" * 3000 + b"]" * 3000)
    run = Generations(tmp_path, "ab")
    assert run.land([half + b"\n", deep + b"\n"]) == "a"
    assert run.land([FULL % b"a"]) == ""
    (failed,) = run.failed()
    assert (failed["key"], failed["retryable"]) == ("b", False)
    assert base64.b64decode(failed["row_base64"]) == deep


def test_other_classes_are_not_asked_again(tmp_path: Path) -> None:
    """``blocked`` does not ask for what is empty."""
    assert Generations(tmp_path, "a").land([EMPTY % b"a"], {Verdict.BLOCKED}) == ""


def test_an_answer_that_waits_for_a_better_one_stays_when_its_job_leaves_nothing(tmp_path: Path) -> None:
    """A person drops the second job."""
    run = Generations(tmp_path, "a")
    run.land([EMPTY % b"a"], {Verdict.EMPTY})
    run.land([], {Verdict.EMPTY}, last=True)
    assert run.answers() == [EMPTY % b"a"]


def test_lists_of_the_release_before_are_read(tmp_path: Path) -> None:
    """Their lines have no class and no row."""
    run = Generations(tmp_path, "a")
    run.land([ERROR % b"a"])
    assert run.parent is not None
    error = {"code": 13, "message": "broke"}
    old = {"key": "a", "reason": "broke (code 13)", "ordinal": 0, "asked": 1, "retryable": True, "error": error}
    assert json.loads(run.parent.failed.read_bytes()) == old | {"request": {}}
    run.parent.failed.write_bytes(msgspec.json.encode(old) + b"\n")
    run.land([FULL % b"a"])
    assert run.answers() == [FULL % b"a"]
