"""Files of one's own at the service: what is sent, and under which name."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import anyio
import pytest

import packtrain
from packtrain.testing.proxy import open_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flow.place import Place

#: Longer than all samples of a file together, and a byte that none of them takes in.
CONTENT, BETWEEN = random.Random(6).randbytes(4_000_000), 200_000


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def alike(place: Place) -> tuple[Path, Path]:
    first, second = place.root / "a.jsonl", place.root / "b.jsonl"
    first.write_bytes(CONTENT)
    second.write_bytes(CONTENT[:BETWEEN] + bytes([CONTENT[BETWEEN] ^ 1]) + CONTENT[BETWEEN + 1 :])
    return first, second


async def test_files_that_differ_only_where_nobody_looks_first_are_two_files(place: Place) -> None:
    """A name is made of samples of the content, before the file is read whole."""
    paths = alike(place)
    files = await packtrain.upload(paths, service=place.service)
    assert [file.sha256 for file in files] == [sha256(path) for path in paths]


async def test_a_file_like_one_that_stands_there_is_sent_under_another_name(place: Place) -> None:
    """And each is found again when it is sent once more."""
    paths = alike(place)
    files = [(await packtrain.upload([path], service=place.service))[0] for path in paths]
    assert [file.sha256 for file in files] == [sha256(path) for path in paths]
    again = [(await packtrain.upload([path], service=place.service))[0] for path in paths]
    assert [file.name for file in again] == [file.name for file in files]
    assert len(place.truth("upload_started")) == 2


async def test_files_of_one_content_are_one_file(place: Place) -> None:
    """However many there are of them."""
    paths = [place.root / name for name in ("a.jsonl", "b.jsonl")]
    for path in paths:
        path.write_bytes(CONTENT)
    first, second = await packtrain.upload(paths, service=place.service)
    assert first == second
    assert len(place.truth("file_finalised")) == 1


async def test_a_file_changed_between_two_attempts_is_sent_as_it_is_now(place: Place) -> None:
    """What the service holds is compared with what was read, and a mixture is deleted."""
    before, after = alike(place)
    path = place.root / "in.jsonl"
    before.rename(path)
    scope = anyio.CancelScope()

    def budget() -> int | None:
        if not proxy.cuts:
            return 2_500_000
        if not scope.cancel_called:
            scope.cancel()
        return None

    async with open_proxy(place.origin, budget=budget) as proxy:
        with scope:
            await packtrain.upload([path], service=place.service_at(proxy.origin))
        after.rename(path)
        (file,) = await packtrain.upload([path], service=place.service_at(proxy.origin))
    assert scope.cancelled_caught
    assert place.truth("file_deleted")
    assert file.sha256 == sha256(path)


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_a_file_of_any_size_arrives(place: Place, size: int) -> None:
    """Down to the empty one, which is one final call without a body."""
    path = place.root / "in.jsonl"
    path.write_bytes(CONTENT[:size])
    (file,) = await packtrain.upload([path], service=place.service)
    assert (file.bytes, file.sha256) == (size, sha256(path))
