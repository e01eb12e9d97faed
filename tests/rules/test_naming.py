"""Names that can be computed again."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from packtrain._model import Shard
from packtrain._rules import naming
from packtrain._wire.gemini.files import CHOSEN_NAME, file_path

TOKEN = naming.token_from(bytes(range(16)))


def shard(index: int, generation: int = 0) -> Shard:
    return Shard(run="r", index=index, generation=generation, bytes=9, lines=3, sha256="ab" * 32, first=0, last=2)


def test_a_token_is_26_characters_of_lower_case_base32() -> None:
    """128 random bits, readable in a list of jobs."""
    assert re.fullmatch(r"[a-z2-7]{26}", TOKEN)


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 3))
def test_a_file_name_is_one_that_a_client_may_choose(index: int, generation: int, attempt: int) -> None:
    """At most 40 characters after the slash, of the permitted kind."""
    assert CHOSEN_NAME.fullmatch(file_path(naming.file_name(TOKEN, index, generation, attempt)))


def test_every_attempt_of_every_shard_has_a_file_of_its_own() -> None:
    """Deleting one attempt's file must not touch another's."""
    places = [(i, g, a) for i in range(20) for g in range(3) for a in range(1, 4)]
    assert len({naming.file_name(TOKEN, *place) for place in places}) == len(places)


def test_a_tag_binds_run_shard_attempt_and_content_in_under_128_characters() -> None:
    """What is found under a tag is what was sent, or it is a collision worth stopping for."""
    tag = naming.job_tag(TOKEN, shard(12345, 2), 3)
    assert tag == f"pt1.{TOKEN}.12345.2.3.{'ab' * 8}.3"
    assert len(naming.file_tag(tag, "0123abcd")) < 128


def test_the_prefix_of_one_shard_is_not_that_of_another() -> None:
    """Shard 1 is not shard 10."""
    assert not naming.job_tag(TOKEN, shard(10), 1).startswith(naming.shard_prefix(TOKEN, 1, 0))
    assert naming.job_tag(TOKEN, shard(1), 2).startswith(naming.shard_prefix(TOKEN, 1, 0))
    assert naming.shard_prefix(TOKEN, 1, 0).startswith(naming.run_prefix(TOKEN))


@given(st.integers(0, 10**18 - 1), st.integers(0, 9), st.integers(1, 9))
def test_a_tag_says_again_what_it_was_made_of(index: int, generation: int, attempt: int) -> None:
    """So that a job found at the service is known for what it is."""
    made = shard(index, generation)
    assert naming.read_tag(TOKEN, naming.job_tag(TOKEN, made, attempt)) == naming.Tag(
        index, generation, attempt, made.sha256[:16], made.lines
    )


def test_a_tag_takes_18_digits_for_the_shard_and_no_more() -> None:
    """Cut times a million plus the place in the cut; the longest file tag stays under 128 characters."""
    last = shard(10**18 - 1, 10**3)
    assert naming.read_tag(TOKEN, naming.job_tag(TOKEN, last, 8)) is not None
    assert len(naming.file_tag(naming.job_tag(TOKEN, last, 10**3), "0123abcd")) < 128
    assert naming.read_tag(TOKEN, naming.job_tag(TOKEN, shard(10**18), 1)) is None


def test_other_names_are_no_tags() -> None:
    """Of another run, cut short, or of somebody who only began like us."""
    tag = naming.job_tag(TOKEN, shard(1), 1)
    other = naming.token_from(bytes(16))
    strange = (naming.job_tag(other, shard(1), 1), tag[:-2], f"{tag}.", f"{tag}.x", tag.replace("1.0.1", "1.0.-1"), "")
    for name in strange:
        assert naming.read_tag(TOKEN, name) is None


def test_a_name_is_the_same_with_and_without_its_collection() -> None:
    """Manifests of earlier releases keep the names of files as the wire writes them."""
    name = naming.file_name(TOKEN, 0, 0, 1)
    assert naming.same_file(f"files/{name}", name)
    assert not naming.same_file(naming.file_name(TOKEN, 0, 0, 2), f"files/{name}")
    assert naming.same_model("models/m", "m")
    assert not naming.same_model("models/m", "models/n")
    assert not naming.same_model("xm", "m")
