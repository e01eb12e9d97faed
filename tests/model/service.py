"""The virtual service, and the network between it and a driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from packtrain._errors import ApiError, ProtocolError, TransportError
from packtrain._model import FileState, JobPage, JobState, RemoteFile, RemoteJob
from packtrain._options import CREATE_TIMEOUT
from packtrain._providers.gemini import CAPABILITIES
from packtrain._rules.lifecycle import CreateDeferred, CreateIntended, JobNeverStarted, UploadIntended

from .schedules import HOUR
from .virtual import Violation, pause

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from packtrain._providers.base import Capabilities

    from .schedules import Weather
    from .virtual import Key, Ledger, Time

FILE_LIFE = 48 * HOUR
#: Jobs on a page of the list: most passes are of several.
PAGE = 2
#: Seconds after which the list shows the job of a create that was refused, or the bet on the refusal is lost.
BET = 20.0
DAY = 24 * HOUR


class Later(Protocol):
    """Has something called after so many seconds, whoever is dead by then."""

    def __call__(self, seconds: float, call: Callable[..., object], *values: object) -> None: ...


@dataclass
class VirtualJob:
    """A job as it is in truth. ``visible_at`` is when the list begins to show it."""

    name: str
    tag: str
    file: str
    key: Key
    accepted_at: float
    visible_at: float
    ends_at: float
    end: JobState
    #: The service refuses it after its creation, before it runs.
    never_starts: bool = False
    cancelled_at: float | None = None
    #: It was made by a create that the service answered with a refusal.
    refused_aloud: bool = False
    #: A false end of it was shown.
    misreported: bool = False

    def is_refused(self, now: float) -> bool:
        return self.never_starts and self.state(now).terminal

    def state(self, now: float) -> JobState:
        if self.cancelled_at is not None and self.cancelled_at < self.ends_at:
            return JobState.CANCELLED
        if now >= self.ends_at:
            return self.end
        return JobState.PENDING if now < self.accepted_at + 60 else JobState.RUNNING


class VirtualService:
    """What the service holds, and the truth about it: an account that no client can write to.

    ``weather`` says what goes wrong, and ``starts`` which jobs start; each create arrives on time, late, or never.
    """

    def __init__(self, time: Time, random: Random, weather: Weather, ledger: Ledger, starts: Random) -> None:
        self._starts = starts
        self._time = time
        self._random = random
        self._weather = weather
        self._ledger = ledger
        self.files: dict[str, float] = {}
        self.jobs: list[VirtualJob] = []
        #: Creates sent, by tag.
        self.sent: dict[str, int] = {}

    def put(self, name: str) -> float:
        """A finished upload; when the file expires."""
        self.files[name] = self._time.now + FILE_LIFE
        return self.files[name]

    def started(self, key: Key) -> list[VirtualJob]:
        """The jobs of a shard without those that were refused before they ran."""
        return [job for job in self.jobs if job.key == key and not job.is_refused(self._time.now)]

    def has(self, name: str) -> bool:
        return self.files.get(name, 0.0) > self._time.now

    def accept(self, tag: str, file: str) -> VirtualJob | None:
        """A create arrives. None when it is refused for want of its file."""
        if self._weather.checks_file and not self.has(file):
            return None
        now, shard, generation = self._time.now, *map(int, tag.split(".")[2:4])
        earlier = self.started((shard, generation))
        if not self._weather.delivers_twice and not all(self._is_hidden(job) for job in earlier):
            raise Violation(f"a second job for shard {shard}: {tag} after {[job.tag for job in earlier]}")
        ends_at, end = self._weather.draw_end(self._random, now)
        never_starts = self._starts.random() < self._weather.never_starts
        if never_starts:
            ends_at, end = now + self._starts.random() * 300, JobState.FAILED
        job = VirtualJob(
            name=f"batches/b{len(self.jobs)}",
            tag=tag,
            file=file,
            key=(shard, generation),
            accepted_at=now,
            visible_at=now + self._weather.draw_lag(self._random),
            ends_at=ends_at,
            end=end,
            never_starts=never_starts,
        )
        self.jobs.append(job)
        return job

    def _is_hidden(self, job: VirtualJob) -> bool:
        """The bet on a refusal: its job is shown 20 s later, by a list that does not lie."""
        lied = self._weather.lies[0] <= self._time.now and job.accepted_at < self._weather.lies[1]
        return job.refused_aloud and (lied or job.visible_at > job.accepted_at + BET)

    def accept_aloud(self, tag: str, file: str) -> None:
        """A create arrives that the service accepts, and answers with a refusal."""
        if self._weather.accepts_refused and (job := self.accept(tag, file)):
            job.refused_aloud = True
            lag = self._random.choice((0.0, self._random.random() * BET, self._weather.draw_lag(self._random)))
            job.visible_at = self._time.now + lag

    def shown(self, job: VirtualJob) -> RemoteJob:
        state = job.state(self._time.now)
        done = state is JobState.SUCCEEDED
        return RemoteJob(
            name=job.name,
            state=state,
            display_name=job.tag if self._weather.shows_tags else "",
            input_file=job.file,
            never_started=job.is_refused(self._time.now),
            created_at=job.accepted_at,
            result_file=f"files/results-of-{job.name[8:]}" if done else None,
            requests=self._ledger.shards[job.key].lines,
        )

    def expect_intent(self, tag: str, file: str) -> None:
        """Asked as a create leaves: its intent is recorded, its file is the attempt's own, and it is sent once."""
        key = (int(tag.split(".")[2]), int(tag.split(".")[3]))
        intents = [event for event in self._ledger.events(key, CreateIntended) if getattr(event, "tag", None) == tag]
        files = [getattr(event, "file", None) for event in self._ledger.events(key, UploadIntended)]
        withdrawn = len(self._ledger.events(key, CreateDeferred)) + len(self._ledger.events(key, JobNeverStarted))
        self.sent[tag] = self.sent.get(tag, 0) + 1
        if not intents or file not in files or self.sent[tag] > min(len(intents), 1 + withdrawn):
            raise Violation(f"create {self.sent[tag]} of {tag} with {file}: {len(intents)} intents, files {files}")


class VirtualRemote:
    """One driver's way to the service, with a network between them.

    ``later`` delivers what reaches the service after its sender has given up or was killed.
    """

    #: It has input files, which the lanes put there without it.
    uploads = object()

    def __init__(
        self,
        service: VirtualService,
        time: Time,
        random: Random,
        weather: Weather,
        later: Later,
    ) -> None:
        self._service = service
        self._time = time
        self._random = random
        self._weather = weather
        self._later = later

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def now(self) -> float | None:
        if not self._weather.shows_time:
            return None
        misdated = self._random.random() < self._weather.misdated
        return self._time.now + (self._random.choice((-4, 4)) * DAY if misdated else 0.0)

    async def create(self, *, model: str, task: str, tag: str, file: str, requests: object = None) -> RemoteJob:
        del model, task, requests
        service, random, weather = self._service, self._random, self._weather
        service.expect_intent(tag, file)
        if random.random() >= weather.trouble:
            return await self._accepted(tag, file, delivered=True)
        match random.randrange(10):
            case 0:
                await pause(5)
                raise TransportError("refused to connect", sent=False)
            case 1:
                await pause(0.2)
                service.accept_aloud(tag, file)
                raise ApiError("quota", status=429, retry_after=random.choice((None, 30.0)), kind="throttled")
            case 2:
                await pause(0.2)
                raise ApiError("<html>", status=random.choice((400, 403, 502, 503)))
            case 3:
                await pause(0.2)
                service.accept_aloud(tag, file)
                raise ApiError("no", status=400, kind=random.choice(("refused", "refused", "barred", "file_gone")))
            case 4:
                await pause(CREATE_TIMEOUT)
                raise TransportError("no answer")  # it was lost on the way there
            case 5 | 6:
                self._later(CREATE_TIMEOUT + weather.draw_late(random), service.accept, tag, file)
                await pause(CREATE_TIMEOUT)
                raise TransportError("no answer")
            case 7 if weather.delivers_twice:
                self._later(random.random() * 100, service.accept, tag, file)
                return await self._accepted(tag, file, delivered=True)
            case _:
                return await self._accepted(tag, file, delivered=False)

    async def _accepted(self, tag: str, file: str, *, delivered: bool) -> RemoteJob:
        # The sender may be killed while it waits; the create arrives all the same.
        made: list[VirtualJob | None] = []
        self._later(0.1, lambda: made.append(self._service.accept(tag, file)))
        await pause(0.3)
        if not made or made[0] is None:
            raise ApiError(f"{file} was not found", status=404, kind="file_gone")
        if delivered:
            return self._service.shown(made[0])
        await pause(self._random.choice((0.0, CREATE_TIMEOUT)))
        raise self._random.choice(
            (TransportError("reset"), ApiError("unavailable", status=503, code="UNAVAILABLE"), ProtocolError("garbled"))
        )

    async def list_page(self, token: str | None) -> JobPage:
        await pause(0.1)
        now = self._time.now
        if self._weather.outage[0] <= now < self._weather.outage[1]:
            raise ApiError("unavailable", status=503, code="UNAVAILABLE")
        if self._random.random() < self._weather.page_trouble:
            if self._random.random() < 0.5:
                return JobPage((), token or "again")
            raise ApiError("unavailable", status=503, code="UNAVAILABLE")
        if self._weather.lies[0] <= now < self._weather.lies[1]:
            return JobPage((), None)
        begin = int(token) if token and token.isdigit() else 0
        visible = [job for job in reversed(self._service.jobs) if job.visible_at <= now]
        shown = tuple(self._seen(job) for job in visible[begin : begin + PAGE])
        return JobPage(shown, str(begin + PAGE) if begin + PAGE < len(visible) else None)

    async def find_job(self, name: str) -> RemoteJob | None:
        await pause(0.1)
        return next((self._seen(job) for job in self._service.jobs if job.name == name), None)

    def _seen(self, job: VirtualJob) -> RemoteJob:
        """The job as it is, or once a false end."""
        shown = self._service.shown(job)
        if job.misreported or self._random.random() >= self._weather.false_ends:
            return shown
        job.misreported = True
        state = self._random.choice((JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED, JobState.SUCCEEDED))
        never_started = self._weather.never_starts > 0 and state is JobState.FAILED
        return msgspec.structs.replace(shown, state=state, result_file=None, never_started=never_started)

    async def find_file(self, name: str) -> RemoteFile | None:
        await pause(0.1)
        return RemoteFile(name=name, state=FileState.READY, bytes=1) if self._service.has(name) else None

    async def delete_file(self, name: str) -> None:
        await pause(0.1)
        if self._random.random() < self._weather.page_trouble:
            raise TransportError("no answer")
        self._service.files.pop(name, None)

    async def cancel(self, name: str) -> None:
        await pause(0.1)
        job = next(job for job in self._service.jobs if job.name == name)
        job.cancelled_at = job.cancelled_at or self._time.now
