"""A pass over the list of jobs: complete, or void."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from packtrain import ApiError, serving
from packtrain._errors import ProtocolError
from packtrain._flow.job_list import list_jobs, read_list
from packtrain._io.transport import open_transport
from packtrain._model import JobPage, JobState, RemoteJob
from packtrain._options import CALL_ATTEMPTS, Policy
from packtrain._providers.gemini import CAPABILITIES, GeminiProvider
from packtrain._rules import naming
from packtrain._wire.http import Call
from packtrain.testing import FaultPlan, Status
from packtrain.testing.lives import RUN
from tests.flow.test_download import Now
from tests.flow.test_reconciler import Listed, SetClock, context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from packtrain._flow.run import RunContext
    from packtrain._manifest.base import Manifest

OURS, THEIRS = f"{naming.run_prefix(RUN.token)}0.0.1.{'ab' * 8}.3", "somebody else's"


class Pages:
    """A service whose list is what a function of the page's number makes of it."""

    capabilities = CAPABILITIES

    def __init__(self, page: Callable[[int], JobPage]) -> None:
        self._page = page
        self.asked: list[str | None] = []

    async def list_page(self, token: str | None) -> JobPage:
        self.asked.append(token)
        return self._page(len(self.asked))


def run_at(provider: object) -> RunContext:
    """A run with this provider; a pass reads no manifest."""
    return context(cast("Manifest", None), cast("Listed", provider), SetClock())


def pages(page: Callable[[int], JobPage]) -> RunContext:
    return run_at(Pages(page))


def row(name: str, display_name: str = OURS) -> RemoteJob:
    return RemoteJob(name=f"batches/{name}", state=JobState.PENDING, display_name=display_name)


def full(number: int, *names: str, last: int = 3) -> JobPage:
    return JobPage(tuple(map(row, names)), None if number == last else f"after {number}")


async def test_all_pages_are_read() -> None:
    """Jobs of others do not count, and a job on two pages is one."""
    provider = Pages(lambda n: JobPage((row(str(n)), row("twice"), row(f"x{n}", THEIRS)), None if n == 3 else f"t{n}"))
    found = await list_jobs(run_at(provider))
    assert sorted(found.jobs) == ["batches/1", "batches/2", "batches/3", "batches/twice"]
    assert provider.asked == [None, "t1", "t2"]


async def test_a_job_is_ours_by_its_tag_or_by_its_input_file() -> None:
    """A service may have no place for a tag, and may put a collection before the name of a file."""
    pending = RemoteJob(name="", state=JobState.PENDING)
    files = ("files/ours", "files/other", "")
    unnamed = [msgspec.structs.replace(pending, name=f"of {file}", input_file=file) for file in files]
    found = await list_jobs(pages(lambda _: JobPage((row("x"), *unnamed), None)), files={"ours"})
    assert sorted(found.jobs) == ["batches/x", "of files/ours"]


async def test_a_pass_ends_early_only_when_all_that_it_is_for_was_seen() -> None:
    """Looking for nothing in particular, it goes to the end."""
    for until, asked in (({"batches/1"}, 1), ({"batches/1", "batches/2"}, 2), ({"batches/9"}, 3), (set(), 3)):
        provider = Pages(lambda n: full(n, str(n)))
        await read_list(run_at(provider), until=until)
        assert len(provider.asked) == asked


@pytest.mark.parametrize(
    "page",
    [
        lambda n: JobPage((row(str(n)),), "the same for ever"),
        lambda n: JobPage((row(str(n)),), f"t{n % 7}"),
        lambda n: JobPage((row(str(n)),), f"t{n}"),
        lambda n: JobPage((row("1"),) if n < 2 else (), f"t{n}"),
    ],
    ids=["one token", "a circle", "no end", "nothing but tokens"],
)
async def test_a_list_that_does_not_end_is_void(page: Callable[[int], JobPage]) -> None:
    """It is given up after 10,000 pages, or three empty ones in a row."""
    with pytest.raises(ProtocolError, match="is void"):
        await list_jobs(pages(page))


async def test_two_empty_pages_in_a_row_are_part_of_a_list() -> None:
    """As services have them that filter after they have cut the pages."""
    found = await list_jobs(pages(lambda n: full(n, *(["x"] if n % 3 == 0 else []), last=12)))
    assert list(found.jobs) == ["batches/x"]


async def test_what_cannot_be_read_voids_the_pass_only_if_it_is_ours() -> None:
    """A job of somebody else may look as it likes."""
    theirs, ours = '{"metadata": {"displayName": "other"}}', f'{{"metadata": {{"displayName": "{OURS}"}}}}'
    found = await list_jobs(pages(lambda _: JobPage((row("x"),), None, (theirs,))))
    assert list(found.jobs) == ["batches/x"]
    with pytest.raises(ProtocolError, match="one of ours"):
        await list_jobs(pages(lambda _: JobPage((row("x"),), None, (theirs, ours))))


INLINE = {"displayName": OURS, "inputConfig": {"requests": {"requests": [{"request": {"contents": []}}]}}}
MAKE_ONE = Call(
    name="create.post",
    operation="create of a job",
    method="POST",
    target="/v1beta/models/m:batchGenerateContent",
    headers=(("Content-Type", "application/json"),),
    body=msgspec.json.encode({"batch": INLINE}),
)


@pytest.mark.parametrize("refused", [1, CALL_ATTEMPTS - 1, CALL_ATTEMPTS])
async def test_19_a_pass_that_is_throttled_goes_on_where_it_was_or_says_nothing(tmp_path: Path, refused: int) -> None:
    """The second of two pages is asked for again; what the first one showed is never taken for all."""
    throttled = Status(route="batches.list", calls=tuple(range(2, 2 + refused)), status=429)
    plan = FaultPlan(rules=(throttled,), page_size=1)
    async with (
        serving(tmp_path / "service", faults=plan) as origin,
        open_transport(origin, credentials={}, connections=1) as transport,
    ):
        provider = GeminiProvider(transport, Now(), Policy(), sent=lambda _: None)
        for _ in range(2):
            await transport.send(MAKE_ONE, once=True)
        if refused < CALL_ATTEMPTS:
            assert len((await list_jobs(run_at(provider))).jobs) == 2
        else:
            with pytest.raises(ApiError, match="list of jobs"):
                await list_jobs(run_at(provider))


async def test_a_full_list_without_further_pages_proves_nothing_absent() -> None:
    """Older jobs may be missing in it; one with room left shows all."""
    provider = Pages(lambda _: JobPage((row("1"), row("2")), None))
    provider.capabilities = msgspec.structs.replace(CAPABILITIES, cursor=False, page_size=3)
    assert sorted((await list_jobs(run_at(provider))).jobs) == ["batches/1", "batches/2"]
    provider.capabilities = msgspec.structs.replace(CAPABILITIES, cursor=False, page_size=2)
    with pytest.raises(ProtocolError, match="no further pages"):
        await list_jobs(run_at(provider))
    seen = await read_list(run_at(provider), until={"batches/2"})
    assert seen.unreadable is not None
