"""Whether this is the account that made the jobs, at the service that has them: any other would make them again."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from .._errors import ApiError, ManifestError
from .._model import KeyMark, State
from .._rules import naming

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from .._io.base import Remote
    from .._manifest.base import Manifest
    from .._model import Job, Secret

#: Jobs that are asked for, the latest first.
_ASKED = 5


async def check_account(manifest: Manifest, remote: Remote, place: str, key: Secret | None, state: Path) -> None:
    """Take a new key, or a service at a new place, only if what was made with the last one is shown there.

    ``place`` is the service's origin, or the directory of one that is at another port at each start; ``state`` is the
    state directory.

    Raises ManifestError when nothing of it is shown, and what the service says about a key that it refuses.
    """
    mark = await manifest.key_mark()
    if mark is not None and _fits(mark, place, key):
        return
    if mark is not None and not await _is_ours(manifest, remote):
        told = _elsewhere(mark.place, place) if mark.place != place else _OTHER_KEY
        raise ManifestError(f"{told} with `packtrain adopt {state}`")
    salt = secrets.token_hex(16)
    await manifest.mark_key(KeyMark(salt, _digest(salt, key), place))


_OTHER_KEY = (
    "this state directory was driven with another key, and the service does not show its jobs to this one: with the "
    "key of another account they would be made, and paid for, again. Give a key of the same account; if it is one, and "
    "the jobs are gone because they are old, say so"
)


def _elsewhere(then: str, now: str) -> str:
    return (
        f"this state directory was driven with the service at {then or 'another address'}, and the one at {now} does "
        "not show its jobs: they would be made, and paid for, again. Give --service as it was; if it is the same "
        "service, and the jobs are gone because they are old, say so"
    )


async def _is_ours(manifest: Manifest, remote: Remote) -> bool:
    jobs = [(run, job) for run in await manifest.runs() for job in await manifest.jobs(run.id) if _left_something(job)]
    for run, job in sorted(jobs, key=lambda found: found[1].submitted_at or 0.0, reverse=True)[:_ASKED]:
        if job.batch and await _shown(remote.find_batch(job.batch)):
            return True
        for attempt in range(job.attempt, 0, -1):
            name = naming.file_name(run.token, job.shard, job.generation, attempt)
            if await _shown(remote.find_file(name)):
                return True
    return not jobs


def _left_something(job: Job) -> bool:
    """Until its last bytes are sent, a first upload leaves nothing that a service would show."""
    return job.attempt > 1 or (job.attempt == 1 and job.state is not State.UPLOADING)


async def _shown(look: Awaitable[object | None]) -> bool:
    try:
        return await look is not None
    except ApiError as error:
        if error.status == 403:
            return False
        raise


def _fits(mark: KeyMark, place: str, key: Secret | None) -> bool:
    return mark.place == place and hmac.compare_digest(mark.digest, _digest(mark.salt, key))


def _digest(salt: str, key: Secret | None) -> str:
    return hashlib.sha256(f"{salt}|{key.reveal()}".encode()).hexdigest() if key else ""
