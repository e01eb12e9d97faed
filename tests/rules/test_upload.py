"""The upload machine: what it does next, and what moves its offset."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._model import Upload
from packtrain._options import UPLOAD_STALLS, Policy
from packtrain._rules.upload import (
    QUERY_AFTER,
    TRANSIENT,
    Action,
    Answer,
    Complete,
    Dead,
    Finished,
    Query,
    Send,
    SendPart,
    Start,
    Stuck,
    answered,
    next_action,
    next_part,
    offset_lost,
    queried,
    renewed,
    rested,
    resumed,
    stalled,
    started,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 8
POLICY = Policy()
OPEN = Upload(size=20, session="http://127.0.0.1/upload?id=1", granularity=4)


def action_of(upload: Upload) -> Action:
    return next_action(upload, CHUNK, POLICY)


def active(received: int | None = None, status: int = 200) -> Answer:
    return Answer(status=status, upload_status="active", received=received)


FINAL = Answer(status=200, upload_status="final", body=b'{"file":{}}')


def test_a_new_upload_is_started() -> None:
    """Without an address there is nothing to do but to ask for one."""
    assert action_of(Upload(size=20)) == Start()


def test_chunks_are_multiples_of_the_granularity_except_the_last() -> None:
    """The service names the unit; the last chunk takes what is left and finalizes."""
    upload = msgspec.structs.replace(OPEN, granularity=3)
    assert action_of(upload) == Send(0, 6, finalize=False)
    assert action_of(msgspec.structs.replace(upload, offset=18)) == Send(18, 2, finalize=True)
    assert action_of(msgspec.structs.replace(upload, granularity=50)) == Send(0, 20, finalize=True)


def test_an_empty_file_is_one_final_chunk_of_nothing() -> None:
    """Zero bytes still have to be finalized."""
    assert action_of(msgspec.structs.replace(OPEN, size=0)) == Send(0, 0, finalize=True)


def test_the_offset_is_what_the_service_says() -> None:
    """Forward, behind and ahead: never our own count."""
    for received in (0, 3, 8, 20):
        assert answered(msgspec.structs.replace(OPEN, offset=4, high=4), 8, active(received)).offset == received


def test_without_a_count_the_offset_stays_and_is_asked_for() -> None:
    """``active`` alone does not say how much arrived."""
    upload = answered(OPEN, 8, active(None))
    assert upload.offset == 0
    assert action_of(upload) == Query()


@pytest.mark.parametrize("status", sorted(QUERY_AFTER))
def test_no_byte_goes_after_a_headerless_answer_before_a_query(status: int) -> None:
    """A missing status header leaves the offset unknown."""
    assert action_of(answered(OPEN, 8, Answer(status=status))) == Query()


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410, 413, 415, 418])
def test_a_headerless_refusal_ends_the_session(status: int) -> None:
    """No query can clear these."""
    assert isinstance(action_of(answered(OPEN, 8, Answer(status=status))), Dead)


def test_active_with_an_error_status_is_not_progress() -> None:
    """An error that calls the upload active must not make us skip the chunk."""
    upload = answered(OPEN, 8, active(8, status=503))
    assert upload.offset == 0
    assert action_of(upload) == Query()


def test_a_lost_reply_is_followed_by_a_query() -> None:
    """Whether the bytes arrived is the service's to say."""
    assert action_of(offset_lost(OPEN)) == Query()


def test_final_is_success_also_as_the_answer_to_a_query() -> None:
    """A lost reply to the last chunk must not send the file twice."""
    assert action_of(answered(OPEN, 8, FINAL)) == Finished()
    assert action_of(queried(offset_lost(OPEN), FINAL)) == Finished()


@pytest.mark.parametrize("status", [400, 503])
def test_final_with_an_error_is_a_refusal(status: int) -> None:
    """It is never sent again as it is."""
    answer = Answer(status=status, upload_status="final", body=b"Unsupported MIME type")
    action = action_of(answered(OPEN, 8, answer))
    assert isinstance(action, Dead)
    assert "Unsupported MIME type" in action.reason


def test_a_cancelled_session_is_dead() -> None:
    """Somebody ended it."""
    assert isinstance(action_of(queried(OPEN, Answer(status=200, upload_status="cancelled"))), Dead)


def test_more_bytes_than_the_file_has_is_fatal() -> None:
    """The session is of another file."""
    assert isinstance(action_of(answered(OPEN, 8, active(21))), Dead)


@pytest.mark.parametrize("status", sorted(TRANSIENT))
def test_a_query_is_repeated_after_a_transient_refusal(status: int) -> None:
    """The session may live on behind a gateway that is out of breath."""
    assert action_of(queried(offset_lost(OPEN), Answer(status=status))) == Query()


@pytest.mark.parametrize("status", [200, 400, 404, 410])
def test_a_query_answered_without_the_header_ends_the_session(status: int) -> None:
    """The service has forgotten it."""
    assert isinstance(action_of(queried(offset_lost(OPEN), Answer(status=status))), Dead)


def test_a_start_without_header_or_address_is_tried_again() -> None:
    """200 alone opens nothing."""
    for answer in (Answer(status=200), active(), Answer(status=503)):
        upload = started(Upload(size=20), answer)
        assert upload.stalls == 1
        assert action_of(upload) == Start()


def test_a_start_takes_address_and_granularity() -> None:
    """A granularity of zero or less counts as one."""
    answer = Answer(status=200, upload_status="active", session="http://127.0.0.1/u", granularity=0)
    upload = started(Upload(size=20), answer)
    assert (upload.session, upload.granularity) == ("http://127.0.0.1/u", 1)


def test_recoveries_without_progress_are_few_and_progress_resets_them() -> None:
    """The budget is for a stand-still, not for the whole file."""
    upload = OPEN
    for received in (4, 8, 12, 16):
        for _ in range(UPLOAD_STALLS):
            upload = offset_lost(upload)
        assert action_of(upload) == Query()
        upload = queried(upload, active(received))
        assert upload.stalls == 0
    for _ in range(UPLOAD_STALLS + 1):
        upload = offset_lost(upload)
    assert isinstance(action_of(upload), Stuck)
    assert action_of(resumed(upload)) == Query()


def test_a_data_call_that_brought_nothing_is_followed_by_half_of_it() -> None:
    """Where nothing is kept of a call that broke, a shorter one may pass; progress brings the full length back."""
    stalled = queried(offset_lost(OPEN), active(0))
    assert action_of(stalled) == Send(0, 4, finalize=False)
    assert action_of(answered(stalled, 4, active(4))) == Send(4, 8, finalize=False)


def test_an_upload_taken_up_again_begins_with_a_query() -> None:
    """What another process sent last is unknown."""
    assert action_of(resumed(OPEN)) == Query()
    assert action_of(resumed(Upload(size=20))) == Start()


def test_a_renewed_session_starts_from_nothing_and_is_counted() -> None:
    """Endless fresh starts would hide a shard that can never go up."""
    upload = renewed(msgspec.structs.replace(OPEN, offset=12, dead="gone"))
    assert action_of(upload) == Start()
    assert upload.lost == 1


def test_the_state_survives_writing_and_reading() -> None:
    """Another process takes up exactly this value."""
    upload = queried(offset_lost(OPEN), active(12))
    assert msgspec.json.decode(msgspec.json.encode(upload), type=Upload) == upload


@given(st.data())
def test_any_mix_of_faults_ends_with_every_byte_in_place(data: st.DataObject) -> None:
    """A service that keeps prefixes, loses replies and answers nonsense gets each byte at its own offset."""
    content = bytes(range(data.draw(st.integers(0, 40))))
    held, final = bytearray(), False
    upload = Upload(size=len(content))
    silent = 0
    for _ in range(400):
        match action_of(upload):
            case Start():
                held.clear()
                answer = Answer(status=200, upload_status="active", session="http://127.0.0.1/u", granularity=2)
                upload = started(upload, answer)
            case Send(offset, length, finalize):
                kept = data.draw(st.integers(0, length))
                fault = data.draw(st.sampled_from(["none", "lost", "503", "headerless"]))
                assert offset == len(held)
                whole = fault == "none" or kept == length
                held += content[offset : offset + (length if fault == "none" else kept)]
                final = final or (finalize and whole)
                if fault == "lost":
                    upload = offset_lost(upload)
                elif fault == "503":
                    upload = answered(upload, length, Answer(status=503))
                elif fault == "headerless":
                    upload = answered(upload, length, Answer(status=200))
                else:
                    upload = answered(upload, length, FINAL if final else active(len(held)))
            case Query():
                if silent < 100 and data.draw(st.booleans()):
                    silent += 1  # but not for ever
                    upload = offset_lost(upload)
                else:
                    upload = queried(upload, FINAL if final else active(len(held)))
            case Finished():
                assert final
                assert bytes(held) == content
                return
            case Stuck():
                upload = resumed(rested(upload))
            case Dead():
                upload = renewed(upload)
                final = False
    raise AssertionError("the upload never ended")


@given(st.integers(1, 200), st.integers(1, 60))
def test_parts_cover_the_file_in_order(size: int, part_bytes: int) -> None:
    """Each byte is in one part; all but the last are of one size, and only then the file is completed."""
    upload = Upload(size=size)
    assert next_part(upload, part_bytes, POLICY) == Start()
    upload = msgspec.structs.replace(upload, session="s")
    covered = 0
    while isinstance(part := next_part(upload, part_bytes, POLICY), SendPart):
        assert (part.number, part.offset) == (len(upload.parts), covered)
        assert part.length == min(part_bytes, size - covered)
        covered += part.length
        upload = stored(upload, part, f"id-{part.number}")
    assert part == Complete()
    assert covered == size
    assert upload.parts == tuple(f"id-{number}" for number in range(len(upload.parts)))


def test_a_part_that_is_not_stored_is_sent_again_alone() -> None:
    """What is stored stays; after too many recoveries the upload rests."""
    upload = stored(Upload(size=20, session="s"), SendPart(0, 0, 8), "first")
    for _ in range(UPLOAD_STALLS):
        upload = stalled(upload)
        assert next_part(upload, 8, POLICY) == SendPart(1, 8, 8)
    assert isinstance(next_part(stalled(upload), 8, POLICY), Stuck)
    assert stored(upload, SendPart(1, 8, 8), "second").stalls == 0


def sent_until_rest(upload: Upload, received: Iterator[int]) -> tuple[int, Upload]:
    """The bytes that leave until the upload rests, by a service that says it has so many, and never ``final``."""
    total = 0
    while not isinstance(action := action_of(upload), Stuck | Dead):
        match action:
            case Send(_, length, _):
                total += length
                upload = answered(upload, length, active(next(received)))
            case Query():
                upload = queried(upload, active(next(received)))
            case _:
                raise AssertionError(action)
    return total, upload


@given(st.lists(st.integers(0, 20), min_size=1, max_size=7))
def test_a_service_that_keeps_nothing_is_sent_the_file_twice_at_most(words: list[int]) -> None:
    """Whatever it says in turn that it has: then the upload rests, and says why (A9)."""
    total, upload = sent_until_rest(OPEN, itertools.cycle(words))
    assert total <= 2 * OPEN.size + CHUNK
    assert isinstance(action_of(resumed(rested(upload))), Query | Send)


@pytest.mark.parametrize("words", [(20, 0), (20,), (0,), (8, 0, 16, 4)])
def test_a_session_that_never_ends_is_given_up_after_some_rests(words: tuple[int, ...]) -> None:
    """Full and nothing in turn, or never final: the next session begins, and the third is for a person (A9)."""
    upload, received, rests, total = OPEN, itertools.cycle(words), 0, 0
    while True:
        sent, upload = sent_until_rest(upload, received)
        total += sent
        if isinstance(action_of(upload), Dead):
            break
        rests += 1
        upload = resumed(rested(upload))
    assert rests == POLICY.upload_rests
    assert total <= (rests + 1) * (2 * OPEN.size + CHUNK)


def test_an_outage_gives_no_session_up() -> None:
    """Without an answer nothing is known of it, however long that lasts."""
    upload = OPEN
    for _ in range(5 * POLICY.upload_rests):
        for _ in range(UPLOAD_STALLS + 1):
            upload = offset_lost(upload)
        assert isinstance(action_of(upload), Stuck)
        upload = resumed(rested(upload))
    assert action_of(queried(upload, active(8))) == Send(8, 8, finalize=False)


def test_bytes_that_were_confirmed_before_are_no_progress() -> None:
    """Only more than ever resets the count of recoveries (A9)."""
    upload = msgspec.structs.replace(OPEN, offset=8, high=16)
    assert answered(upload, 4, active(12)).stalls == 1
    assert answered(upload, 12, active(20)).stalls == 0
    assert queried(offset_lost(upload), active(12)).stalls == 1


def test_a_standstill_names_what_was_confirmed_and_what_is_left() -> None:
    """A person sees at once that the service goes back."""
    upload = OPEN
    for received in (8, 16, 0, 8, 16, 0):
        upload = answered(upload, 8, active(received))
    action = action_of(upload)
    assert isinstance(action, Stuck)
    assert "confirmed 16 of 20 bytes, and now says that it has 0" in action.reason
