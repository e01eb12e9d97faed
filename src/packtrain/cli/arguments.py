"""The arguments that several commands share, each explained once."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from packtrain import InputError
from packtrain._validation import check_length, check_local, check_model, check_out

from .exits import UsageError
from .quantities import duration_text, parse_duration, parse_size, size_text

#: Replaces a lone "-" while cyclopts reads the arguments, because it takes any token with a dash for an
#: option. No argument of a process can hold this character.
STDIN = "\0"


def shield_stdin(argv: Sequence[str]) -> list[str]:
    return [STDIN if token == "-" else token for token in argv]  # noqa: S105 - an argument, not a secret


def refuse_empty(argv: Sequence[str]) -> None:
    """Raises UsageError for an empty argument: as a path it would be the current directory."""
    for before, token in itertools.pairwise(["", *argv]):
        name = token.partition("=")[0] if token.startswith("--") and token.endswith("=") else before
        if not token or name != before:
            of = f"the value of {name}" if name.startswith("-") else "an argument"
            raise UsageError(f"{of} is empty; see whether a variable in the command is not set")


def refuse_none(inputs: tuple[str, ...], command: str) -> None:
    """Raises UsageError for an empty list of inputs."""
    if not inputs:
        raise UsageError(f"no input given: packtrain {command} INPUT... (a file, a directory, a glob, or - for stdin)")


def _reader(read: Callable[[str], object]) -> Callable[[Any, Sequence[Token]], object]:
    """A cyclopts converter; the type that it is asked for is the one that ``read`` returns."""
    return lambda _type, tokens: read(tokens[0].value)


def _input(text: str) -> str:
    return "-" if text == STDIN else text


def _output(text: str) -> str:
    if text == STDIN:
        raise ValueError("the output is published by renaming a finished file, so it cannot be standard output")
    _checked(text, check_out)
    check_length(text)
    return text


def _directory(text: str) -> Path:
    return Path(_checked(text, check_local))


def _model(text: str) -> str:
    return _checked(text, check_model)


def _checked(text: str, check: Callable[[str], None]) -> str:
    try:
        check(text)
    except InputError as error:
        raise ValueError(str(error)) from error
    return text


_RowClass = Literal["empty", "blocked", "recitation", "truncated", "not-json", "too-long"]


def _classes(text: str) -> tuple[_RowClass, ...]:
    known: dict[str, _RowClass] = {name: name for name in get_args(_RowClass)}
    named = [name.strip() for name in text.split(",")]
    for name in named:
        if name not in known:
            raise ValueError(f"{name!r} is no class of rows; there are {', '.join(known)}")
    return tuple(known[name] for name in named)


def _shown(text: Callable[[float], str]) -> Callable[[float | None], str | None]:
    return lambda value: None if value is None else text(value)


_size = Parameter(converter=_reader(parse_size), metavar="SIZE", show_default=_shown(size_text))
_duration = Parameter(converter=_reader(parse_duration), metavar="TIME", show_default=_shown(duration_text))

Inputs = Annotated[
    str,
    Parameter(
        converter=_reader(_input),
        metavar="INPUT",
        help="Files, globs, directories, or - for standard input; .jsonl, gzip and zstd are recognised by content.",
    ),
]
Model = Annotated[
    str, Parameter(alias="-m", converter=_reader(_model), help="As the service names it, such as gemini-2.5-flash.")
]
Out = Annotated[
    str, Parameter(alias="-o", converter=_reader(_output), help="Where the merged answers go; appears when complete.")
]
Into = Annotated[
    str | None,
    Parameter(
        converter=_reader(_output),
        metavar="OUT",
        help="Add INPUT to the answers of a complete run; model, task and join are those of the run.",
    ),
]
State = Annotated[
    Path | None,
    Parameter(converter=_reader(_directory), metavar="DIR", help="The state directory; default: OUT.packtrain."),
]
OutDir = Annotated[Path, Parameter(converter=_reader(_directory), metavar="DIR", help="Where the files go.")]
Size = Annotated[int, _size]
Duration = Annotated[float, _duration]
ShardBytes = Annotated[
    int | None, _size, Parameter(help="A shard's limit, as in 2GB or 512MiB; default: the service's.")
]
ShardRequests = Annotated[
    int | None,
    Parameter(metavar="N", validator=Number(gte=1), help="A shard's limit in requests; default: the service's."),
]
Uploads = Annotated[int, Parameter(metavar="N", validator=Number(gte=1), help="Uploads side by side.")]
Poll = Annotated[float | None, _duration, Parameter(help="Look at the jobs this often.")]
Settle = Annotated[
    float | None,
    _duration,
    Parameter(help="An unanswered create must stay unlisted this long to count as not made."),
]
Patience = Annotated[
    float,
    _duration,
    Parameter(help="Wait this long through an outage of the service, the network or a proxy, then exit with 75."),
]
Duplicates = Annotated[
    Literal["reject", "error"],
    Parameter(help="A key used twice: reject the later line, or stop with an error."),
]
MaxRejects = Annotated[
    int | None,
    Parameter(metavar="N", validator=Number(gte=0), help="Stop after more than N bad lines; default: never."),
]
Workers = Annotated[
    int | None,
    Parameter(
        metavar="N",
        validator=Number(gte=1),
        help="Processes that judge lines, 1 for this one alone; default: by the cores, for more than 64 MB.",
    ),
]
ServiceName = Annotated[
    str,
    Parameter(metavar="NAME|URL", help="gemini, local (inside this program, no key needed), or a URL with --wire."),
]
ServiceOfState = Annotated[
    str | None,
    Parameter(metavar="NAME|URL", help="As for run; default: the one that the run was driven with."),
]
WireName = Annotated[
    str | None, Parameter(metavar="WIRE", help="The protocol that a service given by URL speaks: gemini.")
]
KeyFile = Annotated[
    Path | None,
    Parameter(metavar="FILE", help="Holds the key, mode 0600; default: GEMINI_API_KEY or GOOGLE_API_KEY."),
]
Proxy = Annotated[
    str | None,
    Parameter(
        metavar="URL",
        help="A proxy to tunnel https through, as in http://proxy:3128, or none; default: HTTPS_PROXY, except for "
        "hosts in NO_PROXY.",
    ),
]
RetryClasses = Annotated[
    tuple[_RowClass, ...],
    Parameter(
        converter=_reader(_classes),
        n_tokens=1,
        negative=(),
        show_choices=False,
        show_default=False,
        metavar="CLASS,...",
        help="Also ask again, and pay again for, rows of these classes: empty, blocked, recitation, truncated, "
        "not-json, too-long. An answer stays unless a better one comes.",
    ),
]
Join = Annotated[bool, Parameter(negative=(), help="Each output line carries the request line's members as well.")]
Json = Annotated[bool, Parameter(negative=(), help="One JSON line on standard output.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What every command understands."""

    quiet: Annotated[bool, Parameter(negative=(), help="No progress on standard error.")] = False
    debug: Annotated[bool, Parameter(negative=(), help="Log every step, and show the traceback of an error.")] = False
    config: Annotated[
        Path | None,
        Parameter(metavar="FILE", help="Options from this file, and not from packtrain.toml here or of yours."),
    ] = None


COMMON = Common()
