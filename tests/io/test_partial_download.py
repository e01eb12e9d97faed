"""A download that takes several tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from packtrain._errors import DiskFailed, ProtocolError, TransportError
from packtrain._io.result_file import PartialDownload
from packtrain._options import KIB

CONTENT = bytes(range(256)) * KIB


def earlier(path: Path, content: bytes) -> None:
    """A try that broke off behind this."""
    part = PartialDownload(path)
    part.begin(0)
    part.write(content)
    part.close()


@pytest.mark.parametrize("where", ["part", "part.sum"])
@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
def test_a_part_that_is_not_what_came_is_fetched_again(tmp_path: Path, where: str, how: str) -> None:
    """All of it, since only its end would be compared."""
    path, content = tmp_path / "part", CONTENT * 2
    earlier(path, content)
    if how == "gone":
        (tmp_path / where).unlink()
    else:
        kept = (tmp_path / where).read_bytes()
        (tmp_path / where).write_bytes(bytes([kept[0] ^ 1]) + kept[1:] if how == "bit" else kept[: len(kept) // 2])
    part = PartialDownload(path)
    assert part.offset == 0
    part.begin(0)
    part.write(content)
    part.finish(len(content))
    part.close()
    assert path.read_bytes() == content


def test_a_part_longer_than_its_digest_is_cut_to_it(tmp_path: Path) -> None:
    """As a kill leaves it, which comes between two digests."""
    path = tmp_path / "part"
    earlier(path, CONTENT[: 200 * KIB])
    with path.open("ab") as file:
        file.write(b"more")
    part = PartialDownload(path)
    assert part.offset == 136 * KIB
    part.close()
    assert path.stat().st_size == 200 * KIB


@pytest.mark.parametrize("cut", [0, 1, 64 * KIB, 64 * KIB + 1, 200 * KIB, len(CONTENT)])
def test_a_part_goes_on_a_little_before_its_end(tmp_path: Path, cut: int) -> None:
    """The seam is fetched twice and compared."""
    path = tmp_path / "part"
    earlier(path, CONTENT[:cut])
    part = PartialDownload(path)
    assert part.offset == max(0, cut - 64 * KIB)
    part.begin(part.offset)
    for at in range(part.offset, len(CONTENT), 10_000):
        part.write(CONTENT[at : at + 10_000])
    part.finish(len(CONTENT))
    part.close()
    assert path.read_bytes() == CONTENT


def test_a_service_that_ignores_the_range_is_read_from_the_start(tmp_path: Path) -> None:
    """What is here already is compared and kept."""
    path = tmp_path / "part"
    earlier(path, CONTENT[: 100 * KIB])
    part = PartialDownload(path)
    part.begin(0)
    part.write(CONTENT)
    part.finish(None)
    part.close()
    assert path.read_bytes() == CONTENT


def test_other_bytes_at_the_seam_throw_the_part_away(tmp_path: Path) -> None:
    """The file changed between two tries; the next one starts over."""
    path = tmp_path / "part"
    earlier(path, CONTENT[: 100 * KIB])
    part = PartialDownload(path)
    part.begin(part.offset)
    with pytest.raises(TransportError, match="starting over"):
        part.write(b"something else entirely")
    part.close()
    assert path.stat().st_size == 0


def test_fewer_bytes_than_announced_are_an_error_and_are_kept(tmp_path: Path) -> None:
    """The next try goes on behind them."""
    path = tmp_path / "part"
    part = PartialDownload(path)
    part.begin(0)
    part.write(CONTENT[:1000])
    with pytest.raises(TransportError, match="1000 of 2000 bytes"):
        part.finish(2000)
    part.close()
    assert path.read_bytes() == CONTENT[:1000]


def test_a_longer_earlier_try_is_cut_to_what_the_service_has(tmp_path: Path) -> None:
    """Bytes behind the end of the file are not of it."""
    path = tmp_path / "part"
    path.write_bytes(CONTENT[: 2 * KIB])
    part = PartialDownload(path)
    part.begin(0)
    part.write(CONTENT[:KIB])
    part.finish(KIB)
    part.close()
    assert path.read_bytes() == CONTENT[:KIB]


def test_a_start_beyond_what_is_here_would_leave_a_hole(tmp_path: Path) -> None:
    """And is refused."""
    part = PartialDownload(tmp_path / "part")
    with pytest.raises(ProtocolError, match="beyond"):
        part.begin(1)
    part.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
def test_a_disk_that_refuses_to_cut_a_part_is_a_disk_error() -> None:
    """The run can be started again; it is no defect."""
    part = PartialDownload(Path("/dev/full"))
    with pytest.raises(DiskFailed, match="Invalid argument"):
        part.discard()
    part.close()
