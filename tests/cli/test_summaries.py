"""The summary of a run, for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from packtrain import Summary
from packtrain.cli.summaries import summary_text

#: An error as a service gave it, with a member of the same name as one of ours.
ERROR = '{"code":3,"details":[{"retryable":true}]}'
SUMMARY = Summary(
    run="main",
    complete=True,
    lines=1,
    valid=1,
    answered=0,
    failed=1,
    rejected=0,
    shards=1,
    jobs_created=1,
    duplicates_healed=0,
    bytes_in=1,
    bytes_uploaded=1,
    seconds=1.0,
)


@pytest.mark.parametrize("retryable", [True, False])
def test_a_retry_is_offered_for_failures_that_pass_whatever_the_service_wrote(tmp_path: Path, retryable: bool) -> None:
    """Our own member ``retryable`` decides, not one inside the service's error."""
    out = tmp_path / "out.jsonl"
    line = '{"key":"k","reason":"3","ordinal":0,"asked":1,"retryable":%s,"error":%s}\n'
    Path(f"{out}.failed.jsonl").write_text(line % (str(retryable).lower(), ERROR))
    text = summary_text(SUMMARY, str(out), tmp_path / "out.jsonl.packtrain")
    assert ("none is of a kind that passes" in text) is not retryable
