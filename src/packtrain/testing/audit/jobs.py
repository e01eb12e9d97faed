"""Audit of jobs: compares the service's log with the manifest."""

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
    """Findings about the jobs of one run."""
    lives = [life for life in history.jobs.values() if life.display_name.startswith(f"pt1.{records.token}.")]
    yield from _live_at_once(lives)
    yield from _made_again(records, lives)
    yield from _intents(records, lives)
    yield from _contents(records, lives)
    yield from _adoptions(records)
    if records.published is not None:
        yield from _accounts(records, lives)


def created_after(records: Records, history: History, at: float) -> Iterator[str]:
    """I17: a finished run creates no more jobs."""
    for life in history.jobs.values():
        if life.display_name.startswith(f"pt1.{records.token}.") and life.created > at:
            yield f"I17 {life.name}: created after the output was published"


def _live_at_once(lives: list[Life]) -> Iterator[str]:
    """I2: never two live jobs for one shard and generation."""
    for one, other in itertools.combinations(sorted(lives, key=lambda life: life.created), 2):
        if _place(one) == _place(other) and other.created < _end(one):
            yield f"I2 {one.name} and {other.name}: live at once, both of shard {one.display_name.split('.')[2]}"


def _made_again(records: Records, lives: list[Life]) -> Iterator[str]:
    """I2: no second job later either, unless a person decided so; failed lines are repeated as a new generation."""
    if records.recovered:
        return  # a recovered manifest lacks earlier decisions
    for one, other in itertools.combinations(sorted(lives, key=lambda life: life.created), 2):
        place = _place(one)
        if place is None or place != _place(other):
            continue
        decided = [event.at for event in records.events.get(place, []) if event.event == "RetryDecided"]
        if not any(one.created < at <= other.created for at in decided):
            shard = f"{place[0]}.{place[1]}"
            yield f"I2 {one.name} and {other.name}: both created for shard {shard} without a decision"


def _end(life: Life) -> float:
    ends = (life.cancelled, life.ended, life.deleted)
    return min((end for end in ends if end is not None), default=float("inf"))


def _place(life: Life) -> Place | None:
    tag = _TAG.fullmatch(life.display_name)
    return (int(tag[2]), int(tag[3])) if tag else None


def _intents(records: Records, lives: list[Life]) -> Iterator[str]:
    """I4: each create was recorded before it was sent. I5: at most one create per tag has created a job.

    A second create with the same tag is sent only after the first was refused, or after its job ended before it ran.
    """
    if records.recovered:
        return  # a recovered manifest lacks earlier intents
    intents: dict[str, list[float]] = {}
    never_started: Counter[str] = Counter()
    for events in records.events.values():
        tag = ""
        for event in events:
            if event.event == "CreateIntended" and event.tag:
                tag = event.tag
                intents.setdefault(tag, []).append(event.at)
            never_started[tag] += event.event == "JobNeverStarted"
    made = Counter(life.display_name for life in lives)
    for life in lives:
        if not any(at <= life.created for at in intents.get(life.display_name, [])):
            yield f"I4 {life.name}: created as {life.display_name} without an earlier intent"
    for tag, count in made.items():
        if count > min(1 + never_started[tag], len(intents.get(tag, []))):
            yield f"I5 {count} jobs were created as {tag}, by {len(intents.get(tag, []))} intended creates"


def _contents(records: Records, lives: list[Life]) -> Iterator[str]:
    """I6: the input of a job is the sealed shard."""
    for life in lives:
        tag, place = _TAG.fullmatch(life.display_name), _place(life)
        shard = records.shards.get(place) if place else None
        if shard is None or tag is None:
            yield f"I6 {life.name}: is called {life.display_name}, but there is no such shard"
        elif (tag[5], int(tag[6])) != (shard.sha256[:16], shard.lines):
            yield f"I6 {life.name}: is called {life.display_name}, but the shard has other content"
        elif life.content and (life.content.bytes, life.content.sha256) != (shard.bytes, shard.sha256):
            yield f"I6 {life.name}: its file {life.file} differs from the sealed shard"


def _adoptions(records: Records) -> Iterator[str]:
    """I2: at most one adopted job per shard and generation, unless a person decided in between."""
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
    """I18: each created job was adopted, or is reported as a duplicate."""
    events = itertools.chain.from_iterable(records.events.values())
    adopted = {event.job for event in events if event.event == "JobAdopted" and event.job}
    made = {life.name for life in lives}
    unreported = made - adopted - records.duplicate_jobs.keys()
    yield from (f"I18 {name}: created, but neither adopted nor reported" for name in sorted(unreported))
    yield from (f"I18 {name}: adopted, but never created" for name in sorted(adopted - made))
