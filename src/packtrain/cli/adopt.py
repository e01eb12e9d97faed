"""``packtrain adopt``: go on with a state directory that was copied, moved or put back."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from packtrain import Adoption
from packtrain._validation import counted

from . import arguments as arg
from .console import put, put_json
from .exits import Exit


async def adopt(
    state: Annotated[Path, Parameter(metavar="STATE", help="The state directory of the run.")],
    /,
    *,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    from packtrain import adopt as take_over

    found = await take_over(state)
    if json:
        put_json(found)
    else:
        put(_text(found, state))
    return Exit.COMPLETE


def _text(found: Adoption, state: Path) -> str:
    shards = f"{counted(found.ambiguous, 'shard')} {'is' if found.ambiguous == 1 else 'are'}"
    return f"adopted {state}; {shards} looked for at the service before anything of them is sent"
