"""Tamper with each file of a state directory at many moments of a run, and see that nothing is paid for twice.

``python -m tests.crash.tampering`` is the long form. A small run is killed, or has ended; then one file of its state
directory is deleted, emptied, cut in half, put back as it was before, or has one bit flipped, in the database also
in the bytes of a row. The same command is given again. It may refuse with a message, or finish with the files of an
undisturbed run; the service's own record must never show a second job for a shard.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from msgspec import Struct

from tests.crash.small_runs import CALM, Calm, SmallRuns, files, open_runs, state_of, undisturbed
from tests.forks import exit_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

How = Literal["deleted", "emptied", "cut", "older", "bit", "row"]
#: Exit codes of a refusal: the input, a decision, the state directory.
REFUSED = frozenset({3, 5, 6})
AGAIN, STARTS = 75, 3
#: Where the values of rows are in a database file: tokens and tags, names at the service, states, JSON.
_ROWS = re.compile(rb"pt1\.|files/|batches/|sealed|submitted|uploaded|closed|landed|create_intent|\{\"")
_TOKEN = re.compile(r"\b[a-z2-7]{26}\b")
DATABASE = "manifest.db"


class Case(Struct, frozen=True, kw_only=True):
    """``file`` is a path below the state directory, with TOKEN for that of the run; ``moment`` is where the run is
    killed, None after its end, and ``before`` where an older copy is of."""

    file: str
    how: How
    moment: str | None
    before: str
    seed: int


class Verdict(Struct, frozen=True, kw_only=True):
    case: Case
    #: ``missed`` when there was nothing to tamper with.
    outcome: Literal["refused", "finished", "missed", "wrong"]
    wrong: tuple[str, ...] = ()


def judge(runs: SmallRuns, calm: Calm, case: Case) -> Verdict:
    place = runs.place()
    older = _first_life(runs, place, calm, case)
    tokens, path = _tokens(place), _found(place, case.file)
    if path is None or not tamper(path, case.how, older, random.Random(case.seed)):
        return Verdict(case=case, outcome="missed")
    said = len((place / "log").read_text(errors="replace"))
    try:
        code = _again(runs, place, calm)
    except TimeoutError:
        return Verdict(case=case, outcome="wrong", wrong=("it hung",))
    log = (place / "log").read_text(errors="replace")[said:]
    wrong = list(_flaws(runs, place, calm, code, log, tokens | _tokens(place)))
    outcome: Literal["refused", "finished"] = "refused" if code in REFUSED else "finished"
    return Verdict(case=case, outcome="wrong" if wrong else outcome, wrong=tuple(wrong))


def _first_life(runs: SmallRuns, place: Path, calm: Calm, case: Case) -> bytes | None:
    """To its moment; returns an older copy of the file, if there was one."""
    kill = f"{case.moment}=kill@1" if case.moment else ""
    if case.how != "older":
        runs.live(place, calm.input, kill)
        return None
    process = runs.start(place, calm.input, f"{case.before}=stop@1;{kill}")
    copy = None
    if _stopped(process.pid or 0):
        path = _found(place, case.file)
        copy = path.read_bytes() if path else None
        os.kill(process.pid or 0, signal.SIGCONT)
    exit_code(process)
    return copy


def _stopped(pid: int) -> bool:
    """Whether the process comes to stop before it ends."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state in "TZX":
            return state == "T"
        time.sleep(0.002)


def tamper(path: Path, how: How, older: bytes | None, chance: random.Random) -> bool:
    """False when it would change nothing. The file keeps its number, since a database with another one is a copy."""
    if how == "row":
        _checkpoint(path)
    content = path.read_bytes()
    changed = _changed(content, how, older, chance)
    if changed == content:
        return False
    if changed is None:
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(changed)
    return True


def _changed(content: bytes, how: How, older: bytes | None, chance: random.Random) -> bytes | None:
    match how:
        case "deleted":
            return None
        case "emptied":
            return b""
        case "cut":
            return content[: len(content) // 2]
        case "older":
            return content if older is None else older
    places = [found.start() for found in _ROWS.finditer(content)] if how == "row" else []
    at = min(chance.choice(places) + chance.randrange(40), len(content) - 1) if places else None
    if at is None:
        at = chance.randrange(len(content)) if content and how == "bit" else None
    if at is None:
        return content
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def _checkpoint(path: Path) -> None:
    """Rows are in the log until then, whose checksums would show a change."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _again(runs: SmallRuns, place: Path, calm: Calm) -> int:
    """The same command, once more where it says that it is to be given again."""
    for _ in range(STARTS):
        if (code := runs.live(place, calm.input)) != AGAIN:
            break
    return code


def _flaws(runs: SmallRuns, place: Path, calm: Calm, code: int, log: str, tokens: Iterable[str]) -> Iterator[str]:
    jobs = Counter(shard for token in tokens for shard, _ in runs.jobs_of(token))
    for shard, made in jobs.items():
        if made > 1:
            yield f"{made} jobs for shard {shard}"
    if "Traceback" in log:
        yield f"a traceback was shown: {log[-600:]}"
    if code in REFUSED:
        if "packtrain: " not in log:
            yield f"refused with {code} without a word"
        return
    if code != calm.code:
        yield f"ended with {code} instead of {calm.code}: {log[-600:]}"
    found = files(place)
    for name in sorted(found | calm.files):
        if found.get(name) != calm.files.get(name):
            yield f"{name} differs"


def _tokens(place: Path) -> set[str]:
    """Of all runs that were ever here."""
    state = state_of(place)
    record = state / "manifest.run"
    named = record.read_text(errors="replace") if record.exists() else ""
    return {*_TOKEN.findall(named), *(path.name for path in state.glob("shards/*"))}


def _found(place: Path, name: str) -> Path | None:
    found = [path for path in sorted(state_of(place).glob(name.replace("TOKEN", "*"))) if path.is_file()]
    return found[0] if found else None


def moments(calm: Calm, count: int) -> list[str | None]:
    """So many points of the run, one after the other, and its end."""
    points = list(calm.points)
    return [*(points[at * len(points) // count] for at in range(count)), None]


def cases(runs: SmallRuns, calm: Calm, count: int, seed: int) -> Iterator[Case]:
    """Each file that is there at each moment, in each way. Which files these are shows one life to each moment."""
    chosen, chance = moments(calm, count), random.Random(seed)
    for number, moment in enumerate(chosen):
        place = runs.place()
        runs.live(place, calm.input, f"{moment}=kill@1" if moment else "")
        for path in sorted(state_of(place).rglob("*")):
            if not path.is_file():
                continue
            name = _TOKEN.sub("TOKEN", str(path.relative_to(state_of(place))))
            for how in get_args(How):
                if how != "row" or name == DATABASE:
                    before = chosen[number * chance.randrange(1, 4) // 4] or ""
                    yield Case(file=name, how=how, moment=moment, before=before, seed=chance.randrange(2**32))


def suffer(runs: SmallRuns, calm: Calm, chosen: Sequence[Case], *, abreast: int = 2) -> Iterator[Verdict]:
    with ThreadPoolExecutor(abreast) as pool:
        yield from pool.map(partial(judge, runs, calm), chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--cases", type=int, help="so many of all, by chance")
    parser.add_argument("--files", help="only those whose name has this in it")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--minutes", type=float, help="at most so many")
    parser.add_argument("--abreast", type=int, default=2)
    chosen = parser.parse_args(arguments)
    figures: Counter[str] = Counter()
    deadline = time.monotonic() + chosen.minutes * 60 if chosen.minutes else None
    with tempfile.TemporaryDirectory() as name:
        calm = undisturbed(Path(name) / "calm", [CALM])[CALM.name]
        with open_runs(Path(name) / "torn", CALM) as runs:
            every = [
                case for case in cases(runs, calm, chosen.moments, chosen.seed) if (chosen.files or "") in case.file
            ]
            random.Random(chosen.seed).shuffle(every)
            every = every[: chosen.cases]
            # A few at a time, so that the end comes soon after the deadline.
            for at in range(0, len(every), 4 * chosen.abreast):
                if deadline is None or time.monotonic() < deadline:
                    report(suffer(runs, calm, every[at : at + 4 * chosen.abreast], abreast=chosen.abreast), figures)
    print(json.dumps({"seed": chosen.seed, "of": len(every), "cases": figures.total(), **figures}))
    return 1 if figures["wrong"] else 0


def report(verdicts: Iterable[Verdict], figures: Counter[str]) -> None:
    """Count them; what went wrong is said at once."""
    for verdict in verdicts:
        figures[verdict.outcome] += 1
        for wrong in verdict.wrong:
            print(f"{verdict.case}: {wrong}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
