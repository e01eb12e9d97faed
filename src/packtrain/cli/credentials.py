"""The key: from the environment or a private file. No key and no password comes from the command line."""

from __future__ import annotations

import os
import stat
from itertools import pairwise
from typing import TYPE_CHECKING

from .exits import CredentialError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packtrain import Secret

VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_ADVICE = "set GEMINI_API_KEY or give --api-key-file FILE"


def refuse_keys_in(argv: Sequence[str]) -> None:
    """Raises UsageError for ``--api-key``: every user of a machine can read the arguments of every program."""
    if any(token == "--api-key" or token.startswith("--api-key=") for token in argv):  # noqa: S105 - an option's name
        raise UsageError(f"a key on the command line can be read by everybody on this machine; {_ADVICE}")


def refuse_passwords_in(argv: Sequence[str]) -> None:
    """Raises UsageError for a password in ``--proxy``: every user of a machine can read the arguments of every
    program."""
    values = [value for option, value in pairwise(argv) if option == "--proxy"]
    values += [token.partition("=")[2] for token in argv if token.startswith("--proxy=")]
    if any("@" in value for value in values):
        raise UsageError(
            "a password on the command line can be read by everybody on this machine; set HTTPS_PROXY instead"
        )


def find_key(file: Path | None, environ: Mapping[str, str]) -> Secret | None:
    """The key in ``file``, or else in the first variable that is set. Raises CredentialError for an unusable one."""
    if file is not None:
        return _checked(_read(file), str(file))
    for name in VARIABLES:
        if environ.get(name):
            return _checked(environ[name], name)
    return None


def need_key(key: Secret | None) -> Secret:
    if key is None:
        raise CredentialError(
            f"no key for the Gemini Batch API; {_ADVICE}. "
            "To try packtrain without one, give --service local: a batch service inside this program."
        )
    return key


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            about = os.fstat(opened.fileno())
            _refuse_open_doors(file, about)
            return opened.read(4096).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise CredentialError(f"key file {file}: {error.strerror}") from error


def _refuse_open_doors(file: Path, about: os.stat_result) -> None:
    if about.st_mode & 0o077:
        mode = stat.S_IMODE(about.st_mode)
        raise CredentialError(f"key file {file} is open to other users (mode {mode:04o}); run: chmod 600 {file}")
    if about.st_uid not in (0, os.geteuid()):
        raise CredentialError(f"key file {file} belongs to another user")


def _checked(text: str, place: str) -> Secret:
    from packtrain import Secret

    key = text.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise CredentialError(f"{place} holds no key: one line of visible ASCII characters is expected")
    return Secret(key)
