"""The verdict on each row of results, and its key."""

from __future__ import annotations

import pytest

from packtrain import Verdict
from packtrain._rules.lines import OWN
from packtrain._rules.result_rows import plain_keys, read_row
from packtrain._wire.gemini.lines import LINES

TEXT = b'{"content":{"parts":[{"text":"hi"}],"role":"model"},"finishReason":"STOP","index":0}'


def row(response: bytes) -> bytes:
    return b'{"key":"a","response":%b}\n' % response


def candidate(text: bytes, finish: bytes) -> bytes:
    return row(b'{"candidates":[{"content":{"parts":[%b],"role":"model"},"finishReason":"%b"}]}' % (text, finish))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'"\xff"', "not UTF-8 at byte 28"),
        (b"NaN", "NaN at byte 27"),
        (b"-Infinity", "-Infinity at byte 27"),
        (b'"a\tb"', "a control character, U+0009, at byte 29"),
    ],
)
@pytest.mark.parametrize("key_first", [True, False])
def test_a_row_that_is_no_json_keeps_its_key(value: bytes, reason: str, key_first: bool) -> None:
    """A6: it is failed with a reason that names the place, and was paid for."""
    members = [b'"key":"a"', b'"response":{"t":%b}' % value]
    line = b"{%b,%b}\n" % (members[0], members[1]) if key_first else b"{%b,%b}\n" % (members[1], members[0])
    found = read_row(LINES, line)
    assert (found.key, found.verdict) == ("a", Verdict.NOT_JSON)
    assert found.reason.startswith("answer is not JSON: ")
    assert found.verdict.is_paid
    assert not key_first or found.reason == f"answer is not JSON: {reason} of the row"


@pytest.mark.parametrize("value", [b'"\\ud83d"', b"[" * 3000 + b"]" * 3000, b'"\\udc00\\ud83d"'])
def test_half_a_surrogate_pair_and_any_depth_are_answers(value: bytes) -> None:
    """A6: with their own bytes."""
    found = read_row(OWN, row(b'{"t":%b}' % value))
    assert (found.key, found.verdict, bytes(found.response)) == ("a", Verdict.ANSWERED, b'{"t":%b}' % value)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (row(b'{"candidates":[%b]}' % TEXT), Verdict.ANSWERED),
        (candidate(b'{"text":"half \\ud83d"}', b"STOP"), Verdict.ANSWERED),
        (candidate(b'{"functionCall":{"name":"f"}}', b"STOP"), Verdict.ANSWERED),
        (candidate(b'{"text":"odd"}', b"OTHER"), Verdict.ANSWERED),
        (candidate(b'{"text":""}', b"STOP"), Verdict.EMPTY),
        (candidate(b"", b"OTHER"), Verdict.EMPTY),
        (candidate(b"", b"MAX_TOKENS"), Verdict.TRUNCATED),
        (candidate(b'{"text":"and th"}', b"MAX_TOKENS"), Verdict.TRUNCATED),
        (candidate(b"", b"SAFETY"), Verdict.BLOCKED),
        (candidate(b"", b"RECITATION"), Verdict.RECITATION),
        (row(b'{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{}}'), Verdict.BLOCKED),
        (row(b'{"candidates":[],"modelVersion":"m"}'), Verdict.EMPTY),
        (row(b"{}"), Verdict.EMPTY),
        (row(b'{"candidates":[{"content":null,"finishReason":"STOP"}]}'), Verdict.EMPTY),
        (row(b'{"candidates":[{"finishReason":"MAX_TOKENS"},%b]}' % TEXT), Verdict.ANSWERED),
        (row(b'{"embedding":{"values":[0.5]}}'), Verdict.ANSWERED),
        (row(b'{"n":1}'), Verdict.ANSWERED),
        (row(b'{"candidates":7}'), Verdict.ANSWERED),
        (b'{"key":"a","error":{"code":13,"message":"\\ud83d"}}\n', Verdict.FAILED),
        (b'{"key":"a"}\n', Verdict.FAILED),
    ],
)
def test_the_class_of_a_response(line: bytes, verdict: Verdict) -> None:
    """By the provider's words; a form that is not known is an answer. The quick way takes plain answers alone."""
    assert read_row(LINES, line).verdict is verdict
    keys = plain_keys(LINES, [line])
    assert keys is None or (keys == ["a"] and verdict is Verdict.ANSWERED)


def test_the_quick_way_takes_the_usual_answers() -> None:
    """In both spellings, and vectors; one other row among them leads to a look at each."""
    usual = row(b'{"candidates":[%b]}' % TEXT)
    spaced = usual.replace(b":", b": ").replace(b",", b", ")
    vector = row(b'{"embedding":{"values":[0.5]}}')
    assert plain_keys(LINES, [usual] * 3) == plain_keys(LINES, [spaced] * 3) == plain_keys(LINES, [vector] * 3)
    assert plain_keys(LINES, [usual, candidate(b'{"text":""}', b"STOP")]) is None
    assert plain_keys(LINES, [usual, row(b"{}")]) is None


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"key":17,"response":{}}\n', "17"),
        (b'{"key":"\\u0041","response":{"n":NaN}}\n', "A"),
        (b'{"key":"a\tb","response":{}}\n', "a\tb"),
        (b'{"key":"a" "response":{}}\n', "a"),
        (b'{"key":"\xff","response":{}}\n', None),
        (b'{"key":"\\ud83d","response":{}}\n', None),
        (b'{"key":null,"response":{}}\n', None),
        (b'{"key":"%b","response":{}}\n' % (b"k" * 1_000_000), None),
        (b'["key","a"]\n', None),
        (b"garbage\n", None),
    ],
)
def test_a_key_is_found_where_a_request_can_have_it(line: bytes, key: str | None) -> None:
    """Whatever the rest of the row is."""
    assert read_row(LINES, line).key == key


def test_a_row_cut_short_is_not_whole() -> None:
    """At every byte; the last one of a file without a newline may be."""
    line = row(b'{"t":NaN}').rstrip(b"\n")
    assert read_row(LINES, line).whole
    assert not any(read_row(LINES, line[:cut]).whole for cut in range(1, len(line)))
