"""``packtrain verify``: compare a state directory with its manifest."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from packtrain import Verification
from packtrain._validation import counted

from . import arguments as arg
from .console import put, put_json
from .exits import Exit
from .quantities import size_text


async def verify(
    state: Annotated[Path, Parameter(metavar="STATE", help="The state directory of the run.")],
    /,
    *,
    out: Annotated[
        str | None, Parameter(metavar="OUT", help="Where the answers go; default: STATE without .packtrain.")
    ] = None,
    read_data: Annotated[bool, Parameter(negative=(), help="Read every byte of shards, results and answers.")] = False,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    from packtrain import verify as compare

    found = await compare(state, out=out, read_data=read_data)
    if json:
        put_json(found)
    else:
        put(_text(found))
    return Exit.SOME_FAILED if found.findings else Exit.COMPLETE


def _text(found: Verification) -> str:
    lines = [f"{finding.where}: {finding.what}" for finding in found.findings]
    looked = f"{counted(found.shards, 'shard')}, {counted(found.files, 'file')}, {size_text(found.bytes_read)} read"
    verdict = f"{counted(len(lines), 'finding')}" if lines else "sound"
    return "\n".join([*lines, f"{verdict}: {looked}"])
