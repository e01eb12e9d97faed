"""Whether the key is of the account that made the jobs: another one does not see them, and would make them again."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from .._errors import ApiError, ManifestError
from .._model import KeyMark

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .._io.base import Remote
    from .._manifest.base import Manifest
    from .._model import Secret

#: Jobs that are asked for, the latest first.
_ASKED = 5


async def check_account(manifest: Manifest, remote: Remote, key: Secret | None) -> None:
    """Take a new key only if the service shows it what was made with the last one, or if nothing was made.

    Raises ManifestError when it does not, and what the service says about a key that it refuses.
    """
    mark = await manifest.key_mark()
    if key is None or (mark is not None and _fits(mark, key)):
        return
    if mark is not None and not await _is_ours(manifest, remote):
        raise ManifestError(
            "this state directory was driven with another key, and the service does not show its jobs to this one: "
            "with the key of another account they would be made, and paid for, again. Give a key of the same account; "
            "if it is one, and the jobs are gone because they are old, say so with `packtrain adopt STATE`"
        )
    salt = secrets.token_hex(16)
    await manifest.mark_key(KeyMark(salt, _digest(salt, key)))


async def _is_ours(manifest: Manifest, remote: Remote) -> bool:
    jobs = [job for run in await manifest.runs() for job in await manifest.jobs(run.id) if job.attempt]
    for job in sorted(jobs, key=lambda job: job.submitted_at or 0.0, reverse=True)[:_ASKED]:
        if job.batch and await _shown(remote.find_batch(job.batch)):
            return True
        if job.file and await _shown(remote.find_file(job.file)):
            return True
    return not jobs


async def _shown(look: Awaitable[object | None]) -> bool:
    try:
        return await look is not None
    except ApiError as error:
        if error.status == 403:
            return False
        raise


def _fits(mark: KeyMark, key: Secret) -> bool:
    return hmac.compare_digest(mark.digest, _digest(mark.salt, key))


def _digest(salt: str, key: Secret) -> str:
    return hashlib.sha256(f"{salt}|{key.reveal()}".encode()).hexdigest()
