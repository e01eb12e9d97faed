"""Limits of a run: the service's, or the caller's where these are lower."""

from __future__ import annotations

import pytest

from packtrain import Limits, Options, Service
from packtrain._flow.run import describe


@pytest.mark.parametrize(
    ("service", "caller", "limit"), [(None, None, None), (50, None, 50), (None, 20, 20), (50, 20, 20), (50, 80, 50)]
)
def test_a_caller_can_lower_the_requests_of_a_shard_and_not_raise_them(
    service: int | None, caller: int | None, limit: int | None
) -> None:
    """The service would refuse a larger shard whole."""
    limits = Limits(shard_bytes=1000, live_jobs=1, stored_bytes=1000, shard_requests=service)
    at = Service(origin="http://127.0.0.1:1", limits=limits)
    run = describe("main", "m", "generate", False, False, at, Options(shard_requests=caller))
    assert run.limits.shard_requests == limit
