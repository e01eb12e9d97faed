"""Audit of state transitions. The table is a deliberate second copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .manifest import Records

#: For each event, the states in which it may occur, and the next state; empty for the same.
STEPS = {
    "UploadIntended": ("sealed", "uploading"),
    "UploadOpened": ("uploading finalizing", ""),
    "UploadLost": ("uploading finalizing", ""),
    "UploadRested": ("uploading finalizing", ""),
    "FinalizeIntended": ("uploading", "finalizing"),
    "PartStored": ("uploading finalizing", ""),
    "FileNamed": ("finalizing", ""),
    "FileReady": ("uploading finalizing", "uploaded"),
    "FileUnusable": ("uploading finalizing uploaded create_intent", "sealed"),
    "CreateIntended": ("uploaded", "create_intent"),
    "CreateDeferred": ("create_intent", "uploaded"),
    "CreateRejected": ("create_intent", "ended"),
    "CreateAmbiguous": ("create_intent", "reconciling"),
    "CreateSuspected": ("sealed uploading finalizing uploaded", "reconciling"),
    "JobAdopted": ("uploaded create_intent reconciling revoked quarantined", "submitted"),
    "RevokeIntended": ("reconciling", "revoke_intent"),
    "Revoked": ("revoke_intent", "revoked"),
    "AttemptAbandoned": ("reconciling revoked", "sealed"),
    "JobEnded": ("submitted", "ended"),
    "JobNeverStarted": ("submitted", "uploaded"),
    "ResultLost": ("ended", ""),
    "Landed": ("ended", "landed"),
    "Closed": ("landed", "closed"),
    "Quarantined": (
        "sealed uploading finalizing uploaded create_intent reconciling revoke_intent revoked submitted ended",
        "quarantined",
    ),
    "JobKept": ("quarantined", "submitted"),
    "RetryDecided": ("quarantined", "uploading"),
    "DropDecided": ("quarantined", "ended"),
}


def steps(records: Records) -> Iterator[str]:
    """I8: every shard went from SEALED to its state along the table."""
    for (shard, generation), row in records.rows.items():
        state, attempt = "sealed", 0
        for event in records.events.get((shard, generation), []):
            allowed, after = STEPS.get(event.event, ("", ""))
            if event.before != state or state not in allowed.split() or event.after != (after or state):
                yield f"I8 shard {shard}.{generation}: {event.event} from {event.before} to {event.after} in {state}"
            if event.attempt < attempt:
                yield f"I8 shard {shard}.{generation}: back from attempt {attempt} to {event.attempt}"
            state, attempt = event.after, event.attempt
        if state != row.state:
            yield f"I8 shard {shard}.{generation}: is {row.state}, but its history ends as {state}"
