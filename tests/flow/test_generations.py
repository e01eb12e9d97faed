"""Failed lines asked again: by themselves within a bound, and once more when somebody wants it."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

import packtrain
from packtrain import IncompleteRun, InputError, ManifestError, Options, RowError, serving
from packtrain.testing import armed
from tests.flow.place import Place, answer_text, read_lines
from tests.seeds import seeded, short

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from blockbuster import BlockBuster

    from packtrain import Summary

CANCELLED, INVALID, INTERNAL = 1, 3, 13
LINES, SHARDS = 40, 4
OPTIONS = Options(shard_requests=LINES // SHARDS)
KEYS = [f"key-{n}" for n in range(LINES)]


@pytest.fixture
def anyio_backend() -> Any:
    """One loop is enough: what is tested are decisions."""
    return "asyncio", {"use_uvloop": False}


class Moody:
    """A model that fails some prompts the first few times, with these codes, and then answers."""

    rows = None

    def __init__(self, moods: Mapping[int, Sequence[int]]) -> None:
        self.moods = {f"prompt number {number}": list(codes) for number, codes in moods.items()}
        self.asked: Counter[str] = Counter()

    async def answer(self, requests: Sequence[msgspec.Raw], *, task: str, model: str) -> list[bytes | RowError]:
        return [self._one(msgspec.json.decode(request)["contents"][0]["parts"][0]["text"]) for request in requests]

    def _one(self, text: str) -> bytes | RowError:
        self.asked[text] += 1
        if codes := self.moods.get(text):
            return RowError(code=codes.pop(0), message="not now")
        content = {"parts": [{"text": text}], "role": "model"}
        return msgspec.json.encode({"candidates": [{"content": content}]})


@asynccontextmanager
async def at(root: Path, model: Moody) -> AsyncIterator[Place]:
    async with serving(root / "service", backend=model) as origin:
        yield Place(root, origin)


async def run(place: Place, options: Options = OPTIONS, *, out: Any = None, join: bool = False) -> Summary:
    source = place.root / "in.jsonl"
    if not source.exists():
        place.requests(LINES)
    async with packtrain.open_client(place.state, service=place.service, options=options) as client:
        with anyio.fail_after(100):
            return await client.run(source, model="m", out=out or place.out, join=join)


async def retry(place: Place, *, everything: bool = False, out: Any = None) -> Summary:
    async with packtrain.open_client(place.state, service=place.service, options=OPTIONS) as client:
        with anyio.fail_after(100):
            return await client.retry(out or place.out, everything=everything)


def jobs(place: Place) -> Counter[str]:
    """Jobs by shard and generation, by the service's own log."""
    return Counter(".".join(entry["displayName"].split(".")[2:4]) for entry in place.truth("batch_created"))


def failed(place: Place) -> list[tuple[int, int, bool]]:
    """Number, times asked, and whether it is worth another try, of each failed line."""
    path = place.out.with_name("out.jsonl.failed.jsonl")
    rows = read_lines(path) if path.exists() else []
    assert [row["key"] for row in rows] == [f"key-{row['ordinal']}" for row in rows]
    return [(row["ordinal"], row["asked"], row["retryable"]) for row in rows]


def assert_answered(place: Place, summary: Summary, without: Sequence[int] = ()) -> None:
    """All but these lines, each once, in input order, with its own answer; every generation had one job."""
    rows = read_lines(place.out)
    left = [number for number in range(LINES) if number not in without]
    assert [(row["key"], answer_text(row)) for row in rows] == [(f"key-{n}", f"prompt number {n}") for n in left]
    assert (summary.complete, summary.answered, summary.failed) == (True, len(left), len(without))
    assert [number for number, _, _ in failed(place)] == list(without)
    assert set(jobs(place).values()) == {1}
    assert summary.jobs_created == len(jobs(place))


async def test_what_a_cancelled_job_left_is_asked_again_when_somebody_wants_it(tmp_path: Path) -> None:
    """A job that is cancelled at work delivers what it has; its other lines are not paid for again unseen (A5)."""
    model = Moody({3: [CANCELLED], 4: [CANCELLED], 5: [INTERNAL, INTERNAL]})
    async with at(tmp_path, model) as place:
        summary = await run(place)
        assert_answered(place, summary, without=[3, 4])
        assert failed(place) == [(3, 1, True), (4, 1, True)]
        assert jobs(place)["0.0"] == jobs(place)["0.1"] == jobs(place)["0.2"] == 1
        assert_answered(place, await retry(place))
        assert max(model.asked[f"prompt number {number}"] for number in (3, 4)) == 2


async def test_a_passing_failure_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    """The second generation holds the failed lines alone; what is wrong with a request stays wrong."""
    model = Moody({0: [INTERNAL], 7: [INTERNAL, INTERNAL], 9: [INVALID], 25: [INTERNAL], 39: [INTERNAL]})
    async with at(tmp_path, model) as place:
        summary = await run(place)
        status = await packtrain.status(place.state)
    assert_answered(place, summary, without=[9])
    assert failed(place) == [(9, 1, False)]
    assert sorted(jobs(place)) == ["0.0", "0.1", "0.2", "1.0", "2.0", "2.1", "3.0", "3.1"]
    again = {"prompt number 0": 2, "prompt number 7": 3, "prompt number 25": 2, "prompt number 39": 2}
    assert model.asked == {f"prompt number {n}": 1 for n in range(LINES)} | again
    assert (status.statistics.retried, status.statistics.lost, summary.shards) == (5, 0, SHARDS)


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
async def test_a_line_is_asked_again_only_so_often(tmp_path: Path, retries: int) -> None:
    """A failure that never passes ends the lineage all the same, with the last error."""
    async with at(tmp_path, Moody({5: [INTERNAL] * 9})) as place:
        summary = await run(place, msgspec.structs.replace(OPTIONS, retries=retries))
    assert_answered(place, summary, without=[5])
    assert failed(place) == [(5, retries + 1, True)]
    assert len(jobs(place)) == SHARDS + retries


async def test_a_failure_that_changes_its_reason_is_judged_by_the_last(tmp_path: Path) -> None:
    """The last error is the one that is told, and decides."""
    async with at(tmp_path, Moody({5: [INTERNAL, INVALID], 6: [INTERNAL, INTERNAL]})) as place:
        assert_answered(place, await run(place), without=[5])
    (row,) = read_lines(place.root / "out.jsonl.failed.jsonl")
    assert (row["asked"], row["retryable"], row["error"]["code"]) == (2, False, INVALID)


async def test_a_whole_shard_may_be_asked_again(tmp_path: Path) -> None:
    """The next generation is then the same file once more; with join its answers carry the requests."""
    model = Moody({number: [INTERNAL] for number in range(10, 20)})
    async with at(tmp_path, model) as place:
        assert_answered(place, await run(place, join=True))
    assert [row["request"]["contents"][0]["parts"][0]["text"] for row in read_lines(place.out)] == [
        f"prompt number {n}" for n in range(LINES)
    ]
    sent = {entry["bytes"] for entry in place.truth("file_finalised")}
    assert len(place.truth("file_finalised")) == SHARDS + 1 and len(sent) < SHARDS + 1


async def test_results_come_once_a_lineage_is_closed(tmp_path: Path) -> None:
    """Whoever reads them as they land gets each key once, with its last word."""
    seen: defaultdict[str, list[bool]] = defaultdict(list)
    async with at(tmp_path, Moody({3: [INTERNAL, INTERNAL], 4: [INVALID], 33: [INTERNAL]})) as place:
        place.requests(LINES)
        async with (
            packtrain.open_client(place.state, service=place.service, options=OPTIONS) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(client.drive)
            started = await client.submit(place.root / "in.jsonl", model="m")
            async for result in client.results(started):
                seen[result.key].append(result.response is not None)
            tasks.cancel_scope.cancel()
    assert seen == {key: [key != "key-4"] for key in KEYS}


MOODS: Mapping[int, Sequence[int]] = {1: [INTERNAL], 8: [INVALID], 12: [INTERNAL, INTERNAL], 38: [INTERNAL] * 9}
#: What a step that fails leaves open is closed when it is forgotten.
BROKEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
#: The steps that make one generation of another, and the output of them all.
STEPS = ("results.", "shard.", "part.", "output.", "manifest.Landed", "manifest.Closed", "manifest.publish")


def published(place: Place) -> dict[str, bytes]:
    """What is in the output and its lists; without the place of the input, which they name."""
    files = sorted(path for path in place.root.glob("out.jsonl*") if path.is_file())
    return {path.name: path.read_bytes().replace(bytes(place.root), b"") for path in files}


async def disturbed(root: Path, failpoints: str, work: Any, moods: Mapping[int, Sequence[int]]) -> dict[str, bytes]:
    """What is published by work that broke off at a failpoint, and was taken up again."""
    async with at(root, Moody(moods)) as place:
        with armed(failpoints), contextlib.suppress(packtrain.PacktrainError):
            await work(place)
        await work(place)
        assert set(jobs(place).values()) == {1}
        return published(place)


def chosen(trace: Path, prefixes: tuple[str, ...], chance: random.Random, count: int) -> list[str]:
    """One hit of each of some points that a calm run passed."""
    hits: defaultdict[str, list[str]] = defaultdict(list)
    for line in trace.read_text().splitlines():
        point, hit = line.split()
        if point.startswith(prefixes):
            hits[point].append(hit)
    return [f"{point}=raise:EIO@{chance.choice(hits[point])}" for point in chance.sample(sorted(hits), count)]


@BROKEN
async def test_a_lineage_that_broke_off_anywhere_ends_the_same(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """To the byte, with one job a generation; some steps fail once, at a hit of the seed's choice."""
    trace = tmp_path / "trace"
    blockbuster.deactivate()  # a trace is written where the hit is
    calm = await disturbed(tmp_path / "calm", f"trace={trace}", run, MOODS)
    points = chosen(trace, STEPS, seeded("generations"), short(2, 5))
    for number, failpoints in enumerate(points):
        assert await disturbed(tmp_path / str(number), failpoints, run, MOODS) == calm, failpoints


async def test_a_retry_asks_what_may_pass_and_publishes_anew(tmp_path: Path) -> None:
    """Everything else stays as it is; the list of failed lines is that of now."""
    model = Moody({0: [INTERNAL] * 3, 5: [INVALID] * 2, 17: [INTERNAL] * 4, 18: [INVALID], 39: [INTERNAL] * 3})
    async with at(tmp_path, model) as place:
        assert_answered(place, await run(place), without=[0, 5, 17, 18, 39])
        before = place.out.read_bytes()
        assert_answered(place, await retry(place), without=[5, 17, 18])
        assert failed(place) == [(5, 1, False), (17, 4, True), (18, 1, False)]
        assert_answered(place, await retry(place, everything=True), without=[5])
        assert failed(place) == [(5, 2, False)]
        assert_answered(place, await retry(place, everything=True))
        assert not (place.root / "out.jsonl.failed.jsonl").exists()
        assert len(place.out.read_bytes()) > len(before)
        again = await run(place)
        assert (again.complete, again.answered) == (True, LINES)


async def test_a_retry_asks_once(tmp_path: Path) -> None:
    """Also after a run that never did, and with a client that otherwise would; cut short as well."""
    async with at(tmp_path, Moody({5: [INTERNAL] * 9, 6: [INVALID, INTERNAL]})) as place:
        await run(place, msgspec.structs.replace(OPTIONS, retries=0))
        with armed("manifest.Landed.before=raise:EIO@1"), pytest.raises(IncompleteRun):
            await retry(place)
        await run(place)
        assert failed(place) == [(5, 2, True), (6, 1, False)]
        await retry(place, everything=True)
        assert failed(place) == [(5, 3, True), (6, 2, True)]
        assert jobs(place).total() == SHARDS + 2


async def test_a_retry_without_anything_to_ask_changes_nothing(tmp_path: Path) -> None:
    """Neither here nor at the service; the summary says how the run stands."""
    async with at(tmp_path, Moody({5: [INVALID]})) as place:
        summary = await run(place)
        before, truth = published(place), place.truth()
        again = await retry(place)
        assert (published(place), place.truth()) == (before, truth)
        assert msgspec.structs.replace(again, seconds=0) == msgspec.structs.replace(summary, seconds=0)


@BROKEN
@pytest.mark.parametrize("join", [False, True])
async def test_a_retry_that_broke_off_anywhere_ends_the_same(
    tmp_path: Path, join: bool, blockbuster: BlockBuster
) -> None:
    """The same command, or the run's own, goes on; no line is asked once more for it."""
    moods = {number: [INTERNAL] * 3 for number in (0, 11, 12, 39)} | {20: [INVALID]}
    trace = tmp_path / "trace"

    async def work(place: Place) -> None:
        if not place.out.exists():
            with armed(""):
                await run(place, join=join)
        await retry(place)

    blockbuster.deactivate()  # a trace is written where the hit is
    calm = await disturbed(tmp_path / "calm", f"trace={trace}", work, moods)
    assert [row["key"] for row in read_lines(tmp_path / "calm" / "out.jsonl.failed.jsonl")] == ["key-20"]
    points = chosen(trace, (*STEPS, "manifest.reopen"), seeded("retry"), short(1, 3))
    for number, failpoints in enumerate(points):
        assert await disturbed(tmp_path / str(number), failpoints, work, moods) == calm, failpoints


async def test_a_retry_of_parts_replaces_the_parts_that_it_changes(tmp_path: Path) -> None:
    """Each by rename; the mark of completeness is gone meanwhile."""
    async with at(tmp_path, Moody({0: [INTERNAL] * 3, 1: [INVALID], 39: [INTERNAL] * 3})) as place:
        parts = tmp_path / "parts"
        summary = await run(place, out=f"{parts}/")
        assert (summary.answered, summary.failed) == (LINES - 3, 3)
        untouched = (parts / "part-00001.jsonl").stat().st_ino
        with armed("manifest.JobAdopted.before=raise:EIO"), contextlib.suppress(packtrain.PacktrainError):
            await retry(place, out=f"{parts}/")
        assert not (parts / "_SUCCESS").exists()
        summary = await retry(place, out=f"{parts}/")
        assert (summary.complete, summary.answered, summary.failed) == (True, LINES - 1, 1)
        assert (parts / "_SUCCESS").exists()
        assert (parts / "part-00001.jsonl").stat().st_ino == untouched
    rows = [row["key"] for part in sorted(parts.glob("part-*")) for row in read_lines(part)]
    assert rows == [key for key in KEYS if key != "key-1"]


@pytest.mark.parametrize("damage", ["gone", "other bytes"])
async def test_a_retry_into_an_output_that_changed_is_refused(tmp_path: Path, damage: str) -> None:
    """What is there could not be told from answers; nothing is asked."""
    async with at(tmp_path, Moody({5: [INTERNAL] * 3})) as place:
        await run(place)
        whole, truth = place.out.read_bytes(), place.truth()
        if damage == "gone":
            place.out.unlink()
        else:
            place.out.write_bytes(whole[:-10] + b"x" * 10)
        with pytest.raises(ManifestError, match="published"):
            await retry(place)
        assert place.truth() == truth
        place.out.write_bytes(whole)
        assert_answered(place, await retry(place))


async def test_a_retry_needs_a_run_whose_input_was_read_to_its_end(tmp_path: Path) -> None:
    """And the output that it had; a run that is only not finished is finished first."""
    async with at(tmp_path, Moody({5: [INTERNAL] * 3})) as place:
        place.requests(LINES)
        with pytest.raises(ManifestError, match="no run"):
            await retry(place)
        async with packtrain.open_client(place.state, service=place.service, options=OPTIONS) as client:
            client.stop()
            await client.run(place.root / "in.jsonl", model="m", out=place.out)
        with pytest.raises(IncompleteRun, match="not read to its end"):
            await retry(place)
        async with packtrain.open_client(place.state, service=place.service, options=OPTIONS) as client:
            await client.submit(place.root / "in.jsonl", model="m")
        assert_answered(place, await retry(place), without=[5])
        with pytest.raises(InputError, match="another kind of output"):
            await retry(place, out=f"{tmp_path}/parts/")
        assert_answered(place, await retry(place))
