"""Places of valid lines: which line of which source each ordinal is."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from packtrain._io.places import Place, Places, PlacesFile, write_names
from packtrain._rules.framing import RawBlock
from packtrain._rules.validate import Block, numbered, scan

LINES = (b'{"key":"a","request":{}}\n', b"{\n", b"\n")
#: For each source its blocks, for each block its lines: valid, rejected, blank.
sources = st.lists(st.lists(st.lists(st.sampled_from(LINES), max_size=8), max_size=4), min_size=1, max_size=3)


class Step(NamedTuple):
    """A block, and where it stands."""

    block: Block
    source: int
    ordinal: int


def steps(content: list[list[list[bytes]]]) -> tuple[list[Step], list[Place]]:
    """The blocks of the sources, and the place of each ordinal, counted the slow way."""
    found: list[Step] = []
    places: list[Place] = []
    for source, blocks in enumerate(content):
        number = 0
        for lines in blocks:
            block = numbered(scan(RawBlock(b"".join(lines), 0, 0), source=""), number)
            found.append(Step(block, source, len(places)))
            for line in lines:
                number += 1
                if line == LINES[0]:
                    places.append(Place(f"s{source}", number))
    return found, places


async def note(path: Path, found: list[Step], length: int = 0) -> list[int]:
    """Note the blocks; returns the length of the file at the end of each."""
    file = PlacesFile(path, length)
    lengths = []
    for step in found:
        await file.add(step.block, step.source, step.ordinal)
        lengths.append(file.length(step.ordinal + len(step.block.ends)))
    await file.sync()
    await file.close()
    return lengths


@settings(max_examples=100, deadline=None)
@given(sources, st.integers(0, 12), st.booleans())
def test_every_ordinal_has_the_place_that_it_came_from(
    content: list[list[list[bytes]]], cut: int, from_the_start: bool
) -> None:
    """Also when the file is cut at the end of a shard, and the blocks from there on are taken again, or all of them."""
    found, places = steps(content)
    with TemporaryDirectory() as directory:
        path, names = Path(directory, "places"), Path(directory, "sources")
        write_names(names, [f"s{source}" for source in range(len(content))])
        lengths = anyio.run(note, path, found)
        cut = min(cut, len(found))
        anyio.run(note, path, found if from_the_start else found[cut:], lengths[cut - 1] if cut else 0)
        with Places(path, names) as reader:
            assert [reader.find(ordinal) for ordinal in range(len(places))] == places
            assert [reader.find(ordinal) for ordinal in reversed(range(len(places)))] == places[::-1]
        assert path.stat().st_size <= 20 * (len(places) + 1)


def test_lines_without_gaps_take_one_record(tmp_path: Path) -> None:
    """However many there are: an input without a bad line costs nothing."""
    found, _ = steps([[[LINES[0]] * 5] * 20])
    anyio.run(note, tmp_path / "places", found)
    assert (tmp_path / "places").stat().st_size == 20


def test_what_was_not_noted_is_not_known(tmp_path: Path) -> None:
    """An earlier version has cut the first lines; or it has left nothing at all."""
    with Places(tmp_path / "places", tmp_path / "sources") as reader:
        assert reader.find(0) is None
    write_names(tmp_path / "sources", ["caf\udce9"])
    anyio.run(note, tmp_path / "places", [Step(steps([[[LINES[0]] * 5]])[0][0].block, 0, 7)])
    with Places(tmp_path / "places", tmp_path / "sources") as reader:
        assert (reader.find(6), reader.find(8)) == (None, Place("caf\\xe9", 2))


def test_what_lies_behind_a_cut_is_forgotten(tmp_path: Path) -> None:
    """A stream may go on in another way behind its last sealed line."""
    before, after = (steps([[lines]])[0] for lines in ([LINES[0], LINES[1], LINES[0]], [LINES[0]] * 2))

    async def note_twice() -> None:
        file = PlacesFile(tmp_path / "places", 0)
        await file.add(before[0].block, 0, 0)
        length = file.length(1)
        await file.close()
        await note(tmp_path / "places", after, length)

    anyio.run(note_twice)
    write_names(tmp_path / "sources", ["s"])
    with Places(tmp_path / "places", tmp_path / "sources") as reader:
        assert reader.find(1) == Place("s", 2)
