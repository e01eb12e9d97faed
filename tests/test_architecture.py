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
LASTING = {
    *("fsync", "fdatasync", "rename", "renames", "link", "symlink", "unlink", "mkdir", "makedirs", "rmdir", "rmtree"),
    *("touch", "truncate", "ftruncate", "write_text", "write_bytes", "pwrite", "commit", "request", "post", "patch"),
}
#: Those whose name says too little; they count for these receivers.
LASTING_OF = {
    **dict.fromkeys(("replace", "write"), "os"),
    **dict.fromkeys(("move", "copy", "copyfile", "copytree"), "shutil"),
    **dict.fromkeys(("get", "put", "delete", "head"), "session"),
}
#: Files in which such calls stand beside the seam, and why they may.
BESIDE_THE_SEAM = {
    "_io/result_file.py": (
        {"truncate"},
        "a partial download is believed only after its join; what is kept of it is synced in the seam",
    ),
    "_io/spool.py": ({"truncate"}, "what is cut off is beyond the manifest's word, and is written again"),
    "_io/worker_pool.py": ({"ftruncate"}, "memory that is shared with a worker, and no file"),
    "_io/lock.py": ({"truncate"}, "who holds the lock, for a message; the lock itself is the kernel's"),
    "_manifest/queries.py": ({"execute", "executemany"}, "within a transaction, whose COMMIT is in the seam"),
    "cli/backfill.py": ({"mkdir"}, "for the lock of a backfill, which need not outlive a crash of the machine"),
    "testing/audit/manifest.py": ({"copy"}, "a copy to be read, gone with its directory"),
    "testing/providers.py": ({"write_text"}, "the input of a test's own run"),
    "testing/audit/service.py": ({"copy"}, "a copy to be read, gone with its directory"),
}
#: Statements that change something, by themselves where no transaction was begun.
CHANGING = ("COMMIT", "INSERT", "UPDATE", "DELETE")


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
    if not isinstance(call.func, ast.Attribute):
        return False
    name, receiver = call.func.attr, ast.unparse(call.func.value)
    if name == "replace" and len(call.args) == 1 and not call.keywords:  # of a path; that of a text has two arguments
        return True
    if name.startswith("execute") and call.args:
        return any(word in ast.unparse(call.args[0]).upper() for word in CHANGING)
    return name in LASTING or receiver.endswith(LASTING_OF.get(name, "-"))


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: str(path.relative_to(SOURCE)))
def test_whatever_outlives_the_process_goes_through_the_seam_of_effects(path: Path) -> None:
    """fsync, rename, commit and calls of the service stand in ``with effect(...)``, where a failpoint can strike."""
    allowed, _ = BESIDE_THE_SEAM.get(path.relative_to(SOURCE).as_posix(), (set(), ""))
    found = list(unguarded(ast.parse(path.read_text())))
    names = {call.func.attr for call in found if isinstance(call.func, ast.Attribute)}
    assert allowed <= names, "allowed for nothing"
    others = [call for call in found if isinstance(call.func, ast.Attribute) and call.func.attr not in allowed]
    assert [f"line {call.lineno}: {ast.unparse(call)[:60]}" for call in others] == []


@pytest.mark.parametrize(
    "text", ["text.replace('a', 'b')", "names.get(key)", "queue.put(1)", "cursor.execute('SELECT 1')"]
)
def test_what_does_not_last_is_left_alone(text: str) -> None:
    """However much its name is like one of them."""
    assert not list(unguarded(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "os.fsync(1)",
        "draft.rename(final)",
        "draft.replace(final)",
        "os.replace(draft, final)",
        "shutil.move(draft, final)",
        "file.truncate(0)",
        "path.write_text(text)",
        "path.write_bytes(data)",
        "os.write(handle, data)",
        "connection.execute('UPDATE jobs SET claimed = 0')",
        "connection.execute(INSERT_JOB, values)",
        "self._session.get(url)",
        "session.put(url)",
        "session.delete(url)",
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


def test_threads_are_waited_for_in_one_way() -> None:
    """A17: a wait of anyio's own would be ended by asyncio's cancellation, and leave the thread at work: use
    ``in_thread``, and ``uncancelled`` for what opens or closes something. A pipe that no process writes to is left."""
    calls = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "to_thread.run_sync(" in path.read_text() and path.relative_to(SOURCE).parts[0] not in {"cli", "testing"}
    }
    assert calls == {"_io/threads.py", "_io/sources.py"}


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
    heavy = ("aiohttp", "anyio", "cyclopts", "msgspec", "rich")
    code = f"import sys, packtrain; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_loads_what_prints_it_and_no_more() -> None:
    """Neither the network stack, nor a command, nor the parsers of Markdown and of packages' descriptions."""
    heavy = ["aiohttp", "anyio", "asyncio", "importlib.metadata", "logging", "msgspec", "rich.markdown", "sqlite3"]
    heavy += ["uvloop", "packtrain.cli.run", "packtrain._model"]
    loaded = f"[name for name in {heavy} if name in sys.modules]"
    code = f"import sys; from packtrain.cli import perform; perform(['--help']); sys.exit(str({loaded}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Usage: packtrain" in found.stdout
    assert found.stderr.strip() == "[]"


def test_every_public_name_is_there_and_sorted() -> None:
    """``__all__`` is what the package gives, no more and no less."""
    assert list(packtrain.__all__) == sorted(packtrain.__all__)
    assert set(packtrain.__all__) <= set(dir(packtrain))
    for name in packtrain.__all__:
        assert getattr(packtrain, name) is not None
    offered = {name for name in dir(packtrain) if not name.startswith("_")}
    modules = {name for name in offered if isinstance(getattr(packtrain, name), type(packtrain))}
    assert offered - modules <= set(packtrain.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Names that come late must not swallow misspellings, here or, as the ignore proves, for a type checker."""
    with pytest.raises(AttributeError, match="no attribute 'open_klient'"):
        _ = packtrain.open_klient  # type: ignore[attr-defined]  # there is none
