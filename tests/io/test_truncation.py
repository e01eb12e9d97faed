"""Results that are cut, wherever, never pass for whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.io.truncation import Bench
from tests.seeds import seeded

if TYPE_CHECKING:
    from pathlib import Path


def test_69_a_cut_of_10000_lines_is_noticed_by_its_length(tmp_path: Path) -> None:
    """At every 97th byte; the bytes that came are kept for the next try."""
    bench = Bench(tmp_path, 10_000)
    cuts = bench.cuts(97)
    assert len(cuts) > 10_000
    assert bench.unnoticed(cuts, length=True) == []


def test_69_a_cut_without_a_length_is_noticed_by_its_keys(tmp_path: Path) -> None:
    """At every 97th byte of a smaller file, the ends of lines among them."""
    bench = Bench(tmp_path, 100)
    line_ends = [at + 1 for at, byte in enumerate(bench.whole[:-1]) if byte == ord("\n")]
    cuts = sorted({*bench.cuts(97), *line_ends, *(end - 1 for end in line_ends)}, reverse=True)
    assert bench.unnoticed(cuts, length=False) == []


def test_69_a_cut_of_10000_lines_without_a_length_is_noticed_too(tmp_path: Path) -> None:
    """At places of the seed's choice; all of them are the long form's."""
    bench = Bench(tmp_path, 10_000)
    cuts = sorted(seeded("cuts").sample(bench.cuts(97), 40), reverse=True)
    assert bench.unnoticed(cuts, length=False) == []


@pytest.mark.parametrize("length", [True, False])
def test_whole_results_pass(tmp_path: Path, length: bool) -> None:
    """Or the tests above would prove nothing."""
    bench = Bench(tmp_path, 300)
    assert bench.unnoticed([len(bench.whole)], length=length) == [len(bench.whole)]


def test_the_last_newline_alone_may_be_missing(tmp_path: Path) -> None:
    """A service need not end its last line; nothing is lost by it."""
    bench = Bench(tmp_path, 300)
    assert bench.unnoticed([len(bench.whole) - 1], length=False) == [len(bench.whole) - 1]
    assert bench.unnoticed([len(bench.whole) - 1], length=True) == []
