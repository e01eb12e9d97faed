"""``open_client``, in a module that is quick to import: the rest is loaded in a thread, beside the running loop."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ._errors import InputError
from ._io.threads import load
from ._validation import check_local

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._client import Client
    from ._io.clock import Clock
    from ._manifest.base import Manifest
    from ._options import Options, Policy
    from ._providers.base import Provider
    from ._providers.service import Local, Service


@asynccontextmanager
async def open_client(
    state: str | os.PathLike[str],
    *,
    service: Service | Local,
    options: Options | None = None,
    policy: Policy | None = None,
    clock: Clock | None = None,
    provider: Provider | None = None,
    manifest: Manifest | None = None,
) -> AsyncIterator[Client]:
    """A client on the state directory ``state``, which it holds until the block ends.

    ``clock``, ``provider`` and ``manifest`` replace the machine's clock, the provider of ``service`` and the SQLite
    manifest in ``state``; one that is handed in is not closed here, and a manifest that is handed in guards itself.

    Raises InUse when another process holds the directory, ManifestError when it cannot be used, and InputError for an
    empty name.
    """
    if not os.fspath(state):
        raise InputError("the state directory has an empty name")
    check_local(state)
    await load("packtrain._client")
    from ._client import Client, open_context
    from ._io.clock import SystemClock
    from ._io.spool import Spool
    from ._options import Options, Policy

    spool = Spool(Path(state))
    parts = open_context(
        spool,
        spool.manifest,
        service,
        options or Options(),
        policy=policy or Policy(),
        clock=clock or SystemClock(),
        provider=provider,
        manifest=manifest,
    )
    async with parts as client:
        yield Client(client)
