"""What the client promises at every service, as tests. Subclass ``ProviderSuite`` and give it a ``served`` fixture:

    class TestMine(ProviderSuite):
        @pytest.fixture
        def served(self, tmp_path):
            return functools.partial(serve_mine, tmp_path / "service")

Each call of the fixture's value starts the service with these faults, for as long as the block lasts. Every test runs
the whole client against it: however a run was disturbed, each request is answered once, in the order of the input, and
each shard has had one job that ran.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

import anyio
from msgspec import Struct

from .._opening import open_client
from .._options import Options, Policy
from .._snapshots import Summary

if TYPE_CHECKING:
    from pathlib import Path

    from .._model import Task
    from .._providers.base import Provider
    from .._providers.service import Service

SHARDS, LINES = 2, 5
#: A run takes a second or two; one that hangs fails after this long.
_LIMIT = 300.0


class Faults(Struct, frozen=True, kw_only=True):
    """How a service shall misbehave. Calls are counted from its start; times in seconds."""

    #: Of the first creates: the job is made, and the reply lost.
    lost_replies: int = 0
    #: Of the first creates: the connection breaks before the service sees them.
    lost_creates: int = 0
    #: The first create is lost, and arrives when its input file is revoked: just after the deletion.
    late_create: bool = False
    #: The first create arrives twice.
    delivered_twice: bool = False
    #: Of the first creates: refused for now, at once or by a job that ends before it runs.
    throttled: int = 0
    #: How long a new job is absent from the list.
    list_lag: float = 0.0
    #: Of the first list replies, those that show no job although there are some.
    void_pages: int = 0
    #: Of the first look-ups of a job by name, those that do not find it; the list shows none for as long.
    lookups_404: int = 0
    #: Of the first data calls of uploads: acted on, and the reply lost.
    lost_uploads: int = 0
    #: Of the first downloads of results, those that break in the middle.
    cut_downloads: int = 0


class Served(Protocol):
    """A service under test, while it runs."""

    @property
    def service(self) -> Service:
        """Its address, limits and waits."""
        ...

    @property
    def provider(self) -> Provider | None:
        """Its implementation; None for the one that packtrain has for ``service``."""
        ...

    def line(self, number: int) -> dict[str, object]:
        """A request line in the service's shape whose answer contains ``text(number)``."""
        ...

    def key(self, row: dict[str, object]) -> object:
        """The key of an answer."""
        ...

    async def jobs(self) -> list[int]:
        """How many jobs that could run were made, for each shard that had any."""
        ...


Serve = Callable[[Faults], AbstractAsyncContextManager[Served]]
#: Waits for a service in the same process.
POLICY = Policy(
    create_timeout=10.0, never_started_wait=0.02, lost_seconds=30.0, empty_seconds=30.0, sweep_every=0.2, last_sweep=5.0
)


def text(number: int) -> str:
    """The text that the answer to request ``number`` contains."""
    return f"prompt-{number:03}-"


class _Run(Struct, frozen=True):
    """A run that has ended: its summary, its output and the jobs that it took."""

    summary: Summary
    lines: list[str]
    keys: list[object]
    jobs: list[int]


class ProviderSuite:
    """Runs of two shards with five lines each."""

    #: Of the runs; a service may need another one.
    model = "m"
    task: Task = "generate"

    async def run(self, serve: Serve, root: Path, faults: Faults, *, wait: bool = True) -> _Run:
        async with serve(faults) as served:
            summary = await self.client_run(served, root, wait=wait)
            return await self.ended(summary, served, root)

    async def ended(self, summary: Summary, served: Served, root: Path) -> _Run:
        lines = (await anyio.Path(root / "out.jsonl").read_text()).splitlines() if summary.complete else []
        return _Run(summary, lines, [served.key(json.loads(line)) for line in lines], await served.jobs())

    async def client_run(self, served: Served, root: Path, *, wait: bool = True) -> Summary:
        """One client from its start to its end."""
        source = root / "in.jsonl"
        if not await anyio.Path(source).exists():
            rows = [json.dumps(served.line(number)) + "\n" for number in range(SHARDS * LINES)]
            await anyio.Path(source).write_text("".join(rows))
        options = Options(shard_requests=LINES, chunk_bytes=1 << 18)
        async with open_client(
            root / "state", service=served.service, options=options, policy=POLICY, provider=served.provider
        ) as client:
            with anyio.fail_after(_LIMIT):
                return await client.run(source, model=self.model, task=self.task, out=root / "out.jsonl", wait=wait)

    def check(self, run: _Run, *, jobs: list[int] | None = None) -> None:
        """Everything is answered once and in order, by so many jobs a shard: one, unless the service made more."""
        assert len(run.lines) == SHARDS * LINES
        assert all(text(number) in line for number, line in enumerate(run.lines))
        assert len(set(map(str, run.keys))) == SHARDS * LINES
        assert (run.summary.complete, run.summary.answered, run.summary.failed) == (True, SHARDS * LINES, 0)
        assert sorted(run.jobs) == (jobs or [1] * SHARDS)

    async def test_a_run_is_answered_in_the_order_of_its_input(self, served: Serve, tmp_path: Path) -> None:
        """Each shard by one job."""
        run = await self.run(served, tmp_path, Faults())
        self.check(run)
        assert run.summary.duplicates_healed == 0

    async def test_a_second_start_goes_on_with_the_jobs_of_the_first(self, served: Serve, tmp_path: Path) -> None:
        """Which ends as soon as everything is submitted."""
        async with served(Faults()) as one:
            await self.client_run(one, tmp_path, wait=False)
            summary = await self.client_run(one, tmp_path)
            self.check(await self.ended(summary, one, tmp_path))

    async def test_a_create_whose_reply_is_lost_makes_one_job(self, served: Serve, tmp_path: Path) -> None:
        """It is found in the list, and adopted."""
        self.check(await self.run(served, tmp_path, Faults(lost_replies=1)))

    async def test_a_create_that_is_lost_is_made_up_for(self, served: Serve, tmp_path: Path) -> None:
        """By the next attempt, once the list has been without the job for long enough."""
        self.check(await self.run(served, tmp_path, Faults(lost_creates=1)))

    async def test_a_list_that_lags_hides_no_job_for_long(self, served: Serve, tmp_path: Path) -> None:
        """The search for a job goes on for longer than the list may lag."""
        self.check(await self.run(served, tmp_path, Faults(lost_replies=1, list_lag=0.05)))

    async def test_a_list_that_is_falsely_empty_proves_nothing(self, served: Serve, tmp_path: Path) -> None:
        """One look without the job is not enough to send another create."""
        self.check(await self.run(served, tmp_path, Faults(lost_replies=1, void_pages=2)))

    async def test_a_create_delivered_twice_is_answered_once_and_reported(self, served: Serve, tmp_path: Path) -> None:
        """No client can prevent two jobs; one of them is read, the other is cancelled or has ended."""
        run = await self.run(served, tmp_path, Faults(delivered_twice=True))
        self.check(run, jobs=[1, 2])
        assert run.summary.duplicates_healed == 1

    async def test_a_create_delivered_twice_without_a_reply_is_answered_once(
        self, served: Serve, tmp_path: Path
    ) -> None:
        """Of two jobs that are found, one is adopted."""
        run = await self.run(served, tmp_path, Faults(delivered_twice=True, lost_replies=1))
        self.check(run, jobs=[1, 2])
        assert run.summary.duplicates_healed == 1

    async def test_a_job_that_is_not_found_for_a_moment_is_not_given_up(self, served: Serve, tmp_path: Path) -> None:
        """One 404 is no loss."""
        self.check(await self.run(served, tmp_path, Faults(lookups_404=1)))

    async def test_a_create_that_arrives_after_its_revocation_leaves_one_job(
        self, served: Serve, tmp_path: Path
    ) -> None:
        """It is refused, or its job never starts, or it is found before the next create."""
        self.check(await self.run(served, tmp_path, Faults(late_create=True)))

    async def test_a_create_that_is_refused_for_now_is_sent_again(self, served: Serve, tmp_path: Path) -> None:
        """Whether the service says so at once, or by a job that ends before it runs."""
        run = await self.run(served, tmp_path, Faults(throttled=1))
        self.check(run)
        assert run.summary.duplicates_healed == 0

    async def test_an_upload_whose_reply_is_lost_brings_the_whole_file(self, served: Serve, tmp_path: Path) -> None:
        """No job is made of another one."""
        self.check(await self.run(served, tmp_path, Faults(lost_uploads=2)))

    async def test_results_that_break_off_come_down_whole(self, served: Serve, tmp_path: Path) -> None:
        """What came before the break may be kept."""
        self.check(await self.run(served, tmp_path, Faults(cut_downloads=2)))
