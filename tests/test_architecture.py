"""The house keeps its rooms apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import packtrain

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(packtrain.__file__).parent
PURE = sorted([*SOURCE.glob("_rules/*.py"), *SOURCE.glob("_wire/**/*.py")])

#: The local service keeps a store of its own, with rules of its own; what it survives is tested by killing it.
CLIENT = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] != "server")
#: Functions and methods whose effect outlives the process.
LASTING = {"fsync", "fdatasync", "rename", "renames", "link", "unlink", "mkdir", "commit", "request", "post", "patch"}


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_decides_and_what_speaks_is_synchronous_and_knows_no_clock(path: Path) -> None:
    """No coroutine, and no module that reads time, chance, files or sockets."""
    forbidden = {"asyncio", "anyio", "aiohttp", "aiofiles", "os", "random", "secrets", "socket", "time", "threading"}
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"line {node.lineno}"
        names = {alias.name.partition(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = {(node.module or "").partition(".")[0]}
        assert not names & forbidden, f"{names & forbidden}"


def unguarded(node: ast.AST, guarded: bool = False) -> Iterator[ast.Call]:
    """Calls with a lasting effect that stand in no ``with effect(...)``."""
    if isinstance(node, ast.Call) and lasts(node) and not guarded:
        yield node
    for child in ast.iter_child_nodes(node):
        yield from unguarded(child, guarded)
        if isinstance(child, ast.withitem) and "effect(" in ast.unparse(child.context_expr):
            guarded = True  # the items behind it, and the body


def lasts(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name == "replace":  # that of a path has one argument, that of a text two
        return len(call.args) == 1 and not call.keywords
    if name.startswith("execute"):
        return "COMMIT" in ast.unparse(call.args[0])
    return name in LASTING


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: str(path.relative_to(SOURCE)))
def test_whatever_outlives_the_process_goes_through_the_seam_of_effects(path: Path) -> None:
    """fsync, rename, commit and calls of the service stand in ``with effect(...)``, where a failpoint can strike."""
    found = [f"line {call.lineno}: {ast.unparse(call)[:60]}" for call in unguarded(ast.parse(path.read_text()))]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "os.fsync(1)",
        "draft.rename(final)",
        "draft.replace(final)",
        "connection.commit()",
        "connection.execute('COMMIT')",
        "session.post(url)",
        "with effect('x'): pass\nos.fsync(1)",
        "with session.request(url), effect('x'): pass",
    ],
)
def test_an_effect_beside_the_seam_is_found(text: str) -> None:
    """Or the test above would prove nothing."""
    assert list(unguarded(ast.parse(text)))


def test_the_transport_alone_speaks_http() -> None:
    """There is one place from which a call can leave."""
    speaks = {path.relative_to(SOURCE).as_posix() for path in CLIENT if "aiohttp" in imported(path)}
    assert speaks == {"_io/transport.py"}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_environment_is_read_by_the_command_line_alone() -> None:
    """A library in somebody's service must not pick up settings by itself."""
    readers = {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    assert readers <= {"cli"}


def test_importing_the_package_loads_no_network_stack() -> None:
    """``import packtrain`` must stay quick; the client is loaded when it is asked for."""
    code = "import sys, packtrain; print([name for name in ('aiohttp', 'rich', 'cyclopts') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_loads_what_prints_it_and_no_more() -> None:
    """Neither the network stack, nor the parsers of Markdown and of packages' descriptions, which take longest."""
    heavy = ("aiohttp", "asyncio", "importlib.metadata", "rich.markdown", "sqlite3", "uvloop")
    loaded = f"[name for name in {heavy} if name in sys.modules]"
    code = f"import sys; from packtrain.cli import perform; perform(['--help']); sys.exit(str({loaded}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Usage: packtrain" in found.stdout
    assert found.stderr.strip() == "[]"


def test_every_public_name_is_there_and_sorted() -> None:
    """``__all__`` is what the package gives, no more and no less."""
    assert list(packtrain.__all__) == sorted(packtrain.__all__)
    for name in packtrain.__all__:
        assert getattr(packtrain, name) is not None
    offered = {name for name in vars(packtrain) if not name.startswith("_")} - {"annotations", "TYPE_CHECKING"}
    modules = {name for name in offered if isinstance(getattr(packtrain, name), type(packtrain))}
    assert offered - modules <= set(packtrain.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Names that come late must not swallow misspellings."""
    with pytest.raises(AttributeError, match="no attribute 'open_klient'"):
        _ = packtrain.open_klient
