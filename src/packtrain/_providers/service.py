"""Services as values: address, limits, key and waits."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from .._constraints import Duration, check_fields
from .._errors import InputError
from .._model import Limits, Secret, Task
from .._options import GB
from .._rules.diagnosis import LineForm
from .._wire.gemini.lines import LINES
from .._wire.gemini.requests import FORMS

#: Documented for the Gemini Batch API: 2 GB a file, 20 GB a project, 100 live jobs. Two of the twenty
#: stay free for files of others.
GEMINI_LIMITS = Limits(shard_bytes=2 * GB, live_jobs=100, stored_bytes=18 * GB)
GEMINI_ORIGIN = "https://generativelanguage.googleapis.com"


class Service(Struct, frozen=True, kw_only=True):
    """A batch service: one wire at one origin (``https://host[:port]``, without a path)."""

    wire: Literal["gemini"] = "gemini"
    origin: str
    limits: Limits = GEMINI_LIMITS
    key: Secret | None = None
    #: Seconds between two looks at the jobs: the shortest, and the longest when nothing moves.
    poll: tuple[Duration, Duration] = (30.0, 300.0)
    #: Seconds that an unanswered create must stay out of the list of jobs before its input file is revoked. A third
    #: of it is what the list may lag behind, and how long one looks again after that.
    settle: Duration = 900.0
    #: Take plain http from hosts other than this machine.
    insecure_http: bool = False
    #: A proxy to tunnel through, as in ``http://user:password@host:3128``. For https alone, and not to this machine.
    proxy: Secret | None = None

    def __post_init__(self) -> None:
        check_fields(self, "poll", "settle")
        check_fields(self.limits)
        parts = _split(self.origin, "service address")
        if self.key is not None and not (self.key.reveal().isascii() and self.key.reveal().isprintable()):
            raise InputError("the key has characters that no header can hold; see that it was read without its newline")
        if "@" in parts.netloc or parts.query or parts.fragment:  # not quoted: there may be a secret in it
            raise InputError("service address: no user name, password or key in it; give the key in its own place")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise InputError(f"service address {self.origin!r}: give scheme and host alone, as in https://host:8443")
        if parts.scheme == "http" and not (self.insecure_http or is_loopback(parts.hostname)):
            raise InputError(f"service address {self.origin!r}: plain http is for this machine only; use https")
        if self.proxy is not None:
            _check_proxy(self.proxy)

    @property
    def tunnel(self) -> Secret | None:
        """The proxy, where it is used."""
        parts = urlsplit(self.origin)
        return self.proxy if parts.scheme == "https" and not is_loopback(parts.hostname or "") else None


def _split(address: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:  # not quoted: there may be a secret in it
        raise InputError(f"{what}: it is no address, as https://host:8443 is") from error
    return parts


def _check_proxy(proxy: Secret) -> None:
    """Raises InputError, without the address, which may have a password."""
    parts = _split(proxy.reveal(), "proxy address")
    visible = all("!" <= character <= "~" for character in proxy.reveal())
    if parts.scheme not in ("http", "https") or not parts.hostname or not visible:
        raise InputError("proxy address: give http://host:port, with user:password@ before the host if it needs them")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise InputError("proxy address: nothing may follow its port")


class Local(Struct, frozen=True, kw_only=True):
    """The service that packtrain brings along, run inside this process on a loopback port."""

    #: Where it keeps files and jobs; by default ``service/`` in the state directory.
    directory: Path | None = None
    limits: Limits = GEMINI_LIMITS


def line_form(task: Task | None = None) -> LineForm:
    """The lines of the one wire that there is."""
    return LineForm(shape=LINES, requests=FORMS, task=task)


def Gemini(  # noqa: N802 - a noun
    api_key: str | Secret | None = None, *, origin: str = GEMINI_ORIGIN, proxy: str | Secret | None = None
) -> Service:
    """The Gemini Batch API. Without a key it refuses at the first call. ``proxy`` is an address to tunnel through."""
    key = Secret(api_key) if isinstance(api_key, str) else api_key
    return Service(
        wire="gemini", origin=origin.rstrip("/"), key=key, proxy=Secret(proxy) if isinstance(proxy, str) else proxy
    )


def is_loopback(host: str) -> bool:
    """Whether it is this machine. A name that only looks like an address, as in ``127.evil.example``, is not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
