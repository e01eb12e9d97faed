"""Fixtures and settings of all tests."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

import packtrain
from tests.seeds import GIVEN

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes says nothing on a machine that does something else meanwhile.
# Examples are the same in each run, unless TEST_SEED asks for others.
settings.register_profile("packtrain", deadline=None, print_blob=True, derandomize=GIVEN is None)
settings.load_profile("packtrain")

# A shell ignores the interrupts of what it starts in the background, and nohup a hangup. Children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Loaded before a loop runs: modules read files when they are imported, which would count as blocking it.
PRELOADED = [getattr(packtrain, name) for name in packtrain.__all__]

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of what a loop does to bytes, threads and cancellations run on both, the others on one."""
    if "anyio_backend" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both_loops") is not None
        metafunc.parametrize("anyio_backend", LOOPS if both else LOOPS[:1], indirect=True, scope="session")


@pytest.fixture(scope="session")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The transport is aiohttp, so the loops are asyncio's and uvloop's."""
    return request.param


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """A test in which our code blocks the event loop fails."""
    with blockbuster_ctx("packtrain") as found:
        yield found
