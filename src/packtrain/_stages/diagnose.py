"""``diagnose``: the first block of each file, before anything is made for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._io.inputs import named_files, refuse_other_formats
from .._io.output import output_at, own_files
from .._io.spool import Spool
from .._providers.service import line_form

if TYPE_CHECKING:
    import os

    from .._io.inputs import Inputs
    from .._model import Task


async def diagnose(inputs: Inputs, *, task: Task, state: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Look at the first block of each file as a whole, as ``Client.run`` does, but without a client.

    Standard input, pipes and rows are left alone, and so are files that a run with this ``state`` and ``out`` makes
    itself. Raises OtherFormat for a file of another kind, InputError for one that cannot be read, OutputIsInput and
    OutputTaken for an ``out`` that would replace something.
    """
    output = await output_at(out)
    own = await own_files(Spool(Path(state)), output)
    await output.refuse_existing(await named_files(inputs, own))
    await refuse_other_formats(inputs, line_form(task), own)
