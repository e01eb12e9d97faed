"""The stages of a run, each by itself on plain files."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from ._disk import disk_errors, make_directory, remove
from ._errors import IncompleteRun, InputError, IntegrityError
from ._flow import upload as uploading
from ._flow.context import Context
from ._flow.groups import plain_errors
from ._flow.ingest import Ingest
from ._flow.judge import Judge
from ._flow.merge import Output
from ._flow.scanning import Scanner, scanning
from ._flow.signals import Changes, Meter
from ._io.clock import SystemClock
from ._io.gemini import GeminiRemote
from ._io.inputs import named_files, open_sources
from ._io.join import join_files
from ._io.joined import Outputs
from ._io.ledger import Ledger
from ._io.spool import RunSpool, Spool, settle
from ._io.transport import open_transport
from ._manifest.lock import holder
from ._manifest.memory import open_memory
from ._manifest.sqlite import open_sqlite
from ._manifest.witness import read_tokens
from ._model import Cursor, Job, Reject, RemoteFile, Run, Shard, State
from ._options import KIB, Options
from ._reports import CheckReport, MergeReport, SplitReport, Status
from ._rules import naming
from ._rules.rolling import Roller
from ._service import GEMINI_LIMITS, Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from io import BufferedReader

    from ._io.inputs import Inputs
    from ._io.sources import Source
    from ._rules.records import Batch

#: Rejects that a report lists; the rest are only counted.
_LISTED = 1000
#: What a file is known by before it is read whole: so many pieces of it, of so many bytes.
_SAMPLES, _SAMPLE_BYTES = 16, 64 * KIB


async def check(inputs: Inputs, *, options: Options | None = None) -> CheckReport:
    """Judge every line and keep nothing. Raises InputError for input that cannot be read."""
    counts = _Counts()
    with plain_errors():
        await _check(inputs, options or Options(), counts)
    return CheckReport(
        lines=counts.lines, valid=counts.valid, rejected=counts.rejected, blank=counts.blank, rejects=counts.rejects
    )


async def _check(inputs: Inputs, options: Options, counts: _Counts) -> None:
    roller = Roller(options.shard_bytes or GEMINI_LIMITS.shard_bytes)
    async with _scratch() as directory:
        ledger = Ledger(directory, memory_keys=options.ledger_keys)
        await anyio.to_thread.run_sync(ledger.restore, 0)
        judge = Judge(options, roller, ledger)
        async with Scanner(options) as scanner:
            for source in await open_sources(inputs):
                async with source:
                    await source.verify()
                    await _check_source(judge, source, scanner, options, counts, ledger)
        ledger.close()


class _Counts:
    """What a check has come to so far."""

    def __init__(self) -> None:
        self.lines = self.valid = self.rejected = self.blank = 0
        self.rejects: list[Reject] = []

    def add(self, batch: Batch) -> None:
        self.lines += batch.lines
        self.valid += len(batch.ends)
        self.rejected += len(batch.rejects)
        self.blank += batch.blank
        self.rejects += batch.rejects[: _LISTED - len(self.rejects)]


async def _check_source(
    judge: Judge, source: Source, scanner: Scanner, options: Options, counts: _Counts, ledger: Ledger
) -> None:
    def take(batch: Batch, before: int) -> Batch:
        batch = judge.judge(batch, before)
        ledger.add(batch.keys)
        return batch

    before = counts.lines
    async with scanning(source, scanner, options) as window:
        while (pending := await window.take()) is not None:
            judged = await pending.batch()
            counts.add(await anyio.to_thread.run_sync(take, judged, counts.lines - before))
    if options.max_rejects is not None and counts.rejected > options.max_rejects:
        raise InputError(f"{counts.rejected} bad lines, more than the {options.max_rejects} allowed")


async def split(inputs: Inputs, out_dir: str | os.PathLike[str], *, options: Options | None = None) -> SplitReport:
    """Cut the input into ``shard-00000.jsonl`` and so on, and list bad lines in ``rejected.jsonl``.

    The same input and limits give the same files; those of an earlier cut in ``out_dir`` are removed first. Raises
    InputError when nothing in it is usable.
    """
    options, directory = options or Options(), Path(out_dir)
    limits = msgspec.structs.replace(
        GEMINI_LIMITS,
        shard_bytes=options.shard_bytes or GEMINI_LIMITS.shard_bytes,
        shard_requests=options.shard_requests,
    )
    run = Run(id="split", token="", fingerprint="", model="", task="generate", limits=limits)
    rejects = directory / "rejected.jsonl"

    def shard_path(index: int) -> Path:
        return directory / f"shard-{index:05d}.jsonl"

    await anyio.to_thread.run_sync(_empty, directory, await named_files(inputs))
    async with open_memory() as manifest, _scratch(directory) as scratch:
        await manifest.open_run(run)
        ingest = Ingest(
            run,
            await open_sources(inputs),
            manifest=manifest,
            # Nothing takes shards away here, so a budget would only stop the work.
            options=msgspec.structs.replace(options, spool_bytes=1 << 62),
            shard_path=shard_path,
            rejects=rejects,
            keys=scratch,
            changes=Changes(),
            meter=Meter(),
        )
        with plain_errors():
            await ingest.ingest()
        cursor = await manifest.cursor(run.id)
        shards = [await manifest.shard(job) for job in await manifest.jobs(run.id)]
    if not cursor.rejected:
        await anyio.to_thread.run_sync(remove, "rejects", rejects)
    return SplitReport(
        shards=shards,
        files=[str(shard_path(shard.index)) for shard in shards],
        lines=cursor.lines,
        valid=cursor.valid,
        rejected=cursor.rejected,
        rejects_file=str(rejects) if cursor.rejected else None,
    )


def _empty(directory: Path, inputs: Sequence[Path]) -> None:
    """Blocking. Take away what an earlier cut left, so that no line stands in two. Raises InputError for an input."""
    with disk_errors(directory):
        make_directory("shard", directory)
        left = [*directory.glob("shard-[0-9][0-9][0-9][0-9][0-9].jsonl"), directory / "rejected.jsonl"]
        for path in filter(Path.exists, inputs):
            if any(name.exists() and path.samefile(name) for name in left):
                raise InputError(f"{path} is an input, and would be written over; choose another --out-dir")
        for path in left:
            remove("shard", path)


async def merge(
    requests: Sequence[str | os.PathLike[str]],
    results: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    join: bool = False,
    options: Options | None = None,
) -> MergeReport:
    """Join results to requests by key, in the order of the requests, in bounded memory.

    Beside ``out`` stand ``out.failed.jsonl`` and ``out.unknown.jsonl`` if there is anything in them. Raises
    InputError for a file that cannot be read, IntegrityError for results that are cut short.
    """
    output = Output(Path(out), parts=False)
    inputs, rows = [Path(path) for path in requests], [Path(path) for path in results]
    await anyio.to_thread.run_sync(output.prepare, [*inputs, *rows])
    finals = (output.path, output.beside("failed"), output.beside("unknown"))
    drafts = tuple(path.with_name(path.name + ".tmp") for path in finals)
    window = (options or Options()).join_window
    work = partial(join_files, inputs, rows, Outputs(*drafts), with_request=join, window=window)
    try:
        tally = await anyio.to_thread.run_sync(work)
        await anyio.to_thread.run_sync(settle, drafts, finals)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_give_up, drafts)
        if isinstance(error, OSError):
            raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error
        raise
    for path in finals[1:]:
        if not path.stat().st_size:
            await anyio.to_thread.run_sync(remove, "results", path)
    return MergeReport(
        lines=tally.answered + tally.failed,
        answered=tally.answered,
        failed=tally.failed,
        missing=tally.missing,
        duplicates=tally.duplicates,
        unknown=tally.unknown,
    )


def _give_up(drafts: Sequence[Path]) -> None:
    for path in drafts:
        remove("results", path)


async def upload(
    files: Sequence[str | os.PathLike[str]], *, service: Service, options: Options | None = None
) -> list[RemoteFile]:
    """Upload each file and give what the service made of it, in the same order.

    ``FILE.upload`` beside a file keeps how far its upload got; start again to go on. The name at the service is
    made of the content, so a file that stands there already is not sent twice. Raises as ``Client.run`` does.
    """
    options, meter = options or Options(), Meter()
    paths = [Path(file) for file in files]
    tokens = await anyio.to_thread.run_sync(_tokens, paths)
    # Files of one content are one file at the service.
    once = dict(zip(tokens, paths, strict=True))
    found: dict[str, RemoteFile] = {}
    slots = anyio.CapacityLimiter(options.uploads)
    async with open_transport(service, connections=options.uploads + 2) as transport:
        remote = GeminiRemote(transport, SystemClock(), sent=meter.sent)

        async def one(path: Path, token: str) -> None:
            async with slots:
                found[token] = await _upload_one(path, token, remote, service, options)

        with plain_errors():
            async with anyio.create_task_group() as tasks:
                for token, path in once.items():
                    tasks.start_soon(one, path, token)
    return [found[token] for token in tokens]


async def _upload_one(path: Path, token: str, remote: GeminiRemote, service: Service, options: Options) -> RemoteFile:
    if there := await remote.find_file(naming.file_name(token, 0, 0, 1)):
        size, digest = await anyio.to_thread.run_sync(_measure, path)
        exact = _token(digest)
        if there.bytes == size and there.sha256 in ((None, digest) if token == exact else (digest,)):
            return there
        if token != exact:  # another file that looks like this one
            return await _upload_one(path, exact, remote, service, options)
    state = path.with_name(path.name + ".upload")
    async with open_sqlite(Spool(state).manifest) as manifest:
        limits = service.limits
        run = Run(id="upload", token=token, fingerprint=token, model="", task="generate", limits=limits)
        run = await manifest.open_run(run)
        if not (await manifest.cursor(run.id)).done:
            size = (await anyio.to_thread.run_sync(path.stat)).st_size
            shard = Shard(run=run.id, index=0, bytes=size, lines=0, sha256="", first=0, last=0)
            await manifest.seal(shard, Cursor(shards=1, done=True))
        ctx = Context(
            run=run,
            service=service,
            options=options,
            spool=_OneFile(state, path),
            manifest=manifest,
            remote=remote,
            clock=SystemClock(),
            changes=Changes(),
        )
        job = await _send(ctx)
    file = await remote.find_file(job.file) if job.file and job.state is State.UPLOADED else None
    if file is None:
        raise IncompleteRun(f"{path}: not uploaded: {job.reason}", quarantined=1)
    await anyio.to_thread.run_sync(shutil.rmtree, state)
    return file


async def _send(ctx: Context) -> Job:
    job = (await ctx.manifest.jobs(ctx.run.id))[0]
    while job.state in (State.SEALED, State.UPLOADING, State.FINALIZING):
        if job.state is State.SEALED:
            job = await uploading.intend(ctx, job)
        job = await uploading.send_own(ctx, job)
    return job


class _OneFile(RunSpool):
    """A run whose only shard is a file of the caller's."""

    def __init__(self, root: Path, file: Path) -> None:
        super().__init__(root, "")
        self._file = file

    def shard(self, index: int, generation: int = 0) -> Path:
        return self._file

    def spoiled_shard(self, path: Path, how: str) -> IntegrityError:
        return IntegrityError(f"{path} {how}; start again once nobody changes it any more")


async def status(state: str | os.PathLike[str]) -> Status:
    """The run in a state directory as its driver last wrote it down, whether or not one is at work.

    Raises InputError when there is none.
    """
    spool = Spool(Path(state))
    try:
        text = await anyio.to_thread.run_sync(spool.status.read_bytes)
    except OSError as error:
        raise InputError(f"{spool.root}: no run has reported here yet ({error.strerror})") from error
    found = msgspec.json.decode(text, type=Status)
    tokens = await anyio.to_thread.run_sync(read_tokens, spool.manifest)
    return msgspec.structs.replace(
        found,
        token=next((token.run for token in tokens if token.id == found.statistics.run), None),
        holder=await anyio.to_thread.run_sync(holder, spool.root),
    )


def _tokens(paths: Sequence[Path]) -> list[str]:
    """Of what each file looks like, so that it is read but once, while it is sent; exact for those that look alike."""
    looks = [_look(path) for path in paths]
    return [
        look if looks.count(look) == 1 else _token(_measure(path)[1]) for path, look in zip(paths, looks, strict=True)
    ]


def _look(path: Path) -> str:
    """A token of a file's size and of samples of it, which are all of a small file."""
    with _readable(path) as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for number in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return _token(digest.hexdigest())


def _measure(path: Path) -> tuple[int, str]:
    with _readable(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _token(digest: str) -> str:
    return naming.token_from(bytes.fromhex(digest)[:16])


@contextmanager
def _readable(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


@asynccontextmanager
async def _scratch(near: Path | None = None) -> AsyncIterator[Path]:
    """A directory for what is needed only now."""
    directory = await anyio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix=".packtrain-", dir=near))
    try:
        yield Path(directory)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(shutil.rmtree, directory, ignore_errors=True))
