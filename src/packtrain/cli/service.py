"""Services by name or URL, made from ``--service`` and its companions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from packtrain import Gemini, InputError, Local, ManifestError, Secret, Service
from packtrain._providers.service import GEMINI_ORIGIN

from .credentials import need_key
from .exits import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def choose(name: str, *, wire: str | None, key: Secret | None, directory: Path | None = None) -> Service | Local:
    """The service that was asked for.

    Raises UsageError for one that does not exist and CredentialError for a missing key; reads and sends nothing.
    """
    if "openai" in (name, wire):
        raise UsageError("the OpenAI wire is not available yet; --service gemini and --service local are")
    if name == "local":
        return Local(directory=directory)
    if name == "gemini":
        return Gemini(need_key(key))
    return _elsewhere(name, wire, key)


async def choose_again(state: Path, name: str, *, wire: str | None, key: Secret | None) -> Service | Local:
    """As ``choose``, for a run that another service may have driven: then it is that one that is missing, not a key.

    Raises ManifestError in that case.
    """
    if (name, key) == ("gemini", None) and (then := await _driven_with(state)) not in (None, GEMINI_ORIGIN):
        again = f"--service {then} --wire gemini" if "://" in then else "--service local"
        raise ManifestError(f"{state}: this run was driven with the service at {then}; give {again}")
    return choose(name, wire=wire, key=key)


async def choose_of_state(state: Path, name: str | None, *, wire: str | None, key: Secret | None) -> Service | Local:
    """The service that was asked for, or else the one that drove the run last. Raises as ``choose``."""
    then = await _driven_with(state) if name is None else None
    if then is None:
        return choose(name or "gemini", wire=wire, key=key)
    if "://" not in then:
        return choose("local", wire=wire, key=key)
    return choose("gemini" if then == GEMINI_ORIGIN else then, wire=wire or "gemini", key=key)


async def _driven_with(state: Path) -> str | None:
    from packtrain import status

    try:
        return (await status(state)).service
    except (InputError, ManifestError):
        return None  # opening the state directory will say what is wrong with it


def paced(service: Service | Local, *, poll: float | None, settle: float | None) -> Service | Local:
    """The service with its waits, in seconds, set by hand."""
    if poll is None and settle is None:
        return service
    if isinstance(service, Local):
        raise UsageError("--poll and --settle are for a service elsewhere, not for --service local")
    return replace(
        service,
        poll=service.poll if poll is None else (poll, poll),
        settle=service.settle if settle is None else settle,
    )


def _elsewhere(url: str, wire: str | None, key: Secret | None) -> Service:
    if "://" not in url:
        raise UsageError(f"there is no service {url!r}; give gemini, local, or a URL with --wire gemini")
    if "@" in url or "?" in url:  # not quoted in the message: there may be a key in it
        raise UsageError("no user name, password or key in the service's address; see --api-key-file")
    if wire != "gemini":
        raise UsageError(f"say what {url} speaks: --wire gemini")
    try:
        return Gemini(key, origin=url)
    except InputError as error:
        raise UsageError(str(error)) from error
