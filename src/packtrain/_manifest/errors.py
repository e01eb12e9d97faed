"""What every kind of manifest says when it refuses, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._model import Run, Shard, ShardRow


def unknown_run(run: str) -> ManifestError:
    return ManifestError(f"run {run!r} is not in this manifest; see its name, or give another --state")


def unknown_shard(row: ShardRow) -> ManifestError:
    return ManifestError(f"run {row.run!r} has no shard {row.shard}, generation {row.generation}")


def other_fingerprint(then: Run, now: Run, rows: Iterable[ShardRow]) -> ManifestError:
    """``jobs`` are those of the run: when none was ever sent, its directory names nothing that may cost money."""
    settings = list(zip(_settings(then), _settings(now), strict=True))
    differ = [f"{name} {was} then and {given} now" for (name, was), (_, given) in settings if was != given]
    told = "; ".join(differ) or "out: a file then and a directory of parts now, or the other way round"
    sent = then.recovered or any(row.tag or row.attempt > 1 for row in rows)
    aside = "" if sent else "; as far as it knows no job was ever made, so its state directory may be removed as well"
    return ManifestError(
        f"the run in this state directory was started with another setting: {told}. Start it as it was, or choose "
        f"another --out, and another --state if you give one{aside}"
    )


def _settings(run: Run) -> list[tuple[str, object]]:
    """What the fingerprint covers, but for whether the answers go to a directory, which nothing else tells of."""
    return [
        ("model", run.model),
        ("task", run.task),
        ("join", "on" if run.join else "off"),
        ("max-shard-bytes", run.limits.shard_bytes),
        ("max-shard-requests", run.limits.shard_requests or "without limit"),
    ]


def not_published(run: str) -> ManifestError:
    return ManifestError(f"run {run!r} is not published, nothing was written; start it again to finish it")


def token_taken(run: str) -> ManifestError:
    return ManifestError(f"run {run!r}: its token belongs to another run; every run needs a token of its own")


def sealed_already(shard: Shard) -> ManifestError:
    return ManifestError(
        f"run {shard.run!r}: shard {shard.index}, generation {shard.generation} is in the manifest already; "
        "start the run again to read anew"
    )


def stale(row: ShardRow) -> ManifestError:
    return ManifestError(
        f"run {row.run!r}, shard {row.shard}: no longer {row.state} in attempt {row.attempt} under claim "
        f"{row.fence}, nothing was written; claim it again to read anew"
    )


def claim_lost(row: ShardRow) -> ManifestError:
    return ManifestError(
        f"run {row.run!r}, shard {row.shard}: claim {row.fence} is not the latest, nothing was written; "
        "whoever claimed it since works on it"
    )


def name_taken(row: ShardRow) -> ManifestError:
    return ManifestError(
        f"run {row.run!r}, shard {row.shard}: another shard has the same file or job, nothing was written; "
        "see both in the history before anything is sent again"
    )
