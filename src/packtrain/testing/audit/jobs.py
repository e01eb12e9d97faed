"""The jobs that the service's own record tells of, held against what the manifest says of them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .history import History, Life
    from .manifest import Place, Records

_TAG = re.compile(r"pt1\.([a-z2-7]{26})\.(\d+)\.(\d+)\.(\d+)\.([0-9a-f]{16})\.(\d+)")


def jobs(records: Records, history: History) -> Iterator[str]:
    """What is wrong with the jobs of one run."""
    lives = [life for life in history.jobs.values() if life.display_name.startswith(f"pt1.{records.token}.")]
    yield from _live_at_once(lives)
    yield from _made_again(records, lives)
    yield from _intents(records, lives)
    yield from _contents(records, lives)
    yield from _adoptions(records)
    if records.published is not None:
        yield from _accounts(records, lives)


def created_after(records: Records, history: History, at: float) -> Iterator[str]:
    """I17: a run that is finished asks the service for nothing more."""
    for life in history.jobs.values():
        if life.display_name.startswith(f"pt1.{records.token}.") and life.created > at:
            yield f"I17 {life.name}: created after the output was published"


def _live_at_once(lives: list[Life]) -> Iterator[str]:
    """I2: never two of one shard and generation."""
    for one, other in itertools.combinations(sorted(lives, key=lambda life: life.created), 2):
        if _place(one) == _place(other) and other.created < _end(one):
            yield f"I2 {one.name} and {other.name}: live at once, both of shard {one.display_name.split('.')[2]}"


def _made_again(records: Records, lives: list[Life]) -> Iterator[str]:
    """I2: nor a second one later, unless a person has decided so; what fails is asked again as a next generation."""
    if records.recovered:
        return  # its manifest is known to have forgotten decisions, too
    for one, other in itertools.combinations(sorted(lives, key=lambda life: life.created), 2):
        place = _place(one)
        if place is None or place != _place(other):
            continue
        decided = [event.at for event in records.events.get(place, []) if event.event == "RetryDecided"]
        if not any(one.created < at <= other.created for at in decided):
            shard = f"{place[0]}.{place[1]}"
            yield f"I2 {one.name} and {other.name}: both made for shard {shard}, and nobody had decided so"


def _end(life: Life) -> float:
    ends = (life.cancelled, life.ended, life.deleted)
    return min((end for end in ends if end is not None), default=float("inf"))


def _place(life: Life) -> Place | None:
    found = _TAG.fullmatch(life.display_name)
    return (int(found[2]), int(found[3])) if found else None


def _intents(records: Records, lives: list[Life]) -> Iterator[str]:
    """I4: each create was recorded before it was sent. I5: and of all under one tag, one alone has made a job.

    A second create under a tag is sent only after the first one was withdrawn, because it had made none.
    """
    if records.recovered:
        return  # its manifest is known to have forgotten
    intents: dict[str, list[float]] = {}
    for event in itertools.chain.from_iterable(records.events.values()):
        if event.event == "CreateIntended" and event.tag:
            intents.setdefault(event.tag, []).append(event.at)
    made = Counter(life.display_name for life in lives)
    for life in lives:
        if not any(at <= life.created for at in intents.get(life.display_name, [])):
            yield f"I4 {life.name}: created without an intent before, as {life.display_name}"
    for tag, count in made.items():
        if count > min(1, len(intents.get(tag, []))):
            yield f"I5 {count} jobs were created as {tag}, by {len(intents.get(tag, []))} intended creates"


def _contents(records: Records, lives: list[Life]) -> Iterator[str]:
    """I6: what a job was made of is what was sealed."""
    for life in lives:
        found, place = _TAG.fullmatch(life.display_name), _place(life)
        shard = records.shards.get(place) if place else None
        if shard is None or found is None:
            yield f"I6 {life.name}: is called {life.display_name}, and there is no such shard"
        elif (found[5], int(found[6])) != (shard.sha256[:16], shard.lines):
            yield f"I6 {life.name}: is called {life.display_name}, which is of other content than the shard's"
        elif life.content and (life.content.bytes, life.content.sha256) != (shard.bytes, shard.sha256):
            yield f"I6 {life.name}: its file {life.file} has not the bytes that were sealed"


def _adoptions(records: Records) -> Iterator[str]:
    """I2: never more than one for a shard and generation, unless a person has decided in between."""
    for (shard, generation), events in records.events.items():
        adopted: set[str] = set()
        for event in events:
            if event.event in ("RetryDecided", "DropDecided", "JobNeverStarted") or event.before == "quarantined":
                adopted.clear()
            if event.event == "JobAdopted" and event.job:
                adopted.add(event.job)
        if len(adopted) > 1:
            yield f"I2 shard {shard}.{generation}: adopted {' and '.join(sorted(adopted))}"


def _accounts(records: Records, lives: list[Life]) -> Iterator[str]:
    """I18: each job that was created was adopted, or is reported as one too many."""
    events = itertools.chain.from_iterable(records.events.values())
    adopted = {event.job for event in events if event.event == "JobAdopted" and event.job}
    made = {life.name for life in lives}
    yield from (
        f"I18 {name}: created, and in no account" for name in sorted(made - adopted - records.duplicate_jobs.keys())
    )
    yield from (f"I18 {name}: adopted, and never created" for name in sorted(adopted - made))
