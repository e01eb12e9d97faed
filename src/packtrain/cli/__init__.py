"""The command line: arguments to options, one call of the public API, an exit code."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, NoReturn

from cyclopts import App, CycloptsError, Group

from packtrain import InputError
from packtrain._exits import leading_error
from packtrain._signals import stop_signals

from . import exits
from .advice import message
from .arguments import COMMON, Common, refuse_empty, shield_stdin
from .commands import COMMANDS
from .console import flush_errors, prepare_streams, say, telling
from .credentials import refuse_keys_in, refuse_passwords_in
from .dumps import forbid_core_dumps
from .failpoints import failpoints
from .mistakes import mistake
from .settings import SettingsFiles, Variables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


def _version() -> str:
    from importlib.metadata import version  # which takes longer to load than all commands

    return version("packtrain")


app = App(
    name="packtrain",
    help="Send very large JSONL workloads through LLM Batch APIs: nothing lost, nothing paid for twice.",
    help_epilogue="Every option can also come from PACKTRAIN_..., or from a table such as [run] in packtrain.toml.",
    help_format="plaintext",  # the default, Markdown, doubles what has to be loaded to print it
    group_commands=Group("Help", sort_key=len(COMMANDS)),
    version=_version,
    # The first that knows an option wins.
    config=[Variables("PACKTRAIN_", command=False, show=False), SettingsFiles()],
    print_error=False,
    exit_on_error=False,
    result_action="return_value",
)
_GROUPS = {name: Group(name, sort_key=order) for order, name in enumerate(dict.fromkeys(c.group for c in COMMANDS))}
for order, command in enumerate(COMMANDS):
    app.command(
        command.place,
        name=command.name,
        usage=command.usage,
        help=command.help,
        help_epilogue=command.epilogue,
        group=_GROUPS[command.group],
        sort_key=order,
    )


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point of ``packtrain``; ends the process with the exit code."""
    forbid_core_dumps()
    prepare_streams()
    code = perform(sys.argv[1:] if argv is None else argv)
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)  # all is done and said
    flush_errors()
    sys.exit(code)


def perform(argv: Sequence[str]) -> int:
    """Run one command line to its exit code."""
    common = COMMON
    try:
        refuse_keys_in(argv)
        refuse_passwords_in(argv)
        refuse_empty(argv)
        command, bound, _ = app.parse_args(shield_stdin(argv))
        common = bound.arguments.get("common", COMMON)
        if command.__name__ == "backfill":  # which prints nothing itself, and starts other processes
            return int(command(*bound.args, **bound.kwargs))
        if not iscoroutinefunction(command):  # --help and --version
            with telling(), suppress(SystemExit):  # which is rich's answer to a reader that has gone
                command(*bound.args, **bound.kwargs)
            return exits.Exit.COMPLETE
        return _run(partial(command, *bound.args, **bound.kwargs), common)
    except CycloptsError as error:
        return _explain(exits.UsageError(f"{mistake(error)}\nSee {_helped(error)} --help."), common)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001 - see _explain
        return _explain(error, common)


def _helped(error: CycloptsError) -> str:
    return " ".join(("packtrain", *(error.command_chain or ())))


def _run(command: Callable[[], Awaitable[int]], common: Common) -> int:
    _require_directory()
    import anyio  # as the log, not needed to print the help

    from .logs import show_logs

    show_logs(quiet=common.quiet, debug=common.debug)
    with failpoints(os.environ):
        return anyio.run(command, backend_options={"use_uvloop": find_spec("uvloop") is not None})


def _require_directory() -> None:
    """Raises InputError when the current directory was removed: every name is looked up from there."""
    try:
        os.getcwd()  # noqa: PTH109 - for its error
    except OSError as error:
        raise InputError(f"the current directory cannot be used ({error.strerror})") from error


def _explain(error: BaseException, common: Common) -> int:
    """Say what ended the command. A defect is shown whole and has its own code, because Python's own is 1."""
    reason = leading_error(error)
    if common.debug or not exits.expected(reason):
        import traceback

        say("".join(traceback.format_exception(reason)))
    say(message(reason))
    return exits.code(reason)
