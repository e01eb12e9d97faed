"""JSON read as bytes: the strict grammar, and members found in anything."""

from __future__ import annotations

import json
import random

import pytest

from packtrain._rules.json_text import MemberScanner, decode_string, flaw, key_at_end, without_surrogates

TOKENS = (b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"\\u00e9"', b"1", b"-2.5e3", b"true", b" ", b"NaN", b'"\x01"')


def is_json(text: bytes) -> bool:
    """By the standard library, without its own extensions."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def test_the_grammar_is_that_of_the_standard_library_without_its_extensions() -> None:
    """On texts made of tokens in random order."""
    draw = random.Random(8259)
    for _ in range(5_000):
        text = b"".join(draw.choices(TOKENS, k=draw.randrange(1, 9)))
        assert (flaw(text) is None) == is_json(text), text


@pytest.mark.parametrize("text", [b'{"t":"\\ud83d"}', b"[" * 50_000 + b"]" * 50_000, b'{"n":1e999}', b' {"a":{}}\r\n'])
def test_half_a_surrogate_pair_and_any_depth_are_json(text: bytes) -> None:
    """RFC 8259 has both."""
    assert flaw(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":NaN}', "NaN at byte 5"),
        (b"[-Infinity]", "-Infinity at byte 1"),
        (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
        (b'{"a":"b\tc"}', "a control character, U+0009, at byte 7"),
        (b'{"a":"\\x"}', "an escape that JSON does not have at byte 6"),
        (b'{"a":', "it ends too early, at byte 5"),
        (b'{"a":"b', "a string that does not end"),
        (b"[1}", "unexpected '}' at byte 2"),
    ],
)
def test_a_flaw_is_named_with_its_place(text: bytes, reason: str) -> None:
    """For the list of failed lines."""
    assert flaw(text) == reason


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_members_are_found_in_pieces_of_any_size(piece: int) -> None:
    """At the top only, with escapes on every border."""
    line = b' {"response": {"key":"no","t":"a\\"b\\\\"}, "key" : "x\\"y\\u00e9" , "z":[1,{"key":"q"}]} \r\n'
    scanner = MemberScanner(["key", "response"], 100)
    for at in range(0, len(line), piece):
        scanner.feed(line[at : at + piece])
    assert line[slice(*scanner.spans["response"])].strip() == b'{"key":"no","t":"a\\"b\\\\"}'
    assert decode_string(scanner.strings["key"]) == 'x"yé'
    assert scanner.complete


def test_a_string_above_the_limit_is_not_kept() -> None:
    """A key of a megabyte costs no megabyte."""
    scanner = MemberScanner(["key"], 10)
    scanner.feed(b'{"key":"' + b"k" * 1_000_000 + b'"}')
    assert scanner.strings == {}
    assert scanner.complete


def test_the_key_at_the_end_is_found_behind_anything() -> None:
    """Also when quotes do not pair."""
    assert key_at_end(b'{"response":{"t":"he said "hi ok"},"key":"a","error":null}\n', "key") == b"a"
    assert key_at_end(b'{"response":{"key":"a"},"n":{}}\n', "key") is None


def test_surrogates_are_replaced_in_place() -> None:
    """An escaped backslash before them is not touched."""
    assert without_surrogates(rb'"\ud83d \\ud83d \\\uDC00"') == rb'"\uFFFD \\ud83d \\\uFFFD"'
