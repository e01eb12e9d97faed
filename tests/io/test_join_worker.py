"""The processes that go through files: what they tell is what is there, and never the last word about trouble."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from packtrain._errors import InputError, IntegrityError
from packtrain._io.join import Outputs, join_files
from packtrain._io.join_worker import keys_in_process, parsed_in_process, unique_keys_in_process
from packtrain._io.request_file import RequestFiles
from packtrain._io.result_file import ResultFiles, parse_all
from packtrain._rules.join import OutOfOrder

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, keys: list[str], *, padding: int = 0) -> Path:
    body = b"x" * padding
    path.write_bytes(b"".join(b'{"key":"%b","request":{"t":"%b"}}\n' % (key.encode(), body) for key in keys))
    return path


def children() -> list[int]:
    command = [shutil.which("ps") or "ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(os.getpid())]
    listed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
    return [int(line.split()[0]) for line in listed.splitlines() if "_io.join_worker" in line]


def received(asked: RequestFiles, most: int = 10**6) -> list[str]:
    with unique_keys_in_process(asked, most) as keys:
        return [*itertools.chain.from_iterable(keys)]


def test_it_tells_all_keys_in_order(tmp_path: Path) -> None:
    """Of all files, whatever is in a key."""
    paths = [write(tmp_path / f"in{n}", [f"{n}-ü-{m}" for m in range(3000)]) for n in range(2)]
    asked = RequestFiles((*paths, write(tmp_path / "empty", [])))
    assert received(asked) == [*itertools.chain.from_iterable(asked.keys())]
    assert children() == []


@pytest.mark.parametrize(("keys", "most"), [(["a", "b", "a"], 9), (["a", "b", "c"], 2)])
def test_keys_that_stand_twice_or_are_too_many_end_the_walk(tmp_path: Path, keys: list[str], most: int) -> None:
    """As they do within this process."""
    with pytest.raises(OutOfOrder):
        received(RequestFiles((write(tmp_path / "in", keys),)), most)


def test_a_process_that_dies_ends_the_walk(tmp_path: Path) -> None:
    """Keys that did not come are not taken for none."""
    asked = RequestFiles((write(tmp_path / "in", [f"key-{number}" for number in range(300_000)]),))
    with unique_keys_in_process(asked, 10**6) as keys, pytest.raises(OutOfOrder):
        next(keys)
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        for _ in keys:
            pass
    assert children() == []


def test_keys_that_a_process_does_not_tell_are_read_here(tmp_path: Path) -> None:
    """Those behind one that stands twice, and those that are too many."""
    for keys in (["a", "b", "a", "c"], [f"key-{number}" for number in range(9000)]):
        asked = RequestFiles((write(tmp_path / "in", keys),))
        with keys_in_process(asked, 5000) as received:
            assert [*itertools.chain.from_iterable(received)] == keys


def test_rows_are_found_beside_as_they_are_found_here(tmp_path: Path) -> None:
    """Of all files, and when the process dies on the way; one cut short is an error."""
    odd = b'{"key":"f","error":{}}\n\n{"key":"\xff","response":{}}\ngarbage\n{"response":{},"key":"\xc3\xbc"}\n'
    plain = b"".join(b'{"key":"key-%d","response":{}}\n' % number for number in range(200_000))
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, text in zip(paths, (plain, odd + plain), strict=True):
        path.write_bytes(text)
    with ResultFiles(paths) as results:
        here = [*parse_all(results)]
        with parsed_in_process(results) as received:
            assert [*received] == here
        with parsed_in_process(results) as received:
            first = next(received)
            (pid,) = children()
            os.kill(pid, signal.SIGKILL)
            assert [first, *received] == here
    assert children() == []
    paths[1].write_bytes(plain[:-5])
    with ResultFiles(paths) as results, parsed_in_process(results) as received, pytest.raises(IntegrityError):
        list(received)


def test_large_requests_are_joined_as_small_ones(tmp_path: Path) -> None:
    """In order; out of it; and with a line that has no key, which is received with its place."""
    names = [f"key-{number}" for number in range(70)]
    requests = write(tmp_path / "in", names, padding=2**20)
    outputs = Outputs(tmp_path / "answers", tmp_path / "failed", tmp_path / "unknown")
    rows = [b'{"key":"%b","response":{"t":"%b"}}\n' % (name.encode(), b"x" * 2**20) for name in names]
    for order in (rows, rows[::-1]):
        (tmp_path / "results").write_bytes(b"".join(order))
        join_files([requests], [tmp_path / "results"], outputs)
        assert outputs.answers.read_bytes() == b"".join(rows)
    with requests.open("ab") as file:
        file.write(b'{"request":{}}\n')
    with pytest.raises(InputError, match="in:71: no key"):
        join_files([requests], [tmp_path / "results"], outputs)
