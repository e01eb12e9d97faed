"""Some of the scenarios of a service that lies; ``scripts/torture hostile`` has all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.hostile.lives import judge
from tests.hostile.scenarios import KINDS, scenarios

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> Any:
    """What is judged is the client, and one loop is enough for that."""
    return "asyncio", {"use_uvloop": False}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lie_is_waited_out_and_costs_no_second_job(tmp_path: Path, kind: str) -> None:
    """Rows A7 to A11, B10 and B14: the output is whole in the end, nothing is sent elsewhere, the lie is named, and a
    stop is heeded."""
    chosen = [scenario for scenario in scenarios() if scenario.kind == kind and scenario.tested]
    assert chosen, "each kind has its part in the tests"
    assert await judge(chosen, tmp_path) == []


def test_there_are_enough_scenarios_and_enough_of_them_are_tests() -> None:
    """150, and a third of that."""
    all_of_them = scenarios()
    assert len(all_of_them) >= 150
    assert sum(scenario.tested for scenario in all_of_them) >= 50
