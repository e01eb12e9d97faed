"""Options from ``PACKTRAIN_...`` and from ``packtrain.toml``; unknown ones are reported."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import CycloptsError
from cyclopts.config import Env, Toml

from .commands import COMMANDS
from .console import say
from .exits import UsageError
from .failpoints import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cyclopts import App, ArgumentCollection

FILE = "packtrain.toml"
#: Options that say where the key goes, which one it is, or what code runs.
_GUARDED = frozenset(
    {"service", "wire", "proxy", "api-key-file", "config", "host", "backend", "backend-key-file", "webhooks-to"}
)
#: Values of these that send nothing anywhere but to the default service.
_HARMLESS = ("gemini", "local", "echo")
#: A cluster sets these for a service that is called packtrain.
_CLUSTER = re.compile(r"SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_\w+)?")


class Variables(Env):
    """The environment. One variable serves all commands, so one that this command does not have may be meant for
    another; one that no command has is ignored with a warning, because it may be of a later version.
    """

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        super().__call__(app, commands, arguments)
        for name in sorted(_names(arguments)):
            if os.environ.get(f"{self.prefix}{name}") == "":
                raise UsageError(f"the variable {self.prefix}{name} is empty; unset it, or give it a value")
        given = {name.removeprefix(self.prefix) for name in os.environ if name.startswith(self.prefix)}
        unknown = {name for name in given - _names(arguments) if not _CLUSTER.fullmatch(name)}
        if not unknown or any(argument.name == "--quiet" and argument.tokens for argument in arguments):
            return
        known = {VARIABLE.removeprefix(self.prefix)}.union(*map(_names, _all_arguments(app)))
        for name in sorted(unknown - known):
            near = _nearest(name, known)
            advice = f"did you mean {self.prefix}{near}?" if near else "it is ignored"
            say(f"packtrain: there is no option for the variable {self.prefix}{name}; {advice}")


def _names(arguments: ArgumentCollection) -> set[str]:
    """As variables have them: ``MAX_SHARD_BYTES`` for ``--max-shard-bytes``."""
    return {
        name.strip("-").upper().replace("-", "_")
        for argument in arguments
        for name in argument.names
        if name.startswith("--")
    }


def _all_arguments(app: App) -> Iterable[ArgumentCollection]:
    top = app.app_stack.current_frame[0]
    return (top[command.name].assemble_argument_collection() for command in COMMANDS)


def _nearest(name: str, names: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, 1)), None)


class SettingsFiles:
    """The file of ``--config``, or else ``packtrain.toml`` in the current directory, then the user's own."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        chosen = _option(arguments, "--config")
        if chosen is not None:
            if not os.path.isfile(chosen):  # noqa: PTH113 - also where a Path would raise
                raise UsageError(f"--config {chosen}: there is no such file")
            files = [Settings(chosen)]
        else:
            files = [OpenSettings(FILE), Settings(user_file(os.environ))]
        for file in files:
            with suppress(FileNotFoundError):  # the current directory is gone
                file(app, commands, arguments)


def user_file(environ: Mapping[str, str]) -> Path:
    """``packtrain.toml`` in the user's own configuration directory."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return Path(base if base.startswith("/") else "~/.config").expanduser() / "packtrain" / FILE


def _option(arguments: ArgumentCollection, name: str) -> str | None:
    """What the command line or the environment gives for an option."""
    tokens = [token.value for argument in arguments if name in argument.names for token in argument.tokens]
    return tokens[-1] if tokens else None


class Settings(Toml):
    """The table of a command holds its options; those of other commands are looked at when these are started."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        for name, value in self.config.items():
            _check(self.name, name, value)
        super().__call__(app, commands, arguments)

    @property
    def name(self) -> str:
        """As it is shown to people."""
        return str(self.path)

    def _load_config(self, path: Path) -> dict[str, Any]:
        import tomllib

        try:
            return tomllib.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            raise CycloptsError(msg=f"{self.name}: {error}") from error


class OpenSettings(Settings):
    """A file that others may have written, as in a directory that was downloaded or is shared.

    It may not say where the key goes or what code runs. Such an option is refused, because another service or key
    could be charged for the work, and ignored where the command line or the environment gives it.
    """

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        table = self.config.get(commands[0]) if commands else None
        own = user_file(os.environ)
        if isinstance(table, dict) and not _same(Path(FILE), own):
            for key in [key for key in table if _is_guarded(key, table[key])]:
                del table[key]
                name = "--" + key.replace("_", "-")
                why = f"{FILE}: {key} in [{commands[0]}] is ignored, because the file is in the current directory"
                if _option(arguments, name) is None:
                    raise UsageError(
                        f"{FILE}: {key} in [{commands[0]}] is not taken from the current directory, where others may "
                        f"write; give {name}, put it into {own}, or read this file with --config {FILE}"
                    )
                say(f"packtrain: {why}")
        super().__call__(app, commands, arguments)


def _is_guarded(key: str, value: object) -> bool:
    """The option would send the key elsewhere, or run code."""
    return key.replace("_", "-") in _GUARDED and value not in _HARMLESS


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _check(file: str, name: str, value: object) -> None:
    commands = [command.name for command in COMMANDS]
    if not isinstance(value, dict):
        raise UsageError(f"{file}: {name} is in no table; options belong in that of their command, such as [run]")
    if name not in commands:
        near = _nearest(name, commands)
        advice = f"did you mean [{near}]?" if near else f"commands are {', '.join(commands)}"
        raise UsageError(f"{file}: there is no command for the table [{name}]; {advice}")
