"""Refusals that every kind of manifest raises in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import Conflict, OtherSettings, QuotaFull, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._model import Quota, Reservation, Run, Shard, ShardRow


def quota_full(quota: Quota, amount: int) -> QuotaFull:
    return QuotaFull(
        f"{quota.service} takes {quota.most} {quota.what} at once and {quota.used} are reserved, so {amount} more do "
        "not fit, nothing was written",
        service=quota.service,
        what=quota.what,
        used=quota.used,
        most=quota.most,
        amount=amount,
    )


def unknown_run(run: str) -> UnknownRun:
    return UnknownRun(f"run {run!r} is not in this manifest", run=run)


def unknown_shard(row: ShardRow) -> Conflict:
    return Conflict(f"run {row.run!r} has no shard {row.shard}, generation {row.generation}")


def unknown_quota(reservation: Reservation) -> Conflict:
    return Conflict(f"no quota of {reservation.what} is known for {reservation.service}, nothing was written")


def other_fingerprint(then: Run, now: Run, rows: Iterable[ShardRow]) -> OtherSettings:
    """``rows`` are those of the run: when none was ever sent, its directory names nothing that may cost money."""
    settings = list(zip(_settings(then), _settings(now), strict=True))
    differ = [f"{name} {was} then and {value} now" for (name, was), (_, value) in settings if was != value]
    difference = "; ".join(differ) or "out: a file then and a directory of parts now, or the other way round"
    sent = then.recovered or any(row.tag or row.attempt > 1 for row in rows)
    return OtherSettings(
        f"the run in this state directory was started with other settings: {difference}", run=then.id, sent=sent
    )


def _settings(run: Run) -> list[tuple[str, object]]:
    """What the fingerprint covers, except whether the output is a directory, which no other field says."""
    return [
        ("model", run.model),
        ("task", run.task),
        ("join", "on" if run.join else "off"),
        ("max-shard-bytes", run.limits.shard_bytes),
        ("max-shard-requests", run.limits.shard_requests or "without limit"),
    ]


def not_published(run: str) -> Conflict:
    return Conflict(f"run {run!r} is not published, nothing was written")


def token_taken(run: str) -> Conflict:
    return Conflict(f"run {run!r}: its token belongs to another run")


def sealed_already(shard: Shard) -> Conflict:
    return Conflict(f"run {shard.run!r}: shard {shard.index}, generation {shard.generation} is in the manifest already")


def no_tally(row: ShardRow) -> Conflict:
    return Conflict(
        f"run {row.run!r}, shard {row.shard}: children are sealed with the tally of their parent, nothing was written"
    )


def stale(row: ShardRow) -> Conflict:
    return Conflict(
        f"run {row.run!r}, shard {row.shard}: no longer {row.state} in attempt {row.attempt} under claim "
        f"{row.fence}, nothing was written"
    )


def claim_lost(row: ShardRow) -> Conflict:
    return Conflict(f"run {row.run!r}, shard {row.shard}: claim {row.fence} is not the latest, nothing was written")


def name_taken(row: ShardRow) -> Conflict:
    return Conflict(f"run {row.run!r}, shard {row.shard}: another shard has the same file or job, nothing was written")


def lease_lost(node: int) -> Conflict:
    return Conflict(f"node {node} has no lease, or another node has taken over its rows")
