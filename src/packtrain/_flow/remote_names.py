"""Names at services that choose ids of files themselves, or show no tags.

The rest of the flow knows an input file by the name that is computed for its attempt, and a job by its tag. Where the
service knows neither, this module translates, from what the manifest recorded: ``FileNamed`` for ids, and the input
file of a listed job for its tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._model import JobPage
from .._rules import naming
from .._rules.lifecycle import FileNamed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractAsyncContextManager

    from .._io.request_file import ShardReader
    from .._manifest.base import Manifest
    from .._model import RemoteFile, RemoteJob, Run, ShardRow, Task
    from .._providers.base import (
        Capabilities,
        Download,
        OffsetUploads,
        PartUploads,
        Provider,
        WholeUploads,
    )


class _Detail(Struct):
    file: str = ""


_detail = msgspec.json.Decoder(_Detail)


def translated(provider: Provider, manifest: Manifest, run: Run) -> Provider:
    """The provider as the flow of one run sees it."""
    able = provider.capabilities
    return provider if able.chosen_names and able.tags else TranslatedProvider(provider, manifest, run)


class TranslatedProvider:
    """Implements ``Provider`` by another one: ids for our names of files, tags for input files."""

    def __init__(self, provider: Provider, manifest: Manifest, run: Run) -> None:
        self._provider = provider
        self._manifest = manifest
        self._run = run
        #: Ids by our names of files, and tags by plain names of input files, as far as they are known.
        self._ids: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        #: Attempts of each shard and generation about which nothing more can be learned.
        self._known: dict[tuple[int, int], int] = {}

    @property
    def capabilities(self) -> Capabilities:
        return self._provider.capabilities

    @property
    def uploads(self) -> OffsetUploads | PartUploads | WholeUploads | None:
        return self._provider.uploads

    def now(self) -> float | None:
        return self._provider.now()

    async def find_file(self, name: str) -> RemoteFile | None:
        return await self._provider.find_file(await self._id_of(name))

    async def delete_file(self, name: str) -> None:
        await self._provider.delete_file(await self._id_of(name))

    async def create(
        self, *, model: str, task: Task, tag: str, file: str, requests: ShardReader | None = None
    ) -> RemoteJob:
        job = await self._provider.create(model=model, task=task, tag=tag, file=file, requests=requests)
        return msgspec.structs.replace(job, display_name=job.display_name or tag)

    async def find_job(self, name: str) -> RemoteJob | None:
        job = await self._provider.find_job(name)
        if job is None or self.capabilities.tags:
            return job
        if naming.plain_file(job.input_file) not in self._tags:
            await self._learn()
        return self._tagged([job])[0]

    async def list_page(self, token: str | None) -> JobPage:
        page = await self._provider.list_page(token)
        if self.capabilities.tags:
            return page
        if token is None:
            await self._learn()
        return JobPage(self._tagged(page.jobs), page.next_token, page.unreadable)

    async def cancel(self, name: str) -> None:
        await self._provider.cancel(name)

    def download(self, name: str, *, offset: int, etag: str | None = None) -> AbstractAsyncContextManager[Download]:
        return self._provider.download(name, offset=offset, etag=etag)

    async def _id_of(self, name: str) -> str:
        """The service's id of the file that we call so; the name itself when none was recorded."""
        if self.capabilities.chosen_names or not naming.is_file_name(name):
            return name
        if name not in self._ids:
            await self._learn()
        return self._ids.get(name, name)

    def _tagged(self, jobs: Iterable[RemoteJob]) -> tuple[RemoteJob, ...]:
        """With the tag of the attempt that each job's input file belongs to, where the service shows none."""
        return tuple(
            msgspec.structs.replace(
                job, display_name=job.display_name or self._tags.get(naming.plain_file(job.input_file), "")
            )
            for job in jobs
        )

    async def _learn(self) -> None:
        """Names of the attempts that have begun since. Only histories of files without an id so far are read."""
        for row in await self._manifest.rows(self._run.id):
            place = (row.shard, row.generation)
            known = self._known.get(place, 0)
            if row.attempt <= known:
                continue
            shard, named = await self._manifest.shard(row), await self._named(row)
            for attempt in range(known + 1, row.attempt + 1):
                name = naming.file_name(self._run.token, *place, attempt)
                id = name if self.capabilities.chosen_names else named.get(attempt)
                self._tags[id or name] = naming.job_tag(self._run.token, shard, attempt)
                if id is not None:
                    self._ids[name] = id
            # The file of an earlier attempt gets no id any more.
            self._known[place] = row.attempt if name in self._ids else row.attempt - 1

    async def _named(self, row: ShardRow) -> dict[int, str]:
        """The service's ids of a row's files, by attempt."""
        if self.capabilities.chosen_names:
            return {}
        return {
            entry.attempt: naming.plain_file(_detail.decode(entry.detail).file)
            for entry in await self._manifest.history(self._run.id, row.shard)
            if entry.event == FileNamed.__name__ and entry.generation == row.generation
        }
