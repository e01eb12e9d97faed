"""``packtrain.toml``, in which nothing is passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts.config import Toml

from .commands import COMMANDS
from .exits import UsageError

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection

FILE = "packtrain.toml"


class Settings(Toml):
    """The table of a command holds its options; those of other commands are looked at when these are started."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        for name, value in self.config.items():
            _check(name, value)
        super().__call__(app, commands, arguments)


def _check(name: str, value: object) -> None:
    commands = [command.name for command in COMMANDS]
    if not isinstance(value, dict):
        raise UsageError(f"{FILE}: {name} stands in no table; options belong in that of their command, such as [run]")
    if name not in commands:
        from difflib import get_close_matches

        near = get_close_matches(name, commands, 1)
        advice = f"did you mean [{near[0]}]?" if near else f"commands are {', '.join(commands)}"
        raise UsageError(f"{FILE}: there is no command for the table [{name}]; {advice}")
