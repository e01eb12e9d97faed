"""Retry, back-off and quota rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._errors import ApiError, InputError, TransportError
from packtrain._model import Limits
from packtrain._rules import quota
from packtrain._rules.retry import TRANSIENT, backoff, is_transient, wait_after

LIMITS = Limits(shard_bytes=2, live_jobs=100, stored_bytes=18)


@given(st.integers(0, 10**9), st.floats(0, 1))
def test_a_back_off_lies_between_half_and_all_of_its_step(failures: int, jitter: float) -> None:
    """However many failures there were."""
    wait = backoff(failures, jitter, floor=1.0, ceiling=60.0)
    assert 0.5 <= wait <= 60.0


def test_a_wait_is_never_shorter_than_the_service_asks_for() -> None:
    """Retry-After is a floor."""
    error = ApiError("slow down", status=429, retry_after=300.0)
    assert wait_after(error, 0, 0.0) == 300.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413])
def test_refusals_are_not_tried_again(status: int) -> None:
    """The same call gets the same answer."""
    assert not is_transient(ApiError("no", status=status))


def test_networks_and_overload_are_tried_again() -> None:
    """For idempotent calls."""
    assert is_transient(TransportError("reset"))
    assert all(is_transient(ApiError("busy", status=status)) for status in TRANSIENT)
    assert not is_transient(InputError("bad"))


def test_an_empty_spool_always_takes_a_shard() -> None:
    """A budget below one shard must not stop the run for good."""
    assert quota.may_open_shard(0, 10, budget=1)
    assert not quota.may_open_shard(1, 10, budget=10)
    assert quota.may_open_shard(10, 10, budget=20)


def test_uploads_stop_before_the_store_is_full() -> None:
    """Each counts as a full shard until it is known to be smaller."""
    assert quota.uploads_that_fit(0, LIMITS) == 9
    assert quota.uploads_that_fit(17, LIMITS) == 0
    assert quota.uploads_that_fit(14, LIMITS) == 2
    assert quota.uploads_that_fit(0, Limits(shard_bytes=5, live_jobs=1, stored_bytes=3)) == 1


def test_jobs_stop_at_the_limit_of_live_ones() -> None:
    """A job in doubt counts as live."""
    assert quota.jobs_that_fit(99, LIMITS) == 1
    assert quota.jobs_that_fit(101, LIMITS) == 0
