"""Files and streams as blocks of bytes."""

from __future__ import annotations

import errno
import gc
import gzip
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from packtrain._errors import InputError
from packtrain._io.input_directory import LeftOut
from packtrain._io.sources import STDIN, FileSource, StreamSource, expand, open_source

pytestmark = pytest.mark.both_loops

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from packtrain._io.storage import Source

LINES = b"".join(b'{"key":"%d","request":{}}\n' % number for number in range(20_000))
PACKED = {"a.jsonl": LINES, "a.jsonl.gz": gzip.compress(LINES), "a.jsonl.zst": zstd.compress(LINES)}


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A directory with all kinds of names."""
    for name in ("b.jsonl", "a.jsonl.gz", "c.ndjson", "d.ndjson.zst", "notes.txt", "e.jsonl.bak"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub.jsonl").mkdir()
    (tmp_path / "sub.jsonl" / "deeper.jsonl").write_bytes(b"x")
    return tmp_path


def test_a_directory_stands_for_its_input_files_by_path(inputs: Path) -> None:
    """B6: at any depth, by ending, sorted; hidden ones and the state of runs are left out, and all that is counted."""
    for name in (".hidden.jsonl", "._a.jsonl", ".git/x.jsonl", "deep/er/f.jsonl", "run.packtrain/shards/t/0.jsonl"):
        (inputs / name).parent.mkdir(parents=True, exist_ok=True)
        (inputs / name).write_bytes(b"x")
    (inputs / "run.packtrain" / "manifest.db").write_bytes(b"x")
    (inputs / "link").symlink_to(inputs / "deep")
    left_out = LeftOut()
    found = [str(path.relative_to(inputs)) for path in expand([inputs], left_out=left_out)]
    assert found == [
        "a.jsonl.gz",
        "b.jsonl",
        "c.ndjson",
        "d.ndjson.zst",
        "deep/er/f.jsonl",
        "sub.jsonl/deeper.jsonl",
    ]
    assert dict(left_out.counts) == {
        "hidden file": 2,
        "hidden or linked subdirectory": 2,
        "file with another ending": 2,
        "state directory of a run": 1,
    }
    assert str(left_out) == (
        "2 files with another ending, 2 hidden files, 2 hidden or linked subdirectories, 1 state directory of a run"
    )


def test_a_directory_of_an_earlier_version_stands_for_the_files_right_in_it(inputs: Path) -> None:
    """Hidden ones as well: a run that was started so goes on."""
    (inputs / ".hidden.jsonl").write_bytes(b"x")
    found = names(expand([inputs], flat=True))
    assert found == [".hidden.jsonl", "a.jsonl.gz", "b.jsonl", "c.ndjson", "d.ndjson.zst"]


def test_a_glob_stands_for_its_files_by_name(inputs: Path) -> None:
    """Of any ending, but no directories; ** goes down."""
    assert names(expand([f"{inputs}/*.jsonl*"])) == ["a.jsonl.gz", "b.jsonl", "e.jsonl.bak"]
    assert names(expand([f"{inputs}/**/*.jsonl"])) == ["b.jsonl", "deeper.jsonl"]


def test_files_come_in_the_order_given(inputs: Path) -> None:
    """Order is part of the output; any name will do."""
    assert names(expand([inputs / "c.ndjson", "-", str(inputs / "notes.txt")])) == ["c.ndjson", "-", "notes.txt"]


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    """A file of that name wins over the glob."""
    for name in ("[ab].jsonl", "a.jsonl"):
        (tmp_path / name).write_bytes(b"")
    assert names(expand([f"{tmp_path}/[ab].jsonl"])) == ["[ab].jsonl"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["{0}/missing.jsonl"], "missing.jsonl: no such file"),
        (["{0}/*.parquet"], "no file matches"),
        (["{0}/empty"], "no file in it ends in .jsonl"),
        (["{0}/b.jsonl", "{0}/./b.jsonl"], "are the same input"),
        (["{0}/b.jsonl", "{0}"], "are the same input"),
        (["{0}/b.jsonl", "{0}/link.jsonl"], "link.jsonl and .*b.jsonl are the same input"),
        (["-", "-"], "are the same input"),
        (["{0}/b.jsonl/c.jsonl"], "no such file"),
        ([""], "empty name"),
    ],
)
def test_inputs_that_cannot_be_meant_are_errors(inputs: Path, given: list[str], message: str) -> None:
    """Each names what was given."""
    (inputs / "empty").mkdir()
    (inputs / "link.jsonl").symlink_to(inputs / "b.jsonl")
    with pytest.raises(InputError, match=message):
        expand([text.format(inputs) for text in given])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_an_error(inputs: Path) -> None:
    """Before anything is done with the others."""
    (inputs / "b.jsonl").chmod(0)
    with pytest.raises(InputError, match=r"b\.jsonl: cannot be read \(Permission denied\)"):
        expand([inputs])


async def test_a_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    """Also where a directory stands in its place."""
    for path in (tmp_path / "gone.jsonl", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            async with FileSource(path):
                pass


async def read(source: Source, *, size: int = 1000, offset: int = 0) -> bytes:
    async with source:
        chunks = [chunk async for chunk in source.blocks(size=size, offset=offset)]
    assert all(chunks)
    return b"".join(chunks)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("offset", [0, 1, 999, 1000, 100_000, len(LINES) - 1, len(LINES)])
async def test_a_file_is_read_from_any_offset(tmp_path: Path, name: str, offset: int) -> None:
    """Plain or compressed: offsets are those of the decompressed bytes."""
    path = tmp_path / name
    path.write_bytes(PACKED[name])
    assert await read(FileSource(path), size=70_000, offset=offset) == LINES[offset:]


@pytest.mark.parametrize("name", PACKED)
async def test_an_offset_behind_the_end_is_an_error(tmp_path: Path, name: str) -> None:
    """The input is not the one that the run began with."""
    path = tmp_path / name
    path.write_bytes(PACKED[name])
    with pytest.raises(InputError, match="shorter than when the run began"):
        await read(FileSource(path), offset=len(LINES) + 1)


async def test_blocks_are_about_the_size_asked_for(tmp_path: Path) -> None:
    """A file of many small members is not handed on in many small blocks."""
    path = tmp_path / "small.gz"
    path.write_bytes(b"".join(gzip.compress(LINES[at : at + 100]) for at in range(0, len(LINES), 100)))
    async with FileSource(path) as source:
        sizes = [len(chunk) async for chunk in source.blocks(size=50_000)]
    assert sum(sizes) == len(LINES)
    assert len(sizes) <= 2 * (len(LINES) // 50_000 + 1)


async def test_the_contents_tell_the_format(tmp_path: Path) -> None:
    """Not the name; and formats that are not read are named."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(PACKED["a.jsonl.gz"])
    assert await read(FileSource(path)) == LINES
    path.write_bytes(b"BZh91AY")
    with pytest.raises(InputError, match=r"a\.jsonl is compressed with bzip2, which is not read"):
        await read(FileSource(path))


@pytest.mark.parametrize("name", PACKED)
async def test_a_sound_file_is_verified(tmp_path: Path, name: str) -> None:
    """And can then be read in the same opening."""
    path = tmp_path / name
    path.write_bytes(PACKED[name])
    async with FileSource(path) as source:
        await source.verify()
        assert b"".join([chunk async for chunk in source.blocks(size=1 << 20)]) == LINES


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("cut", [1, 4, 9, 5000])
async def test_a_cut_file_is_found_before_its_lines_are_used(tmp_path: Path, name: str, cut: int) -> None:
    """Nearly all lines would arrive before its end is missed."""
    path = tmp_path / name
    path.write_bytes(PACKED[name][:-cut])
    with pytest.raises(InputError, match=rf"{name}: .*cut short"):
        async with FileSource(path) as source:
            await source.verify()


async def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    """It is no error here."""
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    async with FileSource(path) as source:
        await source.verify()
        assert [chunk async for chunk in source.blocks(size=10)] == []


async def test_a_mark_tells_a_file_by_size_and_time(tmp_path: Path) -> None:
    """A stream has neither."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    async with FileSource(path) as source:
        mark = source.identity()
    assert (mark.name, mark.size, mark.mtime_ns) == (str(path), len(LINES), path.stat().st_mtime_ns)
    assert StreamSource(path, name="pipe").identity().size == -1


async def test_a_file_that_changes_is_an_error(tmp_path: Path) -> None:
    """While it is read, and between two openings of one source."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    source = FileSource(path)
    got = b""
    with pytest.raises(InputError, match="changed while it was read"):
        async with source:
            async for chunk in source.blocks(size=100_000):
                got += chunk
                with path.open("ab") as file:
                    file.write(LINES)
    assert got == LINES
    with pytest.raises(InputError, match="changed while it was read"):
        async with source:
            pass


async def test_reading_a_file_can_be_given_up(tmp_path: Path) -> None:
    """In the middle; the file is closed all the same."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(PACKED["a.jsonl.gz"])
    with anyio.CancelScope() as scope:
        async with FileSource(path) as source:
            async for _ in source.blocks(size=1000):
                scope.cancel()
    assert scope.cancelled_caught


class Pipe:
    """Both ends of a pipe; the reading one as a file object, as standard input is."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.file = os.fdopen(reader, "rb")

    def close_writer(self) -> None:
        os.close(self.writer)


@pytest.mark.parametrize("name", PACKED)
async def test_a_pipe_is_read_to_its_end(name: str) -> None:
    """Plain or compressed, in blocks larger than the pipe holds."""
    pipe = Pipe()

    def write() -> None:
        with os.fdopen(pipe.writer, "wb") as file:
            file.write(PACKED[name])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, write)
        assert await read(StreamSource(pipe.file), size=200_000) == LINES
    pipe.file.close()


async def test_a_cut_pipe_is_an_error() -> None:
    """When its end comes."""
    pipe = Pipe()
    os.write(pipe.writer, gzip.compress(LINES[:1000])[:-3])
    pipe.close_writer()
    with pytest.raises(InputError, match="stdin: the gzip data is cut short"):
        await read(StreamSource(pipe.file))
    pipe.file.close()


async def test_a_slow_pipe_delivers_what_it_has() -> None:
    """A line is not held back until a block is full."""
    pipe = Pipe()
    async with StreamSource(pipe.file) as source:
        chunks = source.blocks(size=1 << 20)
        for line in (b"first line\n", b"second line\n"):
            os.write(pipe.writer, line)
            with anyio.fail_after(100):
                assert await anext(chunks) == line
        pipe.close_writer()
        assert [chunk async for chunk in chunks] == []
    pipe.file.close()


async def test_waiting_for_a_pipe_can_be_cancelled() -> None:
    """Though nothing ever comes."""
    pipe = Pipe()
    async with StreamSource(pipe.file) as source:
        with anyio.move_on_after(0.05) as scope:
            async for _ in source.blocks(size=100):
                pass
        assert scope.cancelled_caught
    pipe.close_writer()
    pipe.file.close()


async def test_a_stream_is_read_from_an_offset() -> None:
    """By reading over what comes before."""
    pipe = Pipe()
    os.write(pipe.writer, LINES[:1000])
    pipe.close_writer()
    assert await read(StreamSource(pipe.file), offset=700) == LINES[700:1000]
    pipe.file.close()


async def test_standard_input_may_be_a_file_or_a_device() -> None:
    """``< file`` and ``< /dev/null`` cannot be waited for, and need not be."""
    with tempfile.TemporaryFile() as file:
        file.write(LINES)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        assert await read(StreamSource(io.BufferedReader(io.FileIO(file.fileno(), closefd=False)))) == LINES
    null = os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb")
    assert await read(StreamSource(null)) == b""
    null.close()


async def test_a_named_pipe_is_a_stream(tmp_path: Path) -> None:
    """As a shell's ``<(command)`` is."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert await to_thread.run_sync(expand, [path]) == [path]
    source = await to_thread.run_sync(open_source, path)
    assert (source.replayable, source.name) == (False, str(path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, path.write_bytes, LINES)
        assert await read(source) == LINES


def test_a_path_tells_its_kind_of_source(tmp_path: Path) -> None:
    """A file can be read again, the standard input cannot, and may not be there."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")
    assert open_source(path).replayable
    with pytest.raises(InputError, match="no standard input"):
        open_source(STDIN)


def files_held() -> set[str]:
    return {os.path.realpath(handle) for handle in Path("/proc/self/fd").iterdir()}


async def test_a_file_whose_opening_is_cancelled_is_closed(tmp_path: Path) -> None:
    """It opens in a thread, which nothing interrupts; a pipe without a writer keeps it there."""
    path = tmp_path / "slow"
    os.mkfifo(path)

    async def enter() -> None:
        async with FileSource(path):
            pytest.fail("it was cancelled")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            (await to_thread.run_sync(path.open, "wb")).close()
    gc.collect()
    assert str(path) not in files_held()


async def test_pipe_whose_opening_was_cancelled_is_closed(tmp_path: Path) -> None:
    """A process that opens it for writing later finds no reader, instead of one that never reads."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(StreamSource(pipe).__aenter__)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(_write_until_closed, pipe)


def _write_until_closed(pipe: Path) -> None:
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO  # cancelled before a thread had begun to open it
        return
    with os.fdopen(descriptor, "wb", buffering=0) as file, pytest.raises(BrokenPipeError):
        while file.write(b"x"):  # None when the pipe is full, which a reader that never reads would let happen
            pass
