"""Which lines are accepted, what becomes of them, and what is said about the others."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._errors import InputError
from packtrain._options import MAX_DEPTH, MAX_KEY_BYTES
from packtrain._rules.framing import Framer
from packtrain._rules.keys import digests
from packtrain._rules.validate import larger_than_shard, numbered, repeated_key, scan, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtrain._rules.validate import Block

GOOD = b'{"key":"k","request":{"contents":[]}}'


def scan_bytes(data: bytes, *, max_line: int = 1 << 24) -> list[Block]:
    framer = Framer(max_line)
    blocks: list[Block] = []
    for raw in [*framer.feed(data), *framer.finish()]:
        blocks.append(numbered(scan(raw, source="in"), sum(block.lines for block in blocks)))
    return blocks


def judge(line: bytes) -> Block:
    """One line as the second of three, so that it is neither the first nor the last of its source."""
    (block,) = scan_bytes(b'{"key":"first","request":{}}\n' + line + b'\n{"key":"last","request":{}}\n')
    return block


def with_value(value: bytes) -> bytes:
    return b'{"key":"k","request":{"x":' + value + b"}}"


def nested(depth: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    """A line with this many brackets open at once; the wrapper and the request are two of them."""
    return with_value(opening * (depth - 2) + b"1" + closing * (depth - 2))


ACCEPTED = {
    "plain": GOOD,
    "spaced": b'{"key": "k", "request": {"contents": []}}',
    "odd spacing": b' {\t"key" :"k" , "request":\t{} } ',
    "request first": b'{"request":{},"key":"k"}',
    "more members": b'{"id":7,"key":"k","request":{},"metadata":{"a":[1]}}',
    "members before": b'{"metadata":{"request":{}},"key":"k","request":{}}',
    "names repeated deeper": b'{"key":"k","request":{"key":1,"request":2,"a":{"key":3}}}',
    "names as values": b'{"key":"request","request":{"a":"key"}}',
    "another member twice": b'{"a":1,"a":2,"key":"k","request":{}}',
    "escaped name": b'{"k\\u0065y":"k","request":{}}',
    "escapes in the key": b'{"key":"a\\"b\\\\\\u00e9\\n","request":{}}',
    "longest key": b'{"key":"' + b"k" * MAX_KEY_BYTES + b'","request":{}}',
    "key of other letters": '{"key":"ключ 键 🔑","request":{}}'.encode(),
    "letters escaped": with_value(b'"\\u0061\\u006b\\u0079"'),
    "deepest": nested(MAX_DEPTH),
    "deepest, of arrays": nested(MAX_DEPTH, b"[", b"]"),
    "brackets in a string": with_value(b'"' + b"[{" * 1000 + b'"'),
    "brackets behind escapes": with_value(b'["\\\\",' + b'"\\"[{",' * 200 + b"1]"),
    "many brackets side by side": with_value(b"[" + b"[{}]," * 500 + b"1]"),
    "U+2028 and U+2029": with_value('"\u2028\u2029"'.encode()),
    "U+0085": with_value('"\u0085"'.encode()),
    "DEL": with_value(b'"\x7f"'),
    "escaped NUL in a value": with_value(b'"\\u0000"'),
    "surrogate pair": with_value(b'"\\ud83d\\ude00"'),
    "1e400": with_value(b"1e400"),
    "1E5": with_value(b"1E5"),
    "-0": with_value(b"-0"),
    "5000 digits": with_value(b"7" * 5000),
    "5000 digits, searched for doubles": b'{"a":' + b"7" * 5000 + b',"key":"key","request":{"key":1}}',
    "CR between tokens": b'{"key":"k",\r"request":{}}',
}

REJECTED = {
    "no JSON": (b"hello", "malformed"),
    "cut JSON": (GOOD[:-1], "truncated"),
    "trailing garbage": (GOOD + b" x", "trailing characters"),
    "two values": (GOOD + GOOD, "trailing characters"),
    "trailing comma": (with_value(b"[1,]"), "trailing comma"),
    "single quotes": (b"{'key':'k','request':{}}", "malformed"),
    "NaN": (with_value(b"NaN"), "invalid character"),
    "Infinity": (with_value(b"Infinity"), "invalid character"),
    "leading zero": (with_value(b"01"), "invalid number"),
    "bad escape": (with_value(b'"\\x"'), "escaped character"),
    "control character": (with_value(b'"\x01"'), "invalid character"),
    "tab in a string": (with_value(b'"\t"'), "invalid character"),
    "NUL": (with_value(b'"\0"'), "NUL"),
    "NUL behind the line": (GOOD + b"\0", "NUL"),
    "UTF-16 with its mark": ("{}".encode("utf-16"), "UTF-16"),
    "UTF-16": ("{}".encode("utf-16-le"), "UTF-16"),
    "UTF-8 mark": (b"\xef\xbb\xbf" + GOOD, "byte order mark"),
    "not UTF-8, in a skipped value": (with_value(b'"\xff"'), "not UTF-8 at byte 27"),
    "not UTF-8, in the key": (b'{"key":"\xe9","request":{}}', "not UTF-8 at byte 8"),
    "not UTF-8, in a name": (b'{"\xc3":1,"key":"k","request":{}}', "not UTF-8"),
    "cut UTF-8": (b'{"key":"k","request":{}}\xe2\x82', "not UTF-8"),
    "surrogate in UTF-8": (with_value(b'"\xed\xa0\x80"'), "not UTF-8"),
    "lone high surrogate": (with_value(b'"\\ud800"'), "surrogate"),
    "lone low surrogate": (with_value(b'"a\\\\\\udc00"'), "surrogate"),
    "lone surrogate in the key": (b'{"key":"\\uD800x","request":{}}', "surrogate"),
    "lone surrogate in another member": (b'{"key":"k","request":{},"m":["\\ud83d\\u0041"]}', "surrogate"),
    "lone surrogate in a name": (b'{"key":"k","request":{"\\udfff":1}}', "surrogate"),
    "array": (b"[]", "Expected `object`, got `array`"),
    "string": (b'"key"', "Expected `object`, got `str`"),
    "null": (b"null", "Expected `object`, got `null`"),
    "no key": (b'{"request":{}}', "missing required field `key`"),
    "no request": (b'{"key":"k"}', "missing required field `request`"),
    "empty key": (b'{"key":"","request":{}}', "empty"),
    "number as key": (b'{"key":7,"request":{}}', "Expected `str`, got `int`"),
    "null as key": (b'{"key":null,"request":{}}', "Expected `str`, got `null`"),
    "key with U+0000": (b'{"key":"a\\u0000b","request":{}}', "U+0000"),
    "key too long": (b'{"key":"' + b"k" * (MAX_KEY_BYTES + 1) + b'","request":{}}', "4001 bytes"),
    "key too long in UTF-8": ('{"key":"' + "é" * 2500 + '","request":{}}', "5000 bytes"),
    "array as request": (b'{"key":"k","request":[]}', "Expected `object`, got `array`"),
    "null as request": (b'{"key":"k","request":null}', "Expected `object`, got `null`"),
    "string as request": (b'{"key":"k","request":"{}"}', "Expected `object`, got `str`"),
    "number as request, the shortest of objects behind": (b'{"key":"k","request":1,"":{}}', "got `int`"),
    "key twice, as short as can be": (b'{"key":"","key":"k","request":{}}', '"key" is given twice'),
    "key twice": (b'{"key":"k","key":"l","request":{}}', '"key" is given twice'),
    "key twice, around": (b'{"key":"k","request":{},"key":"k"}', '"key" is given twice'),
    "key twice, spaced": (b'{"key": "k", "request": {}, "key": "l"}', '"key" is given twice'),
    "key twice, one escaped": (b'{"key":"k","request":{},"k\\u0065y":"l"}', '"key" is given twice'),
    "key twice, both escaped": (b'{"\\u006bey":"k","request":{},"ke\\u0079":"l"}', '"key" is given twice'),
    "request twice": (b'{"key":"k","request":{},"request":{}}', '"request" is given twice'),
    "request twice, longer first": (b'{"key":"k","request":{"a":1},"request":{}}', '"request" is given twice'),
    "request twice, one escaped": (b'{"key":"k","request":{},"re\\u0071uest":{}}', '"request" is given twice'),
    "request twice, first": (b'{"request":{},"key":"k","request":{}}', '"request" is given twice'),
    "key twice, the later hidden in the first": (
        b'{"key":"a","request":{},"x":"b","request":{},"key":"a\\",\\"request\\":{},\\"x\\":\\"b"}',
        "is given twice",
    ),
    "too deep": (nested(MAX_DEPTH + 1), "nested deeper than 96"),
    "too deep, of arrays": (nested(MAX_DEPTH + 1, b"[", b"]"), "nested deeper than 96"),
    "too deep by far": (nested(100_000), "nested deeper than 96"),
    "too deep and not closed": (b"[" * 100_000, "nested deeper than 96"),
    "too deep behind strings": (with_value(b'["\\\\","\\"",' + b"[" * 95 + b"]" * 95 + b"]"), "nested deeper"),
    "too deep in another member": (b'{"key":"k","request":{},"m":' + b"[" * 96 + b"]" * 96 + b"}", "nested deeper"),
}


@pytest.mark.parametrize("line", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted_lines_keep_their_bytes(line: bytes) -> None:
    """Every byte of a good line goes on as it came."""
    block = judge(line)
    assert block.rejects == []
    assert block.line(1) == line + b"\n"
    assert block.keys[1:2] == digests([json.loads(line.replace(b"7" * 5000, b"7"))["key"].encode()])


@pytest.mark.parametrize(("line", "reason"), REJECTED.values(), ids=REJECTED)
def test_rejected_lines_say_where_and_why(line: bytes | str, reason: str) -> None:
    """A reject names its line, its offset and a reason; the lines around it go on."""
    line = line if isinstance(line, bytes) else line.encode()
    block = judge(line)
    assert [(reject.line, reject.offset) for reject in block.rejects] == [(2, 29)]
    assert reason in block.rejects[0].reason
    assert len(block.rejects[0].reason) < 1500
    assert (list(block.lines_no), list(block.raw_starts), block.lines) == ([1, 3], [0, 30 + len(line)], 3)
    assert list(block.raw_ends) == [29, block.end]


@pytest.mark.parametrize("line", [*ACCEPTED.values(), *(line for line, _ in REJECTED.values())])
def test_the_verdict_does_not_depend_on_the_lines_around(line: bytes | str) -> None:
    """Alone in its frame (the quick way) or beside a bad line (the careful one), a line fares the same."""
    line = line if isinstance(line, bytes) else line.encode()
    (alone,) = scan_bytes(GOOD.replace(b'"k"', b'"0"') + b"\n" + line + b"\n")
    (beside,) = scan_bytes(b"bad\n" + line + b"\n")
    assert alone.keys[1:] == beside.keys
    assert [reject.reason for reject in alone.rejects] == [reject.reason for reject in beside.rejects[1:]]


@pytest.mark.parametrize("at", [0, 1, 700, 1998, 1999])
@pytest.mark.parametrize("bad", [b"bad\n", b"\n", GOOD + b"\r\n", b"\xff\n"])
def test_a_bad_line_leaves_all_others_of_its_frame_as_they_are(at: int, bad: bytes) -> None:
    """Wherever it stands among lines that are judged many at once: keys, numbers, offsets and bytes are theirs."""
    lines = [b'{"key":"%d","request":{"x":%d}}\n' % (number, number) for number in range(2000)]
    lines[at] = bad
    (block,) = scan_bytes(b"".join(lines))
    each = [scan_bytes(line)[0] for line in lines]
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    good = [number for number, one in enumerate(each) if one.keys]
    assert block.keys == [each[number].keys[0] for number in good]
    assert block.data == b"".join(one.data for one in each)
    assert list(block.lines_no) == [number + 1 for number in good]
    assert list(block.raw_starts) == [starts[number] for number in good]
    assert list(block.raw_ends) == [starts[number] + len(lines[number]) for number in good]
    assert (block.blank, block.lines) == (sum(one.blank for one in each), len(lines))


def test_a_character_goes_across_no_newline() -> None:
    """Half of one in a line and half in the next are two bad lines; the lines around them stay good."""
    wide = '{"key":"w","request":{"x":"é"}}'.encode()
    halves = [with_value(b'"\xc3"'), with_value(b'"\xa9"')]
    (block,) = scan_bytes(b"\n".join((wide, *halves, GOOD, b"")))
    assert [reject.line for reject in block.rejects] == [2, 3]
    assert all("not UTF-8" in reject.reason for reject in block.rejects)
    assert block.data == wide + b"\n" + GOOD + b"\n"


def test_a_frame_without_fault_is_handed_on_as_it_is() -> None:
    """Not one byte is copied, on either way through."""
    for data in (GOOD + b"\n" + GOOD + b"\n", GOOD + b"\n" + GOOD + b" \n"):
        framer = Framer(1 << 20)
        (raw,) = framer.feed(data)
        assert scan(raw, source="in").data is raw.data


def test_the_last_line_needs_no_newline() -> None:
    """It is accepted, and given one."""
    first, last = scan_bytes(GOOD + b"\n" + GOOD)
    assert (first.data, last.data) == (GOOD + b"\n", GOOD + b"\n")
    assert (last.offset, last.raw_ends, last.lines_no, last.end) == (38, [37], [2], 75)


@pytest.mark.parametrize("endings", ["\r\n \r\n", "\r\n \n", "\n \r\n", "\r\r\n \n", "\r\r\n \r\n"])
def test_carriage_returns_before_a_newline_are_trimmed(endings: str) -> None:
    """CRLF input gives the bytes of LF input, also where endings are mixed; offsets stay those of the source."""
    first, second = (ending.encode() for ending in endings.split(" "))
    (block,) = scan_bytes(GOOD + first + GOOD + second)
    middle = len(GOOD) + len(first)
    assert block.data == (GOOD + b"\n") * 2
    assert (list(block.ends), block.rejects) == ([38, 76], [])
    assert (list(block.raw_starts), list(block.raw_ends)) == ([0, middle], [middle, block.end])


@pytest.mark.parametrize("blank", [b"", b" ", b"\t \t", b"\r", b" \r"])
def test_blank_lines_are_skipped_and_counted(blank: bytes) -> None:
    """They are neither accepted nor rejected, yet have a number."""
    block = judge(blank)
    assert (block.blank, block.lines, list(block.lines_no), block.rejects) == (1, 3, [1, 3], [])


def test_a_byte_order_mark_at_the_start_is_skipped() -> None:
    """Its three bytes count in offsets."""
    (block,) = scan_bytes(b"\xef\xbb\xbf" + GOOD + b"\nbad\n")
    assert (block.data, block.offset, list(block.raw_ends)) == (GOOD + b"\n", 3, [38])
    assert block.rejects[0].offset == 41


def test_an_overlong_line_is_a_reject() -> None:
    """It has its number and offset, and the lines around it keep theirs."""
    before, after = scan_bytes(GOOD + b"\n" + b"x" * 1000 + b"\n" + GOOD + b"\n", max_line=100)
    (reject,) = before.rejects
    assert (reject.line, reject.offset, before.lines, before.end) == (2, 38, 2, 1039)
    assert "1000 bytes, above the limit of 100" in reject.reason
    assert (list(after.lines_no), after.offset, list(after.raw_ends)) == ([3], 1039, [38])


def test_every_prefix_of_a_line_is_judged() -> None:
    """No cut of a line makes anything escape, and none but the whole is accepted."""
    line = '{"key":"é\\u00e9","request":{"a":["\\ud83d\\ude00",-1.5e3,{"b":null}]}}'.encode()
    for stop in range(1, len(line)):
        assert len(judge(line[:stop]).rejects) == 1


@given(
    st.lists(st.sampled_from([b"[", b"{", b"]", b"}", b'"', b"\\", b'\\"', b"\\\\", b"x", b":", b","]), max_size=30),
    st.integers(90, 100),
)
def test_brackets_count_only_outside_of_strings(parts: list[bytes], depth: int) -> None:
    """Whatever precedes a deep nest: it is refused as too deep exactly when a plain reader says so."""
    line = b"".join(parts) + b"[" * depth
    deepest = level = 0
    in_string = escaped = False
    for byte in line.decode():
        if escaped and byte in '"\\':
            escaped = False
            continue
        escaped = byte == "\\"
        if byte == '"':
            in_string = not in_string
        elif not in_string:
            level += (byte in "[{") - (byte in "]}")
            deepest = max(deepest, level)
    (reject,) = judge(line).rejects
    assert ("nested deeper" in reject.reason) == (deepest > MAX_DEPTH)


def test_a_long_line_is_searched_in_pieces() -> None:
    """Strings and nests that span the pieces count as they do within one."""
    long_string = b'"' + b"[" * 700_000 + b'"'
    assert judge(with_value(b"[" + long_string + b"," + b"[" * 93 + b"]" * 93 + b"]")).rejects == []
    (reject,) = judge(with_value(b"[" + long_string + b"," + b"[" * 94 + b"]" * 94 + b"]")).rejects
    assert "nested deeper" in reject.reason


names = st.sampled_from(["", "key", "request", "k\\u0065y", "re\\u0071uest", "a", "keys"])
values = st.sampled_from(['"k"', '""', "{}", "[]", '{"key":1}', '{"request":{"key":"x"}}', '"\\"key\\""', "7", "nul"])
spaces = st.sampled_from(["", " "])


@st.composite
def wrappers(draw: st.DrawFn) -> bytes:
    space = draw(spaces)
    members = draw(st.lists(st.tuples(names, values), max_size=4))
    return ("{" + f",{space}".join(f'"{name}":{space}{value}' for name, value in members) + "}").encode()


def is_good(line: bytes) -> bool:
    """The rules once more, by the standard library."""
    try:
        pairs = json.loads(line.decode(), object_pairs_hook=list)
    except ValueError:
        return False
    found = [(name, value) for name, value in pairs if name in ("key", "request")]
    row = dict(found)
    return len(found) == 2 and len(row) == 2 and is_key(row["key"]) and line_request(row["request"])


def is_key(value: object) -> bool:
    return isinstance(value, str) and value != ""


def line_request(value: object) -> bool:
    """The hook has made a list of pairs of an object, and an array here is empty."""
    return isinstance(value, list)


@given(st.lists(wrappers(), max_size=4))
def test_the_verdicts_are_those_of_the_standard_library(lines: list[bytes]) -> None:
    """Accepted is what json accepts, with the right members, each once."""
    lines = [line for line in lines if b"[]" not in line]
    blocks = scan_bytes(b"".join(line + b"\n" for line in lines))
    accepted = [block.line(position) for block in blocks for position in range(len(block.ends))]
    assert accepted == [line + b"\n" for line in lines if is_good(line)]


@given(st.binary(max_size=40))
def test_no_bytes_make_anything_escape(data: bytes) -> None:
    """Whatever stands in a line, it is accepted, blank or rejected."""
    for block in scan_bytes(data.replace(b"\n", b"")):
        assert len(block.ends) + block.blank + len(block.rejects) == block.lines == 1


@given(st.text(max_size=6), st.text(max_size=6))
def test_text_of_any_kind_is_accepted(key: str, value: str) -> None:
    """Escaped or not, as long as the key is one."""
    row = {"key": f"k{key}".replace("\0", ""), "request": {"x": value}}
    for ascii_only in (True, False):
        line = json.dumps(row, ensure_ascii=ascii_only).encode()
        block = judge(line)
        assert block.rejects == []
        assert block.keys[1] == digests([row["key"].encode()])[0]  # type: ignore[attr-defined]  # it is a str


def test_no_room_on_the_stack_is_not_the_lines_fault() -> None:
    """A verdict that depended on the caller's depth would cut other shards elsewhere."""
    line = nested(MAX_DEPTH)

    def at_depth(raws: int, call: Callable[[], object]) -> object:
        return call() if raws == 0 else at_depth(raws - 1, call)

    limit = sys.getrecursionlimit()
    verdicts = set()
    for room in range(30, 140, 5):
        try:
            depth = limit - room - len(_stack())
            block = at_depth(depth, lambda: judge(line))
            verdicts.add(len(block.rejects))  # type: ignore[attr-defined]  # it is a Batch
        except (InputError, RecursionError):
            verdicts.add(0)
    assert verdicts == {0}


def _stack() -> list[object]:
    raws: list[object] = []
    raw = sys._getframe()
    while raw.f_back:
        raws.append(raw)
        raw = raw.f_back
    return raws


def test_lines_leave_a_batch_as_rejects() -> None:
    """All that runs parallel loses the same entries, and rejects stay in the order of the source."""
    data = b"".join(b'{"key":"%d","request":{}}\n' % number for number in range(3)) + b"bad\n"
    (block,) = scan_bytes(data)
    left = without(block, [1], repeated_key)
    assert left.data == data[:25] + data[50:75]
    assert (left.ends, left.raw_starts, left.raw_ends, left.lines_no) == ([25, 50], [0, 50], [25, 75], [1, 3])
    assert left.keys == digests([b"0", b"2"])
    assert [(reject.line, reject.offset) for reject in left.rejects] == [(2, 25), (4, 75)]
    assert "key '1' was already used earlier in this run" in left.rejects[0].reason
    assert (left.lines, left.end) == (4, 79)
    assert without(block, [], repeated_key) is block


def test_a_line_larger_than_a_shard_names_both_sizes() -> None:
    """So that a person sees which limit to move."""
    assert "of 38 bytes is larger than a shard of 20 bytes" in larger_than_shard(GOOD + b"\n", 20)


def test_a_quote_is_short_and_escaped() -> None:
    """At most 200 bytes, and no control character reaches a terminal."""
    (reject,) = judge(b"\x1b[2J" + b"x" * 5000).rejects
    assert "\\x1b[2J" in reject.reason
    assert "\x1b" not in reject.reason
    assert len(reject.reason) < 300
