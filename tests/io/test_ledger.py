"""The key ledger: exact, bounded, and the same after any crash."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packtrain._errors import DiskFailed, IntegrityError
from packtrain._io.ledger import Ledger
from packtrain._io.sorted_runs import SortedRun, merged, write_run
from packtrain._rules.keys import digests, digests_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def keys(numbers: range) -> list[bytes]:
    return digests(b"%d" % number for number in numbers)


def fill(ledger: Ledger, shards: range, per_shard: int) -> None:
    for shard in shards:
        block = keys(range(shard * per_shard, (shard + 1) * per_shard))
        assert ledger.repeated(block) == []
        ledger.add(block)
        ledger.seal(shard)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def ledger(directory: Path) -> Iterator[Ledger]:
    opened = Ledger(directory, memory_keys=50)
    opened.restore(0)
    yield opened
    opened.close()


def reopened(directory: Path, shards: int, memory_keys: int = 50) -> Ledger:
    found = Ledger(directory, memory_keys=memory_keys)
    found.restore(shards)
    return found


def test_key_200_001_may_repeat_the_first(directory: Path) -> None:
    """Through spilled runs, merged runs and a filter that grew, and again after a restart."""
    ledger = Ledger(directory, memory_keys=6_000)
    ledger.restore(0)
    shards, per_shard, block = 20, 10_000, 2_000
    for start in range(0, shards * per_shard, block):
        fresh = keys(range(start, start + block))
        assert ledger.repeated(fresh) == []
        ledger.add(fresh)
        if (start + block) % per_shard == 0:
            ledger.seal(start // per_shard)
    assert ledger.repeated(keys(range(200_000, 200_001)) + keys(range(1))) == [1]
    assert ledger.repeated(keys(range(0, 200_000, 997))) == list(range(201))
    ledger.close()
    again = reopened(directory, shards, memory_keys=6_000)
    assert again.repeated(keys(range(199_990, 200_010))) == list(range(10))
    again.close()


def test_the_first_of_equal_keys_in_a_block_wins(ledger: Ledger) -> None:
    """The others are the repeats, and asking changes nothing."""
    a, b = keys(range(2))
    assert ledger.repeated([a, b, a, a]) == [2, 3]
    assert ledger.repeated([a, b]) == []
    ledger.add([a])
    assert ledger.repeated([b, a, b]) == [1, 2]


def test_keys_behind_a_cut_belong_to_the_next_shard(ledger: Ledger, directory: Path) -> None:
    """After a restart they are new, since their lines are read again."""
    block = keys(range(10))
    ledger.add(block[:6])
    ledger.seal(0)
    ledger.add(block[6:])
    assert ledger.repeated(block) == list(range(10))
    again = reopened(directory, 1)
    assert again.repeated(block) == list(range(6))
    again.close()


def test_an_unsealed_shard_is_forgotten(ledger: Ledger, directory: Path) -> None:
    """Also where its keys went to disk, and where its run was written but never committed."""
    fill(ledger, range(2), 10)
    ledger.add(keys(range(100, 300)))
    assert list(directory.glob("open-*"))
    ledger.seal(2)
    again = reopened(directory, 2)
    assert again.repeated(keys(range(0, 300, 10))) == [0, 1]
    assert sorted(path.name for path in directory.iterdir()) == ["00000-00000.run", "00001-00001.run"]
    again.close()


@pytest.mark.parametrize("shards", [1, 8, 9, 17, 65, 74])
def test_a_run_is_restored_at_any_number_of_shards(ledger: Ledger, directory: Path, shards: int) -> None:
    """However its runs were merged by then; the shard after the last commit may have been written already."""
    fill(ledger, range(shards + 1), 5)
    again = reopened(directory, shards)
    assert again.repeated(keys(range(shards * 5 + 5))) == list(range(shards * 5))
    fill(again, range(shards, shards + 3), 5)
    assert len(list(directory.iterdir())) < 24
    again.close()


def test_parts_of_a_merge_may_be_left_over(ledger: Ledger, directory: Path) -> None:
    """A crash after the merged run was durable leaves some of its parts; they are deleted."""
    fill(ledger, range(8), 5)
    parts = {path.name: path.read_bytes() for path in directory.iterdir()}
    fill(ledger, range(8, 9), 5)
    assert (directory / "00000-00007.run").exists()
    for name in ("00000-00000.run", "00006-00006.run"):
        (directory / name).write_bytes(parts[name])
    (directory / "00000-00015.run.tmp").write_bytes(b"half")
    again = reopened(directory, 9)
    assert again.repeated(keys(range(46))) == list(range(45))
    assert sorted(path.name for path in directory.iterdir()) == ["00000-00007.run", "00008-00008.run"]
    again.close()


def test_a_missing_run_is_noticed(ledger: Ledger, directory: Path) -> None:
    """A repeat must not pass because its first use is lost."""
    fill(ledger, range(3), 5)
    (directory / "00001-00001.run").unlink()
    with pytest.raises(IntegrityError, match="not complete"):
        reopened(directory, 3)


def test_damage_is_noticed_at_every_byte(ledger: Ledger, directory: Path) -> None:
    """Each flipped bit and each cut is."""
    fill(ledger, range(1), 5)
    path = directory / "00000-00000.run"
    sound = path.read_bytes()
    for at in range(len(sound)):
        for data in (sound[:at], sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :]):
            path.write_bytes(data)
            with pytest.raises(IntegrityError):
                reopened(directory, 1)
    path.write_bytes(sound)
    reopened(directory, 1).close()


def test_files_of_others_stay(directory: Path) -> None:
    """Only runs are tidied up."""
    directory.mkdir()
    (directory / "notes.txt").write_text("mine")
    reopened(directory, 0).close()
    assert (directory / "notes.txt").exists()


def test_a_disk_that_refuses_stops_the_run(ledger: Ledger, directory: Path) -> None:
    """With the disk's error."""
    ledger.add(keys(range(5)))
    directory.rmdir()
    with pytest.raises(DiskFailed, match="No such file"):
        ledger.seal(0)


def test_the_same_keys_give_the_same_files(tmp_path: Path) -> None:
    """Whatever the order they came in and the room they had."""
    found = set()
    for number, memory in enumerate((3, 20, 1000)):
        ledger = reopened(tmp_path / str(number), 0, memory)
        block = keys(range(100))
        for start in range(0, 100, 10):
            ledger.add(block[start : start + 10] if number else block[90 - start : 100 - start])
        ledger.seal(0)
        found.add(hashlib.sha256((tmp_path / str(number) / "00000-00000.run").read_bytes()).hexdigest())
        ledger.close()
    assert len(found) == 1


class _Plain:
    """The same questions put to a set."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.committed: set[bytes] = set()

    def repeated(self, block: list[bytes]) -> list[int]:
        return [at for at, key in enumerate(block) if key in self.known or key in block[:at]]


steps = st.lists(
    st.one_of(
        st.lists(st.integers(0, 60), max_size=12),
        st.sampled_from(["seal", "seal", "crash", "crash before the commit"]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps, memory_keys=st.sampled_from([1, 4, 15, 100]))
def test_it_answers_as_a_set_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[int] | str], memory_keys: int
) -> None:
    """Through blocks, seals and crashes in any order, with memory for any number of keys."""
    directory = tmp_path_factory.mktemp("ledger") / "keys"
    plain, shards = _Plain(), 0
    ledger = reopened(directory, 0, memory_keys)
    for step in steps:
        if isinstance(step, list):
            block = digests(b"%d" % number for number in step)
            repeats = ledger.repeated(block)
            assert repeats == plain.repeated(block)
            fresh = [key for at, key in enumerate(block) if at not in repeats]
            ledger.add(fresh)
            plain.known |= set(fresh)
            continue
        if step != "crash":
            ledger.seal(shards)
        if step == "seal":
            shards += 1
            plain.committed = set(plain.known)
        else:
            ledger.close()
            ledger = reopened(directory, shards, memory_keys)
            plain.known = set(plain.committed)
    ledger.close()


def test_a_run_holds_its_digests_and_no_others(tmp_path: Path) -> None:
    """Across pages, and where first halves are equal across pages."""
    twins = [b"\x80" + bytes(7) + number.to_bytes(8, "big") for number in range(700)]
    chosen = sorted([*keys(range(2000)), *twins[::2]])
    run = write_run(tmp_path / "a.run", [b"".join(chosen)])
    assert all(key in run for key in chosen)
    assert not any(key in run for key in [*keys(range(2000, 4000)), *twins[1::2], bytes(16), b"\xff" * 16])
    assert digests_of(run.between(bytes(16), None)) == chosen
    assert digests_of(run.between(chosen[100], chosen[2100])) == chosen[100:2100]
    assert digests_of(run.between(twins[1], twins[601])) == twins[2:602:2]
    assert digests_of(b"".join(run.pieces())) == chosen
    run.close()


def test_a_run_is_searched_by_whole_digests(tmp_path: Path) -> None:
    """The end of one and the start of the next are no digest, the same bytes in their place are."""
    low, high = b"\x10" + b"\x20" * 15, b"\x30" * 16
    askew = low[8:] + high[:8]
    run = write_run(tmp_path / "a.run", [low + high])
    assert low < askew < high
    assert askew not in run
    run.close()
    run = write_run(tmp_path / "b.run", [low + askew + high])
    assert askew in run
    run.close()


def test_a_merge_of_many_ranges_is_one_sorted_run(tmp_path: Path) -> None:
    """More digests than are sorted at once, and an empty run among them."""
    whole = keys(range(300_000))
    parts = [write_run(tmp_path / f"{part}.run", [b"".join(sorted(whole[part::3]))]) for part in range(3)] + [
        write_run(tmp_path / "empty.run", [])
    ]
    found = b"".join(merged(parts))
    assert digests_of(found) == sorted(whole)
    for part in parts:
        part.close()


def test_a_run_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """Translated, with its name."""
    with pytest.raises(IntegrityError, match=r"nowhere\.run"):
        SortedRun(tmp_path / "nowhere.run")
