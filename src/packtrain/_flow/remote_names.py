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

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractAsyncContextManager

    from .._io.request_file import ShardReader
    from .._manifest.base import Manifest
    from .._model import Entry, RemoteFile, RemoteJob, Run, Task
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
        return None if job is None else (await self._tagged([job]))[0]

    async def list_page(self, token: str | None) -> JobPage:
        page = await self._provider.list_page(token)
        return JobPage(tuple(await self._tagged(page.jobs)), page.next_token, page.unreadable)

    async def cancel(self, name: str) -> None:
        await self._provider.cancel(name)

    def download(self, name: str, *, offset: int, etag: str | None = None) -> AbstractAsyncContextManager[Download]:
        return self._provider.download(name, offset=offset, etag=etag)

    async def _id_of(self, name: str) -> str:
        """The service's id of the file that we call so; the name itself when none was recorded."""
        if self.capabilities.chosen_names:
            return name
        named = _named(await self._manifest.history(self._run.id))
        return next((file for at, file in named.items() if naming.file_name(self._run.token, *at) == name), name)

    async def _tagged(self, jobs: Iterable[RemoteJob]) -> list[RemoteJob]:
        """With the tag of the attempt that each job's input file belongs to, where the service shows none."""
        if self.capabilities.tags:
            return list(jobs)
        tags, plain = await self._tags(), naming.plain_file
        return [
            msgspec.structs.replace(job, display_name=job.display_name or tags.get(plain(job.input_file), ""))
            for job in jobs
        ]

    async def _tags(self) -> dict[str, str]:
        """Tags by input file, of all attempts of the run that have begun."""
        named = {} if self.capabilities.chosen_names else _named(await self._manifest.history(self._run.id))
        tags: dict[str, str] = {}
        for row in await self._manifest.rows(self._run.id):
            shard = await self._manifest.shard(row)
            for attempt in range(1, row.attempt + 1):
                at = (row.shard, row.generation, attempt)
                file = named.get(at) or naming.file_name(self._run.token, *at)
                tags[naming.plain_file(file)] = naming.job_tag(self._run.token, shard, attempt)
        return tags


def _named(entries: Iterable[Entry]) -> dict[tuple[int, int, int], str]:
    """The service's ids of files, by shard, generation and attempt."""
    return {
        (entry.shard, entry.generation, entry.attempt): _detail.decode(entry.detail).file
        for entry in entries
        if entry.event == "FileNamed"
    }
