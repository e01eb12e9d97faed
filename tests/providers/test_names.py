"""Our names of files and jobs at a service that knows neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from packtrain._flow.remote_names import translated
from packtrain._manifest.base import Change
from packtrain._manifest.memory import open_memory
from packtrain._model import State, Upload
from packtrain._rules import naming
from packtrain._rules.lifecycle import (
    AttemptAbandoned,
    CreateAmbiguous,
    CreateIntended,
    FileNamed,
    FileReady,
    FinalizeIntended,
    UploadIntended,
)
from packtrain.testing.lives import BYTES, RUN, claimed, sealed, shard
from packtrain.testing.providers import Faults
from tests.providers.toy import ToyProvider, ToyService, Variant

if TYPE_CHECKING:
    from packtrain._manifest.base import Manifest
    from packtrain._model import Entry, ShardRow

LINE = b'{"id":"line-0","ask":{"text":"x"}}\n'


async def attempt(manifest: Manifest, row: ShardRow, number: int, file: str) -> ShardRow:
    """An attempt whose file the service called ``file``, and whose create came to nothing."""
    name = naming.file_name(RUN.token, row.shard, 0, number)
    for event in (
        UploadIntended(attempt=number, file=name, upload=Upload(size=BYTES)),
        FinalizeIntended(upload=Upload(size=BYTES)),
        FileNamed(file=file),
        FileReady(file_expires_at=None),
        CreateIntended(tag=naming.job_tag(RUN.token, shard(0), number), intent_at=1.0),
        CreateAmbiguous(ambiguous_at=2.0, reason="the reply was lost"),
        AttemptAbandoned(reason="no job"),
    ):
        row = await manifest.write(Change(row, event))
    assert row.state is State.SEALED
    return row


async def test_the_file_and_the_job_of_an_earlier_attempt_are_still_known() -> None:
    """Its file can be revoked by our name, and a late job of it is found by its input file."""
    service = ToyService(Variant(upload="whole", chosen_names=False, tags=False), Faults())
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await claimed(manifest)
        first = service.store("", "", LINE).name
        second = service.store("", "", LINE).name
        for number, file in enumerate((first, second), 1):
            row = await attempt(manifest, row, number, file)
        provider = translated(ToyProvider(service), manifest, RUN)
        service.accept("", first, None)
        (job,) = (await provider.list_page(None)).jobs
        assert job.display_name == naming.job_tag(RUN.token, shard(0), 1)
        assert await provider.find_job(job.name) is not None
        await provider.delete_file(naming.file_name(RUN.token, 0, 0, 1))
        assert list(service.files) == [second]
        assert await provider.find_file(naming.file_name(RUN.token, 0, 0, 1)) is None
        assert await provider.find_file(naming.file_name(RUN.token, 0, 0, 2)) is not None


class Counting:
    """A manifest that counts the histories that are read."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.histories = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._manifest, name)

    async def history(self, run: str, shard: int | None = None) -> list[Entry]:
        self.histories += 1
        assert shard is not None, "the history of the whole run is long"
        return await self._manifest.history(run, shard)


async def test_the_history_of_a_shard_is_read_once() -> None:
    """Every look at the list needs the names, and a run has a hundred thousand events."""
    service = ToyService(Variant(upload="whole", chosen_names=False, tags=False), Faults())
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await claimed(manifest)
        first, second = (service.store("", "", LINE).name for _ in range(2))
        await attempt(manifest, row, 1, first)
        counting = Counting(manifest)
        provider = translated(ToyProvider(service), cast("Manifest", counting), RUN)
        for _ in range(3):
            assert await provider.find_file(naming.file_name(RUN.token, 0, 0, 1)) is not None
            await provider.list_page(None)
        assert counting.histories == 1
        (row,) = await manifest.rows(RUN.id)
        await attempt(manifest, row, 2, second)
        await provider.list_page(None)
        assert await provider.find_file(naming.file_name(RUN.token, 0, 0, 2)) is not None
        assert counting.histories == 2


async def test_a_service_with_our_names_and_tags_is_used_as_it_is() -> None:
    """Nothing stands between the run and its provider."""
    provider = ToyProvider(ToyService(Variant(), Faults()))
    async with open_memory() as manifest:
        assert translated(provider, manifest, RUN) is provider
