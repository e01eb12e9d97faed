"""The results of one generation of a shard, joined with its requests and folded into those before it; blocking.

What a generation leaves behind speaks for the whole shard up to there: all answers in input order, all keys still
without one, and their requests, which either make up the next generation or are kept until they are asked again.
Everything is read from front to back, so memory stays small, and nothing is changed in place.
"""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._errors import IntegrityError
from .._model import Shard, Tally, Verdict
from .._options import MAX_RESULT_LINE_BYTES, MIB
from .._rules.generations import Failed, failed_line, read_failed_line, standing, unplaced
from .._rules.lines import OWN, LineShape, is_cancelled, is_retryable, parsers
from .._rules.result_rows import key_of_row
from .disk import disk_errors, open_draft, remove, write_all
from .join import Outputs, join_files
from .places import Places
from .request_file import validated_key
from .spool import GenerationFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from .._model import ShardRow


class GenerationRequests(Struct, frozen=True, kw_only=True):
    """What was asked in one generation, and what came back."""

    requests: Path
    lines: int
    #: Files of results; none when the job left none.
    results: tuple[Path, ...]
    #: The ordinal of the shard's first request in generation 0.
    first: int
    #: Why a key has no row, and whether asking again may help.
    absent: tuple[str, bool]
    parent: GenerationFiles | None
    parent_tally: Tally = Tally()
    #: Of requests and results; lists of failed keys are in packtrain's own.
    shape: LineShape = OWN
    #: The file of places in the input, and that of the sources' names.
    places: tuple[Path, Path]
    #: Verdicts on rows that are asked again as well.
    again: frozenset[Verdict] = frozenset()
    row_limit: int = MAX_RESULT_LINE_BYTES


class RetryLines(Struct, frozen=True):
    """The requests of a next generation: how many, and the ordinals of the first and the last."""

    lines: int
    first: int
    last: int

    def shard(self, row: ShardRow, generation: int, size: int, sha256: str) -> Shard:
        """As the only child of this generation, with this number, in a file of so many bytes."""
        return Shard(
            run=row.run,
            index=row.shard,
            generation=generation,
            parent=row.generation,
            cause="retry",
            depth=row.depth + 1,
            bytes=size,
            lines=self.lines,
            sha256=sha256,
            first=self.first,
            last=self.last,
        )


def account(
    asked: GenerationRequests,
    drafts: GenerationFiles,
    child: Path | None,
    *,
    everything: bool = False,
    with_request: bool,
    window: int,
) -> tuple[Tally, RetryLines | None]:
    """Write what the generation leaves, not yet durable, and the requests to ask again to ``child`` if there is one:
    those worth it, or with ``everything`` all that have no answer.

    Returns the tally of the whole shard, and what the next generation is made of. Raises IntegrityError when
    the results are cut short or the sums do not come out.
    """
    new = _new(asked, drafts)
    tally = join_files(
        [asked.requests],
        asked.results,
        new,
        with_request=with_request,
        absent=asked.absent[0],
        window=window,
        validated=True,
        shape=asked.shape,
        limit=asked.row_limit,
        apart=asked.again if child else (),
    )
    if tally.answered + tally.failed != asked.lines:
        raise IntegrityError(
            f"{tally.answered} answers and {tally.failed} failures do not add up to {asked.lines} lines; "
            f"{asked.requests} was changed"
        )
    absent = asked.absent
    if tally.unknown:
        absent = (unplaced(absent[0], tally.unknown), False)
    with disk_errors(drafts.failed), _Sorter(asked, absent, drafts, child, everything) as sorter:
        if asked.parent is None:
            _label(asked, new, sorter)
        else:
            _fold(asked, asked.parent, new, drafts, sorter)
    if asked.parent is not None:
        tally = _added(asked.parent_tally, tally, sorter.restored, drafts.answers)
    for path in {new.answers, new.failed, new.unknown} - set(drafts.all):
        remove("results", path)
    return sorter.completed(tally), sorter.picked


def pick(kept: GenerationFiles, child: Path, *, everything: bool, shape: LineShape = OWN) -> RetryLines | None:
    """Write the requests of failed keys to ``child``: of those worth asking again, or of all. None without any."""
    picked = None
    with disk_errors(child), Lines(kept.requests, shape) as requests, Stream("shard", child) as target:
        for failed in read_failed(kept.failed):
            if everything or failed.retryable:
                target.write(requests.seek(failed.key))
                picked = following(picked, failed.ordinal)
    return picked


def following(before: RetryLines | None, ordinal: int) -> RetryLines:
    """One more request behind those picked so far."""
    return RetryLines(before.lines + 1, before.first, ordinal) if before else RetryLines(1, ordinal, ordinal)


def _new(asked: GenerationRequests, drafts: GenerationFiles) -> Outputs:
    """Where the join writes: in the first generation what is not touched afterwards is at its place already."""
    answers, failed, unknown = (path.with_name(f"new-{path.name}") for path in drafts.all[:3])
    return Outputs(answers, failed, unknown) if asked.parent else Outputs(drafts.answers, failed, drafts.unknown)


def read_failed(path: Path) -> Iterator[Failed]:
    """The failed keys of a shard, in input order."""
    with path.open("rb", buffering=MIB) as file:
        yield from map(read_failed_line, file)


class Lines:
    """Reads a file of lines with keys, in input order, once from front to back.

    ``judged``: the lines are validated requests or were written here; otherwise they are the service's result lines.
    """

    def __init__(self, path: Path, shape: LineShape = OWN, *, judged: bool = True) -> None:
        self._path = path
        self._shape = shape
        self._key_of = validated_key if judged else _key_of_row
        self._file = path.open("rb", buffering=MIB)
        self._line = self._file.readline()
        #: Lines before the one that is next.
        self.passed = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, key: str) -> bytes | None:
        """The next line if it is of this key."""
        line = self._line
        if not line or self._key_of(line, self._shape) != key:
            return None
        self._pass()
        return line

    def seek(self, key: str) -> bytes:
        """The line of this key; those before it are passed over."""
        while (line := self.take(key)) is None:
            if not self._line:
                raise IntegrityError(f"{self._path}: the line of key {key[:100]!r} is not there; the file was changed")
            self._pass()
        return line

    def _pass(self) -> None:
        self._line = self._file.readline()
        self.passed += 1


class Stream:
    """A new file, written through a buffer; ``what`` is its word in the names of effects."""

    def __init__(self, what: str, path: Path) -> None:
        self._what = what
        self._file = open_draft(what, path)
        self._buffer = bytearray()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                write_all(self._what, self._file, self._buffer)

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= MIB:
            write_all(self._what, self._file, self._buffer)
            self._buffer.clear()

    def copy(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.write(line)


class _Sorter:
    """Takes failed keys in input order, each with its request line. ``absent`` is why a key has no row, and whether
    asking again may help."""

    def __init__(
        self,
        asked: GenerationRequests,
        absent: tuple[str, bool],
        drafts: GenerationFiles,
        child: Path | None,
        everything: bool,
    ) -> None:
        self._asked = asked
        self._absent = absent
        self._everything = everything
        self._files = ExitStack()
        self._drafts = drafts
        self._path = child
        self._child: Stream | None = None
        self.picked: RetryLines | None = None
        #: Verdicts on the rows of keys that stay failed, and on earlier answers that stand after all.
        self._verdicts: Counter[Verdict] = Counter()
        self.restored: Counter[Verdict] = Counter()
        #: Keys asked again that the service had answered before.
        self._repeated = 0

    def __enter__(self) -> _Sorter:
        with ExitStack() as files:
            self._failed = files.enter_context(Stream("results", self._drafts.failed))
            self._requests = files.enter_context(Stream("results", self._drafts.requests))
            self._places = files.enter_context(Places(*self._asked.places))
            self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def judge(self, line: bytes, request: bytes, *, ordinal: int, times: int) -> Failed:
        """The key failed in this generation, as the join's ``line`` says; it was asked so many ``times``."""
        failed = read_failed_line(line)
        reason, retryable = failed.reason, False
        if memoryview(failed.error).nbytes:
            retryable = is_retryable(failed.error, self._asked.shape)
        elif not failed.verdict.is_paid:
            reason, retryable = self._absent if reason == self._asked.absent[0] else (reason, self._asked.absent[1])
        place = self._places.find(ordinal)
        return msgspec.structs.replace(
            failed,
            reason=reason,
            ordinal=ordinal,
            asked=times,
            retryable=retryable,
            source=place and place.source,
            line=place and place.line,
            request=parsers(self._asked.shape).row.decode(request).request,
        )

    def keep(self, failed: Failed, request: bytes) -> None:
        self._verdicts[failed.verdict] += 1
        self._failed.write(failed_line(failed))
        if self._path is None or not self._picks(failed):
            self._requests.write(request)
            return
        if self._child is None:
            self._child = self._files.enter_context(Stream("shard", self._path))
        self._child.write(request)
        self.picked = following(self.picked, failed.ordinal)

    def answer(self, before: Failed, now: Failed) -> bytes | None:
        """The earlier answer of a key that was asked again in vain; None when it has none, or is asked once more."""
        better = standing(before, now)
        if not better.verdict.is_answer or (self._path is not None and self._picks(better)):
            return None
        self.restored[better.verdict] += 1
        return better.row + b"\n"

    def repeat(self, before: Failed) -> None:
        """The key was asked again."""
        self._repeated += before.verdict.is_paid and bool(self._asked.results)

    def completed(self, tally: Tally) -> Tally:
        """The tally with what was counted here."""
        return msgspec.structs.replace(
            tally,
            not_json=self._verdicts[Verdict.NOT_JSON],
            too_long=self._verdicts[Verdict.TOO_LONG],
            again=self.picked.lines if self.picked else 0,
            repeated=self._asked.parent_tally.repeated + self._repeated,
        )

    def _picks(self, failed: Failed) -> bool:
        again = failed.retryable and not is_cancelled(failed.error, self._asked.shape)
        return again or self._everything or failed.verdict in self._asked.again


def _label(asked: GenerationRequests, new: Outputs, sorter: _Sorter) -> None:
    """The first generation: its failures get the ordinals of their requests."""
    with Lines(asked.requests, asked.shape) as requests, new.failed.open("rb") as failures:
        for line in failures:
            request = requests.seek(validated_key(line))
            sorter.keep(sorter.judge(line, request, ordinal=asked.first + requests.passed - 1, times=1), request)


def _fold(
    asked: GenerationRequests, parent: GenerationFiles, new: Outputs, drafts: GenerationFiles, sorter: _Sorter
) -> None:
    """A later one: its answers take their places among those of the generations before it."""
    with ExitStack() as stack:
        requests, kept, answers, failures = (
            stack.enter_context(Lines(path, OWN if path == new.failed else asked.shape, judged=path != new.answers))
            for path in (asked.requests, parent.requests, new.answers, new.failed)
        )
        old = stack.enter_context(parent.answers.open("rb", buffering=MIB))
        target = stack.enter_context(Stream("results", drafts.answers))
        position = asked.first
        for failed in read_failed(parent.failed):
            # What lies between two keys without an answer are answers.
            target.copy(itertools.islice(old, failed.ordinal - position))
            position = failed.ordinal + 1
            request, now = requests.take(failed.key), failed
            if request is not None:
                sorter.repeat(failed)
                if answer := answers.take(failed.key):
                    target.write(answer)
                    continue
                line = failures.seek(failed.key)
                now = sorter.judge(line, request, ordinal=failed.ordinal, times=failed.asked + 1)
            if (answer := sorter.answer(failed, now)) is not None:
                target.write(answer)
            else:
                sorter.keep(standing(failed, now), kept.seek(failed.key) if request is None else request)
        target.copy(old)
    with Stream("results", drafts.unknown) as unknown:
        # One that was empty is let go when a run is published.
        for path in filter(Path.exists, (parent.unknown, new.unknown)):
            with path.open("rb") as file:
                unknown.copy(file)


def _key_of_row(line: bytes, shape: LineShape) -> str:
    return key_of_row(shape, line) or ""


def _added(before: Tally, new: Tally, restored: Counter[Verdict], answers: Path) -> Tally:
    gained = new.answered + restored.total()
    return Tally(
        answered=before.answered + gained,
        failed=before.failed - gained,
        missing=new.missing,
        empty=before.empty + new.empty + restored[Verdict.EMPTY],
        blocked=before.blocked + new.blocked + restored[Verdict.BLOCKED],
        recitation=before.recitation + new.recitation + restored[Verdict.RECITATION],
        truncated=before.truncated + new.truncated + restored[Verdict.TRUNCATED],
        duplicates=before.duplicates + new.duplicates,
        unknown=before.unknown + new.unknown,
        bytes=answers.stat().st_size,
    )
