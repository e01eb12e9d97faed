"""The house keeps its rooms apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import packtrain

SOURCE = Path(packtrain.__file__).parent
PURE = sorted([*SOURCE.glob("_rules/*.py"), *SOURCE.glob("_wire/**/*.py")])


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
