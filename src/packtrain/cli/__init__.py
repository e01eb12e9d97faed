"""The command line: arguments to options, one call of the public API, an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from functools import partial
from importlib.util import find_spec
from inspect import BoundArguments, iscoroutinefunction
from typing import TYPE_CHECKING, NoReturn

import anyio
from cyclopts import App, CycloptsError
from cyclopts.config import Env, Toml

from . import exits
from .adopt import adopt
from .arguments import COMMON, Common, shield_stdin
from .check import check
from .console import flush_errors, open_closed_streams, say, telling
from .credentials import refuse_keys_in
from .dumps import forbid_core_dumps
from .failpoints import failpoints
from .logs import show_logs
from .merge import merge
from .recover import recover
from .resolve import resolve
from .retry import retry
from .run import run
from .serve import serve
from .split import split
from .status import status
from .upload import upload
from .verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _version() -> str:
    from importlib.metadata import version  # which takes longer to load than all commands

    return version("packtrain")


app = App(
    name="packtrain",
    help="Send very large JSONL workloads through LLM Batch APIs: nothing lost, nothing paid for twice.",
    help_epilogue="Every option can also come from PACKTRAIN_..., or from a table such as [run] in packtrain.toml.",
    help_format="plaintext",  # the default, Markdown, doubles what has to be loaded to print it
    version=_version,
    # The first that knows an option wins.
    config=[Env("PACKTRAIN_", command=False, show=False), Toml("packtrain.toml")],
    print_error=False,
    exit_on_error=False,
    result_action="return_value",
)
app.command(run, usage="Usage: packtrain run INPUT... --model MODEL --out OUT [OPTIONS]")
app.command(check, usage="Usage: packtrain check INPUT... [OPTIONS]")
app.command(split, usage="Usage: packtrain split INPUT... --out-dir DIR [OPTIONS]")
app.command(upload, usage="Usage: packtrain upload FILE... [OPTIONS]")
app.command(merge, usage="Usage: packtrain merge --requests FILE... --results FILE... --out OUT [OPTIONS]")
app.command(status, usage="Usage: packtrain status STATE [OPTIONS]")
app.command(retry, usage="Usage: packtrain retry STATE [OPTIONS]")
app.command(verify, usage="Usage: packtrain verify STATE [OPTIONS]")
app.command(recover, usage="Usage: packtrain recover INPUT... --run ID --model MODEL --out OUT [OPTIONS]")
app.command(adopt, usage="Usage: packtrain adopt STATE [OPTIONS]")
app.command(resolve, usage="Usage: packtrain resolve STATE --shard N (--adopt NAME | --retry | --drop) [OPTIONS]")
app.command(serve, usage="Usage: packtrain serve --dir DIR [OPTIONS]")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point of ``packtrain``; ends the process with the exit code."""
    forbid_core_dumps()
    open_closed_streams()
    code = perform(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said
    flush_errors()
    sys.exit(code)


def perform(argv: Sequence[str]) -> int:
    """Run one command line to its exit code."""
    common = COMMON
    try:
        refuse_keys_in(argv)
        command, bound, _ = app.parse_args(shield_stdin(argv))
        common = bound.arguments.get("common", COMMON)
        show_logs(quiet=common.quiet, debug=common.debug)
        with failpoints(os.environ):
            return _run(command, bound)
    except CycloptsError as error:
        return _explain(exits.UsageError(f"{_place(error)}{error}\nSee {_helped(error)} --help."), common)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001 - see _explain
        return _explain(error, common)


def _place(error: CycloptsError) -> str:
    """The file, which the errors of its reader do not name; all others say where they are from."""
    return "packtrain.toml: " if isinstance(error.__cause__, ValueError) and error.argument is None else ""


def _helped(error: CycloptsError) -> str:
    return " ".join(("packtrain", *(error.command_chain or ())))


def _run(command: Callable[..., object], bound: BoundArguments) -> int:
    if not iscoroutinefunction(command):  # --help and --version
        with telling():
            command(*bound.args, **bound.kwargs)
        return exits.Exit.COMPLETE
    options = {"use_uvloop": find_spec("uvloop") is not None}
    code: int = anyio.run(partial(command, *bound.args, **bound.kwargs), backend_options=options)
    return code


def _explain(error: BaseException, common: Common) -> int:
    """Say what ended the command. A defect is shown whole and has its own code, because Python's own is 1."""
    reason = exits.cause(error)
    if common.debug or not exits.expected(reason):
        say("".join(traceback.format_exception(reason)))
    say(exits.message(reason))
    return exits.code(reason)
