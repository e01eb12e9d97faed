"""When to look at the jobs again, and when looking has settled that there is none."""

from __future__ import annotations

import enum

import msgspec
from msgspec import Struct

from .._model import BatchState, RemoteBatch

_RANK = {BatchState.SUCCEEDED: 0, BatchState.RUNNING: 1, BatchState.PENDING: 2}
#: Looks for a job in doubt come at these parts of the settling time after its create: with 15 minutes after 0, 2, 5,
#: 10, 20, 40 and 60 seconds, 2, 5, 10 and 15 minutes; and then every 5 minutes.
_LOOKS = tuple(seconds / 900 for seconds in (0, 2, 5, 10, 20, 40, 60, 120, 300, 600, 900))
_SHORTEST, _LATER = 2 / 900, 300 / 900
#: Passes that say nothing, for so long, before a person must look.
_VOID_PASSES, _VOID_SECONDS = 3, 24 * 3600.0


def next_delay(quiet: int, bounds: tuple[float, float], jitter: float) -> float:
    """Seconds to the next look after ``quiet`` looks in a row that changed nothing; ±20 % jitter (in 0..1)."""
    floor, ceiling = bounds
    return min(ceiling, floor * 1.3 ** min(quiet, 60)) * (0.8 + 0.4 * jitter)


class Sight(enum.Enum):
    """What a pass over the list of jobs is worth to somebody who looks for one that is not in it."""

    #: It broke off, or does not show any job of those that it should: it says nothing.
    VOID = "void"
    #: It is complete, and nothing is known that it should have shown.
    BARE = "bare"
    #: It is complete, and shows a job that is known to exist.
    CONTROLLED = "controlled"


def sight(shown: frozenset[str], known: dict[str, float], since: float) -> Sight:
    """The worth of a complete pass that shows the jobs ``shown``, for a create in doubt since ``since``.

    ``known`` are the jobs of which we had the names before the pass began, with the time of each. The list has been
    seen empty while jobs were pending, so a pass must show one of them, and if any are younger than the doubt, one
    of these: then the list is no older than what is looked for.
    """
    younger = {name for name, at in known.items() if at > since}
    controls = younger or known.keys()
    if not controls:
        return Sight.BARE
    return Sight.CONTROLLED if shown & controls else Sight.VOID


class Search(Struct, frozen=True):
    """What looks at the list have shown of a job in doubt since ``since``: nothing so far."""

    since: float
    #: When the last look was, and the last that was not void.
    looked: float | None = None
    seen: float | None = None
    last: Sight = Sight.VOID
    bare: int = 0
    controlled: int = 0
    #: Void looks in a row.
    void: int = 0

    def after(self, now: float, worth: Sight) -> Search:
        """After one more look that did not show the job."""
        return msgspec.structs.replace(
            self,
            looked=now,
            seen=self.seen if worth is Sight.VOID else now,
            last=worth,
            bare=self.bare + (worth is Sight.BARE),
            controlled=self.controlled + (worth is Sight.CONTROLLED),
            void=self.void + 1 if worth is Sight.VOID else 0,
        )

    def absent(self, settle: float) -> bool:
        """The job was not made, as far as looking can tell."""
        waited = (self.seen or self.since) - self.since
        match self.last:
            case Sight.CONTROLLED:
                return self.controlled >= 3 and waited >= settle
            case Sight.BARE:
                return self.bare + self.controlled >= 5 and waited >= 2 * settle
            case Sight.VOID:
                return False

    def earliest(self, settle: float) -> float | None:
        """When looks that go on like the last one can be enough; None when they never are."""
        spans = {Sight.CONTROLLED: settle, Sight.BARE: 2 * settle}
        return self.since + spans[self.last] if self.last in spans else None

    def hopeless(self) -> bool:
        """Looking has told nothing for a day."""
        blind = (self.looked or self.since) - (self.seen or self.since)
        return self.void >= _VOID_PASSES and blind >= _VOID_SECONDS

    def next_look(self, settle: float, jitter: float) -> float:
        """When to look next; up to 20 % later by ``jitter`` (in 0..1)."""
        if self.looked is None:
            return self.since
        elapsed = self.looked - self.since
        ahead = next((part * settle - elapsed for part in _LOOKS if part * settle > elapsed), _LATER * settle)
        return self.looked + max(_SHORTEST * settle, ahead) * (1 + 0.2 * jitter)


def winner(matches: list[RemoteBatch]) -> RemoteBatch:
    """The one job to keep when a tag stands on several: furthest on, then oldest, then by name."""
    return min(matches, key=lambda b: (_RANK.get(b.state, 3), b.created_at or 0.0, b.name))
