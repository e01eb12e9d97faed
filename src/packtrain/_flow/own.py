"""What a run makes itself: no input of it, where a directory or a glob brings it in."""

from __future__ import annotations

from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

if TYPE_CHECKING:
    from .._io.spool import Spool
    from .output import Output

#: Of a state directory, in which other files may lie as well.
_OF_STATE = ("keys", "lock", "manifest.*", "recovering.*", "results", "service", "shards", "status.json*")


class Own:
    """Tells these files by their names, for they come and go while the input is looked for. Blocks."""

    def __init__(self, spool: Spool, output: Output | None) -> None:
        self._names = [(spool.root.resolve(), name) for name in _OF_STATE]
        if output is not None:
            beside = output.path.parent.resolve()
            names = [path.name for path in output.lists()]
            if output.parts:
                answers = output.path.resolve()
                self._names += [(answers, name) for name in ("part-[0-9][0-9][0-9][0-9][0-9].jsonl", "_SUCCESS")]
            else:
                names.append(output.path.name)
            self._names += [(beside, escape(name)) for name in names]

    def __contains__(self, path: object) -> bool:
        """Also what lies in a directory of the run's."""
        place = Path(str(path)).resolve()
        return any(map(self._is_own, (place, *place.parents)))

    def _is_own(self, place: Path) -> bool:
        name = place.name.removesuffix(".tmp")
        return any(place.parent == directory and fnmatchcase(name, pattern) for directory, pattern in self._names)


async def own_files(spool: Spool, output: Output | None = None) -> Own:
    """Those of all runs of a state directory, and the answers and lists of the one that goes to ``output``."""
    return await anyio.to_thread.run_sync(Own, spool, output)
