"""``merge``: results joined to requests by key."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import InputError
from .._io.disk import fresh_draft, remove
from .._io.first_block import refuse_other_format
from .._io.join import Outputs, join_files
from .._io.output import Output
from .._io.spool import settle
from .._io.threads import in_thread, uncancelled
from .._options import Options
from .._rules.diagnosis import LineForm
from .._snapshots import MergeProgress, MergeReport, RowCounts
from .._validation import check_form, check_length, check_local, check_out
from .._wire.gemini.lines import LINES

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


async def merge(
    requests: Sequence[str | os.PathLike[str]],
    results: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    join: bool = False,
    options: Options | None = None,
    progress: MergeProgress | None = None,
) -> MergeReport:
    """Join results to requests by key, in the order of the requests, in bounded memory.

    ``out.failed.jsonl`` and ``out.unknown.jsonl`` are written next to ``out`` if they are not empty. ``progress`` is
    kept up to date meanwhile. Raises
    InputError for a file that cannot be read, OtherFormat for requests of another kind, IntegrityError for results that
    are cut short.
    """
    check_out(out)
    check_length(out)
    check_form(out)
    for name in (*requests, *results):
        check_local(name)
    output = Output(Path(out), parts=False)
    inputs, rows = [Path(path) for path in requests], [Path(path) for path in results]
    for path in inputs:
        await in_thread(partial(refuse_other_format, path, LineForm(key_alone=True), packed=False))
    await output.prepare([*inputs, *rows])
    finals = (output.path, output.list_path("failed"), output.list_path("unknown"))
    drafts = tuple(map(fresh_draft, finals))
    options = options or Options()
    work = partial(
        join_files,
        inputs,
        rows,
        Outputs(*drafts),
        with_request=join,
        window=options.join_window,
        shape=LINES,
        limit=options.max_result_line_bytes,
        progress=progress,
    )
    try:
        tally = await in_thread(work)
        await in_thread(settle, drafts, finals)
    except BaseException as error:
        await uncancelled(_give_up, drafts)
        if isinstance(error, OSError):
            raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error
        raise
    await in_thread(_remove_empty, finals[1:])
    return MergeReport(
        lines=tally.answered + tally.failed,
        answered=tally.answered,
        failed=tally.failed,
        missing=tally.missing,
        duplicates=tally.duplicates,
        unknown=tally.unknown,
        rows=RowCounts.of(tally),
    )


def _remove_empty(lists: Sequence[Path]) -> None:
    for path in lists:
        if not path.stat().st_size:
            remove("results", path)


def _give_up(drafts: Sequence[Path]) -> None:
    for path in drafts:
        remove("results", path)
