"""What a caller may set, and the refusal of anything else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from packtrain import InputError, Limits, Options, Service

COUNTS = ("uploads", "downloads", "chunk_bytes", "spool_bytes", "block_bytes", "max_line_bytes", "ledger_keys")
BYTES = ("join_window", "max_result_line_bytes")
COUNT = "a whole number of at least 1"
WRONG: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys([*COUNTS, *BYTES], (0, -1, "2GB", 2.5, True, None)),
    **dict.fromkeys(("shard_bytes", "shard_requests", "workers"), (0, -3, "2GB", 2e9, False)),
    **dict.fromkeys(("shard_age", "patience"), (0, -1.0, float("nan"), "5m")),
    "retries": (-1, 1.5, None),
    "retry_class": (("failed",), "empty", None),
    "max_rejects": (-1, "many"),
    "duplicates": ("foo", None),
    "on_ambiguous": ("x", 1),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_an_option_that_can_not_be_is_refused(name: str, value: Any) -> None:
    """At once, with its name and its value; until then some hung for ever and others did nothing."""
    with pytest.raises(InputError) as caught:
        Options(**{name: value})
    assert str(caught.value).startswith(f"Options.{name} is {value!r}; it may be ")


def test_every_option_is_checked() -> None:
    """A new one enters the table above."""
    assert set(WRONG) == {field.name for field in msgspec.structs.fields(Options)}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"uploads": 0}, COUNT),
        ({"workers": 0}, f"{COUNT}, or None"),
        ({"shard_age": 0}, "a number of seconds above 0, or None"),
        ({"on_ambiguous": "x"}, "'quarantine' or 'revoke' or 'wait'"),
    ],
)
def test_what_an_option_may_be_is_told(settings: dict[str, Any], told: str) -> None:
    """As a person would write it."""
    with pytest.raises(InputError) as caught:
        Options(**settings)
    assert str(caught.value).endswith(f"it may be {told}")


@pytest.mark.parametrize(("former", "word"), [("fence", "revoke"), ("settle", "wait")])
def test_the_former_words_of_on_ambiguous_are_accepted(former: Any, word: str) -> None:
    """So that scripts written for the release before still run."""
    assert Options(on_ambiguous=former).on_ambiguous == word


def test_the_smallest_and_the_absent_are_taken() -> None:
    """One of everything, no retry, no reject, and no limit."""
    smallest: dict[str, Any] = dict.fromkeys([*COUNTS, *BYTES], 1)
    options = Options(**smallest, retries=0, max_rejects=0, shard_age=1)
    assert (options.uploads, options.retries, options.shard_bytes) == (1, 0, None)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"poll": (0.0, 1.0)}, "Service.poll"),
        ({"poll": 30.0}, "Service.poll"),
        ({"settle": -1.0}, "Service.settle"),
        ({"limits": Limits(shard_bytes=0, live_jobs=1, stored_bytes=1)}, "Limits.shard_bytes"),
        ({"limits": Limits(shard_bytes=1, live_jobs=0, stored_bytes=1)}, "Limits.live_jobs"),
        ({"limits": Limits(shard_bytes=1, live_jobs=1, stored_bytes=-1)}, "Limits.stored_bytes"),
    ],
)
def test_a_service_with_waits_or_limits_that_can_not_be_is_refused(settings: dict[str, Any], place: str) -> None:
    """They would let a run spin, or wait for ever."""
    with pytest.raises(InputError, match=f"{place} is "):
        Service(origin="http://127.0.0.1", **settings)
