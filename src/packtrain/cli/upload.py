"""``packtrain upload``: send files, going on where an earlier upload stopped."""

import os
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from packtrain import Local, Options, RemoteFile
from packtrain._validation import counted

from . import arguments as arg
from .console import put, put_json
from .credentials import find_key
from .exits import Exit, UsageError
from .proxies import through
from .service import choose

_DEFAULT = Options()


async def upload(
    *files: Annotated[str, Parameter(metavar="FILE", help="Files of requests, as split writes them.")],
    service: Annotated[
        str, Parameter(metavar="NAME|URL", help="gemini, or a URL with --wire; `packtrain serve` runs one here.")
    ] = "gemini",
    wire: arg.WireName = None,
    api_key_file: arg.KeyFile = None,
    proxy: arg.Proxy = None,
    uploads: Annotated[
        int, Parameter(metavar="N", validator=Number(gte=1), help="Uploads side by side.")
    ] = _DEFAULT.uploads,
    patience: arg.Patience = _DEFAULT.patience,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    if not files:
        raise UsageError("no file given: packtrain upload FILE...")
    chosen = choose(service, wire=wire, key=find_key(api_key_file, os.environ))
    chosen = through(chosen, proxy, quiet=common.quiet)
    if isinstance(chosen, Local):
        raise UsageError("--service local lives inside one run; start packtrain serve and give its URL with --wire")
    from packtrain import upload as upload_files

    remote = await upload_files(files, service=chosen, options=Options(uploads=uploads, patience=patience))
    if json:
        put_json(remote)
    else:
        put(_text(files, remote))
    return Exit.COMPLETE


def _text(files: tuple[str, ...], remote: list[RemoteFile]) -> str:
    return "\n".join(
        f"{file}  {there.name}  {counted(there.bytes, 'byte')}" for file, there in zip(files, remote, strict=True)
    )
