"""scripts/demo: what it takes, and how it ends when it is interrupted or nobody reads it.

Setup and packtrain are stood in for by shell scripts.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo"
PATIENCE = 100.0
INTERRUPTED = "scripts/demo: interrupted; start it again to go on\n"


class Checkout:
    """A directory laid out as a checkout, with the requests of the demo."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "scripts").mkdir()
        shutil.copy(SCRIPT, root / "scripts" / "demo")
        (root / "examples").mkdir()
        shutil.copy(SCRIPT.parents[1] / "examples" / "demo.py", root / "examples" / "demo.py")
        (root / "demo").mkdir()
        (root / "demo" / "requests.jsonl").touch()
        self.program("scripts/setup", "exit 0")

    def program(self, name: str, script: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [str(self.root / "scripts" / "demo"), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--nonsense", 2), ("more", 2)])
def test_arguments_start_nothing(checkout: Checkout, argument: str, status: int) -> None:
    """Help is shown, what is not understood is refused."""
    checkout.program("scripts/setup", "touch started")
    demo = checkout.start(argument)
    out, err = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, "usage: scripts/demo" in out, "Traceback" in err) == (status, status == 0, False)
    assert not (checkout.root / "started").exists()


def test_an_interrupt_of_the_setup_ends_it_with_one_line(checkout: Checkout) -> None:
    """And whatever it had started with it, or its standard error would stay open here."""
    checkout.program("scripts/setup", "sleep 0.2\nkill -INT $PPID\nsleep 1000")
    demo = checkout.start()
    out, err = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, out, err) == (75, "", INTERRUPTED)


def test_an_interrupted_run_comes_to_its_own_end(checkout: Checkout) -> None:
    """The terminal tells it as well; what it says of that comes before the demo's own line."""
    checkout.program(".venv/bin/packtrain", "sleep 0.2\nkill -INT $PPID\necho stopping >&2\nexit 75")
    demo = checkout.start()
    _, err = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, err) == (75, f"stopping\n{INTERRUPTED}")


def test_a_reader_that_has_seen_enough_is_no_error(checkout: Checkout) -> None:
    """As ``head`` leaves."""
    demo = checkout.start()
    assert demo.stdout is not None
    demo.stdout.close()
    assert demo.stderr is not None
    assert (demo.stderr.read(), demo.wait(PATIENCE)) == ("", 0)
    demo.stderr.close()
