"""Mistakes in a command line or in ``packtrain.toml``, in our own words where those of cyclopts mislead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import MissingArgumentError, UnknownOptionError

if TYPE_CHECKING:
    from cyclopts import CycloptsError


def mistake(error: CycloptsError) -> str:
    match error:
        case MissingArgumentError(keyword=None, tokens_so_far=[], argument=argument) if argument is not None:
            return f"{argument.name} is missing"
        case UnknownOptionError(token=token) if token.source.endswith(".toml"):
            key = (token.keyword or "").strip("[]").replace("][", ".")
            advice = str(error).partition(f" from {token.source}.")[2]
            return f"{Path(token.source).name}: no option is called {key} in [{_command(error)}].{advice}"
    return str(error)


def _command(error: CycloptsError) -> str:
    return " ".join(error.command_chain or ())
