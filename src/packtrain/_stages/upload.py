"""``upload``: files sent as they are, each under a name that is made of its content."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from .._errors import InputError, IntegrityError, UploadFailed
from .._exits import plain_errors
from .._flow import uploader as uploading
from .._flow.outage import outlast
from .._flow.run import Meter, RunContext
from .._flow.shares import Shares
from .._io.clock import SystemClock
from .._io.directory import Directory
from .._io.spool import RunSpool, Spool
from .._io.threads import in_thread
from .._manifest.sqlite import open_sqlite
from .._model import Cursor, RemoteFile, Run, Shard, ShardRow, State
from .._options import KIB, Options, Policy
from .._providers import open_provider
from .._rules import naming
from .._validation import check_local

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

    from .._providers.base import Provider
    from .._providers.service import Service

#: A file is identified before it is read whole by so many pieces of it, of so many bytes.
_SAMPLES, _SAMPLE_BYTES = 16, 64 * KIB


async def upload(
    files: Sequence[str | os.PathLike[str]], *, service: Service, options: Options | None = None
) -> list[RemoteFile]:
    """Upload each file and give what the service made of it, in the same order.

    ``FILE.upload`` next to a file keeps the progress of its upload; start again to go on. The name at the service is
    made of the content, so a file that is there already is not sent twice. Raises as ``Client.run`` does.
    """
    options, meter = options or Options(), Meter()
    for file in files:
        check_local(file)
    paths = [Path(file) for file in files]
    tokens = await in_thread(_tokens, paths)
    # Files of one content are one file at the service.
    once = dict(zip(tokens, paths, strict=True))
    found: dict[str, RemoteFile] = {}
    slots = anyio.CapacityLimiter(options.uploads)
    connections = options.uploads + 2
    async with open_provider(service, SystemClock(), Policy(), connections=connections, sent=meter.sent) as provider:
        if provider.uploads is None:
            raise InputError("this service takes no files: requests are sent with the job")

        async def one(path: Path, token: str) -> None:
            async with slots:
                found[token] = await _upload_one(path, token, provider, service, options)

        with plain_errors():
            async with anyio.create_task_group() as tasks:
                for token, path in once.items():
                    tasks.start_soon(one, path, token)
    return [found[token] for token in tokens]


async def _upload_one(path: Path, token: str, provider: Provider, service: Service, options: Options) -> RemoteFile:
    find = partial(provider.find_file, naming.file_name(token, 0, 0, 1))
    if there := await outlast(find, SystemClock(), options.patience):
        size, digest = await in_thread(_measure, path)
        exact = _token(digest)
        if there.bytes == size and there.sha256 in ((None, digest) if token == exact else (digest,)):
            return there
        if token != exact:  # another file that looks like this one
            return await _upload_one(path, exact, provider, service, options)
    state = path.with_name(path.name + ".upload")
    spool = Spool(state)
    async with open_sqlite(spool.manifest) as manifest:
        limits = service.limits
        run = Run(id="upload", token=token, fingerprint=token, model="", task="generate", limits=limits)
        run = await manifest.open_run(run)
        if not (await manifest.cursor(run.id)).done:
            size = (await in_thread(path.stat)).st_size
            shard = Shard(run=run.id, index=0, bytes=size, lines=0, sha256="", first=0, last=0)
            await manifest.seal(shard, Cursor(shards=1, done=True))
        ctx = RunContext(
            run=run,
            service=service,
            options=options,
            shares=Shares(options),
            place=service.origin,
            spool=spool,
            files=_OneFile(state, path),
            manifest=manifest,
            provider=provider,
            clock=SystemClock(),
        )
        row = await outlast(partial(_send, ctx), ctx.clock, options.patience)
    assert row is not None  # there is no stop
    file = await provider.find_file(row.file) if row.file and row.state is State.UPLOADED else None
    if file is None:
        raise UploadFailed(f"{path}: not uploaded: {row.reason}", path=path)
    await in_thread(shutil.rmtree, state)
    return file


async def _send(ctx: RunContext) -> ShardRow:
    row = (await ctx.manifest.rows(ctx.run.id))[0]
    while row.state in (State.SEALED, State.UPLOADING, State.FINALIZING):
        if row.state is State.SEALED:
            row = await uploading.intend(ctx, row)
        row = await uploading.send_own(ctx, row)
    return row


class _OneFile(RunSpool):
    """A run whose only shard is a file of the caller's."""

    def __init__(self, root: Path, file: Path) -> None:
        super().__init__(root, "")
        self.shards = Directory(file.parent, "shard")
        self._name = file.name

    def shard(self, index: int, generation: int = 0) -> str:
        return self._name

    def damaged(self, path: Path, how: str) -> IntegrityError:
        return IntegrityError(f"{path} {how}; it must not change while it is uploaded")


def _tokens(paths: Sequence[Path]) -> list[str]:
    """Tokens by samples of each file, so that it is read once, while it is sent; exact for files with equal samples."""
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
