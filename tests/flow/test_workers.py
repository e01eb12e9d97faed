"""Lines judged by several processes: the same shards with any number, and no process is left behind."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

import packtrain
from packtrain import IncompleteRun, Options
from packtrain._io.worker_pool import open_workers
from packtrain._rules.framing import RawBlock
from packtrain._rules.validate import scan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SEED = 20_260_105
ROOM = 8 * 2**20


def good(number: int) -> bytes:
    return b'{"key":"k-%d","request":{"contents":[{"parts":[{"text":"%s"}]}]}}\n' % (number, b"x" * (number % 200))


def nasty(lines: int) -> bytes:
    """Lines of every kind, most of them good; every tenth key was used before."""
    chance = random.Random(SEED)
    text = bytearray(b"\xef\xbb\xbf")
    for number in range(lines):
        line = good(number if chance.random() < 0.9 else chance.randrange(number + 1))
        match chance.randrange(40):
            case 0:
                line = b"\n"
            case 1:
                line = line[: chance.randrange(len(line))] + b"\n"
            case 2:
                line = line.replace(b"\n", b"\r\n")
            case 3:
                line = b"\xff" + line
            case 4:
                line = b'{"key":"long","request":{"x":"' + b"y" * chance.randrange(3000) + b'"}}\n'
        text += line
    return bytes(text[:-1])


def children() -> list[int]:
    """Of this process, without those that other tests fork from."""
    found = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    return [int(pid) for pid in found if b"multiprocessing" not in command_of(pid)]


def command_of(pid: str) -> bytes:
    """Empty for a process that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def cut_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


async def true(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(100):
        while not condition():  # noqa: ASYNC110 - no event tells what another process does
            await anyio.sleep(0.01)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_the_files_are_the_same_with_any_number_of_workers(tmp_path: Path, packed: bool) -> None:
    """Shards, rejects and counts, to the byte; on input that has everything wrong with it."""
    data, source = nasty(6000), tmp_path / "in"
    source.write_bytes(gzip.compress(data) if packed else data)
    options = Options(shard_bytes=100_000, block_bytes=16_384, max_line_bytes=2000, ledger_keys=1000)
    found = []
    for workers in (1, 2, 4):
        chosen = msgspec.structs.replace(options, workers=workers)
        report = await packtrain.split([source], tmp_path / "out", options=chosen)
        found.append((report, cut_files(tmp_path / "out")))
    assert found[0] == found[1] == found[2]
    files = found[0][1]
    assert len(files) > 5, f"seed {SEED}"
    assert files["rejected.jsonl"].count(b"already used") > 100


async def test_workers_judge_what_this_process_would(tmp_path: Path) -> None:
    """Also a frame that is larger than what they share with it, and several frames at once."""
    raws = [RawBlock(nasty(500), 0, 0), RawBlock(good(7), 0, 0), RawBlock(good(8) + b'{"key":"' + b"z" * ROOM, 0, 0)]
    async with open_workers(2) as workers, anyio.create_task_group() as tasks:

        async def check(raw: RawBlock) -> None:
            block = await workers.scan(raw, "in")
            alone = scan(raw, source="in")
            assert (list(block.ends), block.keys, block.rejects) == (list(alone.ends), alone.keys, alone.rejects)

        for raw in raws * 3:
            tasks.start_soon(check, raw)
    assert children() == []


async def test_a_worker_has_no_environment() -> None:
    """So that no key of anybody's is in it."""
    async with open_workers(1):
        (pid,) = children()
        assert environment_of(pid) == b""


async def test_a_lost_worker_ends_the_run_and_says_so() -> None:
    """With what to do next; it is never waited for."""
    async with open_workers(2) as workers:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        lost = r"SIGKILL, perhaps because memory ran out"
        with pytest.raises(IncompleteRun, match=lost):
            await workers.scan(RawBlock(good(1), 0, 0), "in")
    assert children() == []


async def test_workers_that_cannot_start_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short input asks for none, as starting them would take longer than its lines."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    (tmp_path / "in").write_bytes(good(1))
    await packtrain.split([tmp_path / "in"], tmp_path / "out")
    with pytest.raises(IncompleteRun, match="no worker process could be started"):
        await packtrain.split([tmp_path / "in"], tmp_path / "out", options=Options(workers=2))


async def test_a_cancelled_ingest_leaves_no_process(tmp_path: Path) -> None:
    """Nor an unfinished shard; also where a worker does not answer any more."""

    async def endless() -> AsyncIterator[bytes]:
        for number in itertools.count():
            yield good(number)

    async with anyio.create_task_group() as tasks:
        options = Options(workers=2, block_bytes=65_536, shard_requests=5000)
        tasks.start_soon(lambda: packtrain.split(endless(), tmp_path / "out", options=options))
        await true((tmp_path / "out" / "shard-00000.jsonl").exists)
        pids = children()
        os.kill(pids[0], signal.SIGSTOP)
        tasks.cancel_scope.cancel()
    assert len(pids) == 2
    assert children() == []
    assert not list((tmp_path / "out").glob("*.tmp"))


def processes_with(word: str) -> list[str]:
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if word in _text(path)]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


async def test_a_killed_run_goes_on_with_another_number_of_workers(tmp_path: Path) -> None:
    """Workers end with the process that started them, and the answers are those to every line, in order."""
    lines = [good(number) for number in range(3000)]
    (tmp_path / "in.jsonl").write_bytes(b"".join(lines))
    marked = tmp_path / "on-the-path-of-every-worker"
    command = [sys.executable, "-m", "packtrain", "run", "in.jsonl", "--service", "local", "--model", "m"]
    command += ["--out", "out.jsonl", "--max-shard-requests", "600", "--quiet", "--json", "--workers"]
    path = f"{marked}{os.pathsep}{Path(packtrain.__file__).parents[1]}"
    for workers, points, code in (("2", "shard.rename.after=kill@3", -signal.SIGKILL), ("4", "", 0)):
        environment = {**os.environ, "PYTHONPATH": path, "PACKTRAIN_FAILPOINTS": points}
        ended = await anyio.run_process(
            [*command, workers], cwd=tmp_path, env=environment, check=False, stderr=subprocess.STDOUT
        )
        assert ended.returncode == code, ended.stdout.decode()
        await true(lambda: not processes_with(str(marked)))
    answered = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["key"] for line in answered] == [json.loads(line)["key"] for line in lines]
