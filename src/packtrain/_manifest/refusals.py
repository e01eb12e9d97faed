"""What every kind of manifest says when it refuses, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ManifestError

if TYPE_CHECKING:
    from .._model import Job, Shard


def unknown_run(run: str) -> ManifestError:
    return ManifestError(f"run {run!r} is not in this manifest; see its name, or give another --state")


def unknown_shard(job: Job) -> ManifestError:
    return ManifestError(f"run {job.run!r} has no shard {job.shard}, generation {job.generation}")


def other_fingerprint(run: str) -> ManifestError:
    return ManifestError(
        f"run {run!r} was started with another input, model or setting; "
        "start it as it was, or give this one another run id or --state"
    )


def not_published(run: str) -> ManifestError:
    return ManifestError(f"run {run!r} is not published, nothing was written; start it again to finish it")


def token_taken(run: str) -> ManifestError:
    return ManifestError(f"run {run!r}: its token belongs to another run; every run needs a token of its own")


def sealed_already(shard: Shard) -> ManifestError:
    return ManifestError(
        f"run {shard.run!r}: shard {shard.index}, generation {shard.generation} is in the manifest already; "
        "start the run again to read anew"
    )


def stale(job: Job) -> ManifestError:
    return ManifestError(
        f"run {job.run!r}, shard {job.shard}: no longer {job.state} in attempt {job.attempt} under claim "
        f"{job.fence}, nothing was written; claim it again to read anew"
    )


def claim_lost(job: Job) -> ManifestError:
    return ManifestError(
        f"run {job.run!r}, shard {job.shard}: claim {job.fence} is not the latest, nothing was written; "
        "whoever claimed it since works on it"
    )


def name_taken(job: Job) -> ManifestError:
    return ManifestError(
        f"run {job.run!r}, shard {job.shard}: another shard has the same file or job, nothing was written; "
        "see both in the history before anything is sent again"
    )
