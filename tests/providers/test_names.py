"""Our names of files and jobs at a service that knows neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from packtrain._model import ShardRow

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


async def test_a_service_with_our_names_and_tags_is_used_as_it_is() -> None:
    """Nothing stands between the run and its provider."""
    provider = ToyProvider(ToyService(Variant(), Faults()))
    async with open_memory() as manifest:
        assert translated(provider, manifest, RUN) is provider
