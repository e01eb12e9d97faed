"""Guards of a state directory: refuse a manifest that is lost, damaged, a copy or older than the files beside it.

This module gathers the facts and raises; ``_rules/past.py`` decides.

Also what an adoption changes, and what is written next to the database so that these guards can decide.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from .._errors import ManifestDamaged, ManifestGone, Restored
from .._io.effects import effect
from .._rules import past
from .._rules.naming import is_token
from .._rules.past import Traces
from . import queries
from .checks import row_flaws
from .identity import Identity, difference
from .witness import Token, note_token, read_tokens, read_witness, tokens_of, witness_of, write_witness

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from sqlite3 import Connection

    from .._model import Run

#: The name of the manifest of a state directory, without its ending.
_MANIFEST = "manifest"
#: Directories with a directory for each run, by its token, and other files that only a run writes.
_SPOOLED, _OTHERS = ("shards", "results", "keys"), ("status.json",)


def log_of(path: Path) -> Path:
    """Commits that are not in the database file yet; SQLite plays it into any database of that name."""
    return path.with_name(f"{path.name}-wal")


def find_traces(path: Path) -> Traces:
    """What is beside the database, before anything is written there. Blocks.

    Files of runs count for the manifest of a state directory only, not for one that is being recovered.
    """
    place, own = path.parent, path.stem == _MANIFEST
    witness = read_witness(path)
    return Traces(
        database=path.stat().st_size if path.exists() else None,
        log=log_of(path).exists(),
        witness_file=witness_of(path).exists(),
        witness=witness,
        record_file=tokens_of(path).exists(),
        record=tuple((token.id, token.run) for token in read_tokens(path)),
        spooled=_spooled(place) if own else (),
        others=tuple(name for name in _OTHERS if own and (place / name).exists()),
    )


def _spooled(place: Path) -> tuple[str, ...]:
    """Tokens of the runs that have a file here; empty directories are left by the first moments of a start.

    One file of each run is enough to know: there may be a hundred thousand.
    """
    runs = [path for kind in _SPOOLED for path in place.glob(f"{kind}/*") if is_token(path.name) and path.is_dir()]
    return tuple(sorted({path.name for path in runs if next(path.iterdir(), None) is not None}))


def admit(path: Path, now: Identity, connection: Connection) -> None:
    """Raises ManifestDamaged for a manifest with a flaw, ManifestGone for one that has forgotten its runs, and Restored
    for one that is not, or no longer, what it was at its last start."""
    refuse_flawed(path, connection)
    refuse_forgotten(path, connection)
    if _identity(path, connection) is None:
        _settle(path, now, connection)
    elif (reason := doubt(path, now, connection)) is not None:
        raise Restored(
            f"{path}: {reason}, so it may not know of all jobs that were made and paid for", state=path.parent
        )


def doubt(path: Path, now: Identity, connection: Connection) -> str | None:
    """Why this manifest may have forgotten something; None when there is no reason to think so."""
    then, traces = _identity(path, connection), find_traces(path)
    known = _known(path, connection)
    changed = None if then is None else difference(then, now)
    return past.forgotten(traces, known) or changed or past.behind(traces, known)


def refuse_lost(path: Path) -> None:
    """Raises ManifestGone or ManifestDamaged for a database that is missing, or empty, where there was one."""
    traces = find_traces(path)
    if (how := past.lost(traces)) is None:
        return
    if not traces.tokens and (traces.log or traces.database is not None):
        raise damaged(path, f"it {how}")
    raise _gone(path, how, traces)


def refuse_flawed(path: Path, connection: Connection) -> None:
    """Raises ManifestDamaged."""
    if (flaw := next(row_flaws(connection), None)) is not None:
        raise damaged(path, flaw)


def refuse_forgotten(path: Path, connection: Connection) -> None:
    """Raises ManifestGone for a whole database that knows nothing of the runs whose files are beside it."""
    traces = find_traces(path)
    if (how := past.forgotten(traces, _known(path, connection))) is not None:
        raise _gone(path, how, traces)


def refuse_begun(path: Path, run: str, connection: Connection) -> None:
    """Raises ManifestGone for a run that this database does not know, and that began under another token."""
    record = [(token.id, token.run) for token in read_tokens(path)]
    known = queries.runs(connection)
    if run in {each.id for each in known}:
        return
    token = past.began_before(run, record, {each.token for each in known})
    if token is not None:
        raise ManifestGone(
            f"{path} does not know run {run!r}, which began here as {token}: an older copy was put back, or only other "
            "runs were recovered",
            path=path,
            runs=_named(path, [token]),
        )


def take_over(path: Path, now: Identity, connection: Connection) -> None:
    """Go on with this copy by a person's decision: under another name, and with every unsent shard in doubt.

    Raises ManifestDamaged for one with a flaw, and ManifestGone for one that has forgotten its runs: it would not know
    where to look.
    """
    refuse_flawed(path, connection)
    refuse_forgotten(path, connection)
    with effect("manifest.adopt"):
        connection.execute("BEGIN IMMEDIATE")
        queries.leave_instance(secrets.token_hex(4), time.time(), connection)
        queries.doubt_unsent(time.time(), connection)
        connection.execute("COMMIT")
    _settle(path, now, connection)


def note_run(path: Path, run: Run) -> None:
    """Write down next to the manifest what ``recover`` needs to know of a run; durable on return. Blocks."""
    note_token(path, Token(run.token, run.id, run.model, run.task, run.fingerprint))


def note_create(path: Path, instance: str, event: int) -> None:
    """Write down that a create may go out after this event; durable on return. Blocks."""
    write_witness(path, instance, event)


def _gone(path: Path, how: str, traces: Traces) -> ManifestGone:
    return ManifestGone(
        f"{path} {how}; with it the knowledge of jobs is gone that may still run and cost money",
        path=path,
        runs=_named(path, traces.tokens),
    )


def _named(path: Path, tokens: Sequence[str]) -> list[tuple[str, str]]:
    """Each token with its model, as far as the record names it."""
    models = {token.run: token.model for token in read_tokens(path)}
    return [(token, models.get(token, "MODEL")) for token in tokens]


def damaged(path: Path, how: str) -> ManifestDamaged:
    return ManifestDamaged(f"{path}: damaged ({how})", path=path)


def _settle(path: Path, now: Identity, connection: Connection) -> None:
    """The witness first: an identity says that there is one."""
    write_witness(path, queries.instance(connection), queries.last_event(connection))
    with effect("manifest.identity"):
        queries.set_identity(msgspec.json.encode(now).decode(), connection)


def _identity(path: Path, connection: Connection) -> Identity | None:
    text = queries.identity(connection)
    try:
        return None if text is None else msgspec.json.decode(text, type=Identity)
    except msgspec.DecodeError as error:
        raise damaged(path, f"its identity cannot be read: {error}") from error


def _known(path: Path, connection: Connection) -> past.Known:
    return past.Known(
        instance=queries.instance(connection),
        settled=_identity(path, connection) is not None,
        event=queries.last_event(connection),
        tokens=tuple(run.token for run in queries.runs(connection)),
    )
