"""Options from ``PACKTRAIN_...`` and from ``packtrain.toml``; unknown ones are reported."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from cyclopts import CycloptsError
from cyclopts.config import Env, Toml

from .commands import COMMANDS
from .console import say
from .exits import UsageError
from .failpoints import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cyclopts import App, ArgumentCollection

FILE = "packtrain.toml"
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


class Settings(Toml):
    """The table of a command holds its options; those of other commands are looked at when these are started."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        for name, value in self.config.items():
            _check(name, value)
        super().__call__(app, commands, arguments)

    def _load_config(self, path: Path) -> dict[str, Any]:
        import tomllib

        try:
            return tomllib.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            raise CycloptsError(msg=f"{FILE}: {error}") from error


def _check(name: str, value: object) -> None:
    commands = [command.name for command in COMMANDS]
    if not isinstance(value, dict):
        raise UsageError(f"{FILE}: {name} is in no table; options belong in that of their command, such as [run]")
    if name not in commands:
        near = _nearest(name, commands)
        advice = f"did you mean [{near}]?" if near else f"commands are {', '.join(commands)}"
        raise UsageError(f"{FILE}: there is no command for the table [{name}]; {advice}")
