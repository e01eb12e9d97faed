"""The client at a second service, in every variant of what a service can do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain import InputError, open_client
from packtrain.testing.providers import POLICY, Faults, ProviderSuite
from tests.providers.toy import VARIANTS, Toy, ToyProvider, ToyService, Variant, serve
from tests.seeds import LONG

if TYPE_CHECKING:
    from pathlib import Path

    from packtrain._io.request_file import ShardReader
    from packtrain._model import RemoteJob, Task
    from packtrain.testing.providers import Serve


#: Each way to upload, to name files, to find a job and to return results; these go through all faults.
ALL_FAULTS = (
    "upload by offset",
    "a list without tags, ids of the service",
    "no upload, results in the reply",
    "all that differs at once",
)
#: The tests that every variant goes through. With TEST_LONG they go through all.
EACH = (
    ProviderSuite.test_a_run_is_answered_in_the_order_of_its_input,
    ProviderSuite.test_a_create_whose_reply_is_lost_makes_one_job,
    ProviderSuite.test_a_list_that_is_falsely_empty_proves_nothing,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test of the suite its variants."""
    if "variant" in metafunc.fixturenames:
        names = VARIANTS if LONG or metafunc.function in EACH else ALL_FAULTS
        metafunc.parametrize("variant", [VARIANTS[name] for name in names], ids=list(names))


class TestToy(ProviderSuite):
    """A second service in its variants."""

    @pytest.fixture
    def served(self, variant: Variant) -> Serve:
        return lambda faults: serve(variant, faults)


@pytest.mark.parametrize("results", ["file", "files", "reply"])
async def test_rows_without_an_answer_are_listed_wherever_they_come(tmp_path: Path, results: str) -> None:
    """In the file of answers, in one of their own, or in the reply; also when no line has an answer."""
    toy = Toy(ToyService(Variant(results=results), Faults()))  # type: ignore[arg-type]  # one of the three
    rows = [toy.line(0), {"id": "line-1", "ask": {"fail": "makes no sense"}}]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with open_client(tmp_path / "state", service=toy.service, policy=POLICY, provider=toy.provider) as client:
        with anyio.fail_after(100):
            summary = await client.run(source, model="m", out=tmp_path / "out.jsonl")
    assert (summary.complete, summary.answered, summary.failed) == (True, 1, 1)
    (failed,) = (tmp_path / "out.jsonl.failed.jsonl").read_text().splitlines()
    assert json.loads(failed) | {"error": None} == {
        "key": "line-1",
        "reason": "makes no sense (code NONSENSE)",
        "ordinal": 1,
        "asked": 1,
        "retryable": False,
        "error": None,
        "source": str(source),
        "line": 2,
        "request": {"fail": "makes no sense"},
    }


class Forgetful(ToyProvider):
    """Its service loses the input file just before the first create arrives."""

    def __init__(self, service: ToyService) -> None:
        super().__init__(service)
        self.creates = 0

    async def create(
        self, *, model: str, task: Task, tag: str, file: str, requests: ShardReader | None = None
    ) -> RemoteJob:
        self.creates += 1
        if self.creates == 1:
            await self.delete_file(file)
        return await super().create(model=model, task=task, tag=tag, file=file, requests=requests)


async def test_a_job_that_never_started_because_its_file_is_gone_gets_another_file(tmp_path: Path) -> None:
    """The same create again would make one such job after the other, and never end."""
    service = ToyService(Variant(refuses_at_create=False), Faults())
    toy, provider = Toy(service), Forgetful(service)
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(toy.line(0)) + "\n")
    async with open_client(tmp_path / "state", service=toy.service, policy=POLICY, provider=provider) as client:
        with anyio.fail_after(100):
            summary = await client.run(source, model="m", out=tmp_path / "out.jsonl")
    assert (summary.complete, summary.answered, provider.creates) == (True, 1, 2)


async def test_a_service_whose_jobs_cannot_be_found_is_refused(tmp_path: Path) -> None:
    """Without a tag and without an input file in the list, a lost reply would lose a paid job."""
    toy = Toy(ToyService(Variant(upload="inline", tags=False), Faults()))
    with pytest.raises(InputError, match="neither"):
        async with open_client(tmp_path / "state", service=toy.service, provider=toy.provider):
            pass
