"""What counts as JSON in a line: RFC 8259, production by production, as data.

Every production is there in all its forms, and every way to break one. A text stands in a request line at each place
where its production may stand, and each line is judged by both ways through: the quick one, for a frame in which all
lines are good, and the careful one. The verdicts are literal, so they are the same on every interpreter.

Newlines are left out: in JSONL they end the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packtrain._options import MAX_DEPTH, MAX_KEY_BYTES
from packtrain._rules.framing import Framer
from packtrain._rules.validate import scan

if TYPE_CHECKING:
    from collections.abc import Iterable

Text = str | bytes

#: Where a value may stand: ``%`` is the place.
VALUE_PLACES = (
    b'{"key":"k","request":{"x":%}}',
    b'{"key":"k","request":{"a":1,"x":%,"z":2}}',
    b'{"key":"k","request":{"x":[%]}}',
    b'{"key":"k","request":{"x":[0,%,9]}}',
    b'{"key": "k", "request": {}, "more": %}',
    b'{"more":%,"key":"k","request":{}}',
)
STRING_PLACES = (*VALUE_PLACES, b'{"key":"k","request":{%:1}}', b'{"key":"k","request":{},%:1}')
OBJECT_PLACES = (*VALUE_PLACES, b'{"key":"k","request":%}', b'{"request":%,"key":"k"}')
KEY_PLACES = (b'{"key":%,"request":{}}', b'{"key": %, "request": {}}', b'{"request":{},"key":%}')

LITERALS = ("true", "false", "null")
BROKEN_LITERALS = (
    *("True", "TRUE", "False", "FALSE", "Null", "NULL", "nil", "none", "None", "undefined", "t", "tr", "tru"),
    *("truee", "true1", "true_", "f", "fals", "falsee", "n", "nul", "nulll", "n ull", "tr ue", "yes", "no", "on"),
    *("off", "NaN", "nan", "-NaN", "Infinity", "-Infinity", "+Infinity", "inf", "-inf", "Inf", "x", "_", "$", "@"),
    *("#", "&", "*", "~", "`", "\\", "/", "|", "^", "%", "=", "<", ">", "?", "!", ";", "(", ")", "(1)", "<null>"),
    *("new Date()", "function(){}", "\\u0074rue", "\u00e9", "\u2028", "\ufeff1", "\u00a01", "\uff11", "\x0b1", "\x0c1"),
    *("\x001", "1\x00", "\x7f1", "\x1b1", "\u200b1", "\u30001", "\u00851"),
)

NUMBERS = (
    *("0", "-0", "1", "9", "10", "-1", "-10", "1234567890", "9007199254740993", "18446744073709551616"),
    *("-9223372036854775809", "0.0", "-0.0", "0.1", "1.0", "1.5", "-1.5", "0.000001", "10.01", "3.14159265358979"),
    *("0e0", "0E0", "0e+1", "0e-1", "1e1", "1E1", "1e+1", "1E+1", "1e-1", "1E-1", "1e01", "1e00", "1e-00"),
    *("-0e-0", "1.5e3", "-1.5E-3", "1.5e+3", "0.1e1", "10e10", "123.456e789", "1e400", "-1e400", "1e-400", "1E5"),
    *("0e999999", "7" * 5000, "0." + "1" * 5000, "1e" + "0" * 500 + "1", "-" + "9" * 400, "1" + "0" * 400 + ".5"),
)
BROKEN_NUMBERS = (
    *("-", "+", "+1", "+0", "--1", "-+1", "+-1", "- 1", "-a", "1-", "1+", "1+1", "1-1", "0-0", "00", "01", "-00"),
    *("-01", "007", "00.5", "01e1", "1 0", "1 000", "1_000", "1'000", "1,000.0.0", ".", ".5", "-.5", "1.", "-1."),
    *("0.", "1.e1", "1..2", "1.2.3", "1. 5", "1 .5", "1.-5", "1.+5", ".e1", "1.5.", ".1.", "e", "e1", "1e", "1E"),
    *("1e+", "1e-", "1E+", "0e", "0e+", "1ee1", "1e1e1", "1e1.5", "1e.5", "1e 1", "1 e1", "1e+-1", "1e--1"),
    *("1e1-", "0.e1", "0.3e", "0.3e+", "9.e+", "2.e3", "2.e-3", "2.e+3", "-2.", "-e1", "0x1", "0X1", "0xFF"),
    *("0b1", "0o7", "0x", "1f", "1F", "1d", "1L", "1l", "1u", "1n", "1j", "1a", "0a", "-1x", "1e1x", "1.5f", "1%"),
    *("$1", "1/2", "1:2", "1;", "0.1.2e3", "1e1_0", "1\u066b5", "\u0661", "\u00bd", "\u22121", "1\u00a0", "1\x0b"),
    *("1\x0c", "Infinity1", "1Infinity", "0NaN"),
)

STRINGS = (
    *('"a"', '"ab c"', '" "', '"~"', '"!"', '"#"', '"["', '"]"', '"^"', '"/"', '"\'"', '"{}[],:"', '"//"'),
    *('"/**/"', r'"\""', r'"\\"', r'"\/"', r'"\b"', r'"\f"', r'"\n"', r'"\r"', r'"\t"', r'"\"\\\/\b\f\n\r\t"'),
    *(r'"a\\"', r'"\\\\"', r'"\\u0041"', r'"\\\""', r'"\u0020"', r'"\u0022"', r'"\u005c"', r'"\u002f"'),
    *(r'"\u000a"', r'"\u001f"', r'"\u007f"', r'"\u0041"', r'"\u00e9"', r'"\u00E9"', r'"\uabcd"', r'"\uABCD"'),
    *(r'"\uaBcD"', r'"\u2028\u2029"', r'"\uffff"', r'"\ud7ff"', r'"\ue000"', r'"\ud83d\ude00"', r'"\uD83D\uDE00"'),
    *(r'"\uD800\uDC00"', r'"\uDBFF\uDFFF"', r'"\ufeff"', r'"\u00411"', r'"x\u0041y\u0042z"'),
    *(r'"\ud83d\ude00\ud83d\ude00"', r'"\ufffe"', r'"\ufdd0"', '"\x7f"', '"\u0080"', '"\u0085"', '"\u00a0"'),
    *('"\u00e9"', '"\u07ff"', '"\u0800"', '"\u2028"', '"\u2029"', '"\ufeff"', '"\ud7ff"', '"\ue000"', '"\ufffd"'),
    *('"\ufffe"', '"\uffff"', '"\U00010000"', '"\U0001f600"', '"\U0010ffff"', '"e\u0301"', '"\u202e"', '"\u200b"'),
    *('"true"', '"null"', '"1"', '"' + "a" * 900 + '"', '"' + "\\\\" * 300 + '"'),
)
BROKEN_STRINGS: tuple[Text, ...] = (
    *('"', '"a', 'a"', "a", '"a""', '""a', '"a"b', '"a"b"', '"a" "b"', '"""', "'a'", "'", "\"a'", "'a\"", "`a`"),
    *('"a', "''", "\u201ca\u201d", "\u00aba\u00bb", '"""a"""', 'u"a"', 'b"a"', 'r"a"', 'f"a"', '\\"a\\"'),
    *('"a"+"b"', '@"a"', '"\\"', '"\\\\\\"', r'"\a"', r'"\v"', r'"\0"', r'"\00"', r'"\x00"', r'"\x41"', r'"\1"'),
    *(r'"\e"', r'"\c"', r'"\d"', r'"\ "', '"\\\'"', r'"\:"', r'"\{"', r'"\,"', r'"\N{DASH}"', r'"\B"', r'"\F"'),
    *(r'"\R"', r'"\T"', r'"\U0041"', '"\\\t"', '"\\\u00e9"', '"\\\U0001f600"', '"\\\x00"', r'"\u"', r'"\u0"'),
    *(r'"\u00"', r'"\u004"', r'"\u 041"', r'"\u004 "', r'"\u00g1"', r'"\u004G"', r'"\u{41}"', r'"\u+041"'),
    *(r'"\u-041"', r'"\u0x41"', r'"\uu0041"', r'"\u00\41"', r'"\u\u0041"', '"\\u\uff10041"', '"\\u004\u0661"'),
    *(r'"\ud83d\u"', r'"\ud83d\ude0"', r'"\ud83d\ude0g"', r'"\u00_1"', r'"\u004'),
    *(f'"a{chr(code)}b"' for code in range(0x20) if chr(code) != "\n"),
    *(b'"\x80"', b'"\xbf"', b'"\xc0\x80"', b'"\xc0\xaf"', b'"\xc1\xbf"', b'"\xc2"', b'"\xc2a"', b'"\xe0\x80\xaf"'),
    *(b'"\xe0\x9f\xbf"', b'"\xe2\x82"', b'"\xe2\x28\xa1"', b'"\xed\xa0\x80"', b'"\xed\xbf\xbf"'),
    *(b'"\xed\xa0\xbd\xed\xb8\x80"', b'"\xf0\x80\x80\xaf"', b'"\xf0\x8f\xbf\xbf"', b'"\xf0\x9f\x98"'),
    *(b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xfc\x84\x80\x80\x80\x80"'),
    *(b'"\xfe"', b'"\xff"', b'"\xff\xfe"', b'"a\xe9"', b'"\\\xff"', b'"\\u\xff041"'),
)
#: Strings in the grammar, yet no text: half a surrogate pair is no character, and no UTF-8 could carry it on.
LONE_SURROGATES = (
    *(r'"\ud800"', r'"\uDBFF"', r'"\udc00"', r'"\uDFFF"', r'"\ud83dx"', r'"\ud83d\n"', r'"\ud83d\u0041"'),
    *(r'"\ude00\ud83d"', r'"\ud83d\ud83d"', r'"\ud83d\ud83d\ude00"', r'"\ud83d\ude00\ude00"', r'"a\\\udc00"'),
    *(r'"\ud83d\\ude00"', r'"\ud83d \ude00"'),
)

ARRAYS = (
    *("[]", "[ ]", "[\t]", "[\r]", "[ \t\r ]", "[1]", "[ 1 ]", "[1,2]", "[1 ,2]", "[1, 2]", "[ 1 , 2 ]"),
    *("[\t1\t,\r2\r]", "[null]", "[null,null,null]", "[[]]", "[[],[]]", "[[[[]]]]", "[[],{}]"),
    *('[{}, "a", 1, true, null, []]', '["a","b"]', "[1,[2,[3,[4]]]]", "[" + "1," * 999 + "1]"),
    "[" * (MAX_DEPTH - 3) + "]" * (MAX_DEPTH - 3),
)
BROKEN_ARRAYS = (
    *("[", "[1", "[1,", "]", "1]", "[]]", "[[]", "[[", "[,]", "[,1]", "[1,]", "[1,,2]", "[,,]", "[1 2]", "[1;2]"),
    *("[1:2]", '["a" "b"]', "[1}", "[}", "[{]", "[{]}", "[1,]]", "[ ,1]", "[1, ,2]", "[:1]", "[1:]", '["a":1]'),
    *("[1.]", "[01]", "[+1]", "[a]", "['a']", '["a]', '[a"]', '["a",', "[true false]", "[nul]", "[1,2", "[...]"),
    *("[1,...]", "[*]", "[1]]", "(1,2)", "[\x0b]", "[\x0c]", "[\u00a0]", "[\u2028]", "[\ufeff]", "[/**/]", "[//]"),
    *("[1/**/]", "[#\r]", "[1]x", "x[1]", "[][]", "[1],", ",[1]", "[-]", '["\\"]', "[\\n]", "[\x00]", '["",]'),
    *("[[1,2]", "[[1],", "[1,[2]"),
)

OBJECTS = (
    *("{}", "{ }", "{\t}", "{\r}", "{ \t\r }", '{"a":1}', '{ "a":1}', '{"a" :1}', '{"a": 1}', '{"a":1 }'),
    *('{ "a" : 1 }', '{"a":1,"b":2}', '{"a":1 , "b":2}', '{\t"a"\t:\t1\t,\r"b"\r:\r2\r}', '{"a":{}}', '{"a":[]}'),
    *('{"a":{"b":{"c":{}}}}', '{"":1}', '{" ":1}', '{"":{"":""}}', '{"a":1,"a":2}', '{"a":1,"a":1}'),
    *('{"a":1,"\\u0061":2}', '{"\\"":1}', '{"1":1}', '{"key":"k"}', '{"request":{}}', '{"key":1,"request":2}'),
    *('{"true":true}', '{"a":null}', '{"\u00e9":1}', '{"\\n":1}', '{"__proto__":{}}', '{"' + "n" * 5000 + '":1}'),
    *('{"a":"}"}', '{"a":"{"}', '{"a":"\\"}"}', '{"\U0001f600":"\U0001f600"}'),
    "{" + ",".join(f'"m{number}":{number}' for number in range(500)) + "}",
)
BROKEN_OBJECTS = (
    *("{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,"b"', "}", '"a":1', '"a":1}', "{}}", "{{}", "{{}}"),
    *('{"a":{}', "{,}", '{,"a":1}', '{"a":1,}', '{"a":1,,"b":2}', '{"a":1 "b":2}', '{"a":1;"b":2}'),
    *('{"a":1:"b":2}', '{"a":1,"b"}', '{"a"}', '{"a",}', '{"a","b"}', '{"a" 1}', '{"a"=1}', '{"a"=>1}'),
    *('{"a"::1}', '{"a":}', "{:1}", '{"a":,}', '{"a":1 2}', "{1}", "{a:1}", "{'a':1}", "{1:1}", "{1.5:1}"),
    *("{null:1}", "{true:1}", "{[]:1}", "{{}:1}", '{"a:1}', '{a":1}', '{"a\\":1}', '{"a":1]', "{]", '{"a":[}'),
    *('{"a":[1}', '{"a":{]}', '{"a":1}}', '{"a":1}x', 'x{"a":1}', '{"a":1}{"b":2}', "{}{}", "{}[]", '{"a":1}#'),
    *("{}//", "{}/**/", "{/**/}", '{"a":/**/1}', '{//\r"a":1}', '{"a":1,#\r"b":2}', "{...}", '{"a":1,...}'),
    *('{"a":b}', '{"a":"b}', '{"a":b"}', "{\"a\":'b'}", '{"a":01}', '{"a":.5}', '{"a":+1}', '{"a":NaN}'),
    *('{"a":True}', "{,,}", "{\x0b}", "{\x0c}", "{\u00a0}", "{\u2028}", "{\ufeff}", "{\x00}", '{"a"\u00a0:1}'),
    *('{"a":\u20281}', '{"a":1},', ',{"a":1}', '{"a":1,"b":2', '{"a":1,{"b":2}}', '{"a":{"b":1}', '{["a",1]}'),
    *('{"a":1,"b"=2}', '{"a";1}', '{"a"."b":1}', "({})"),
)
#: Valid JSON, and no objects: no request may be one of them.
NO_OBJECTS = ("true", "false", "null", "0", "-1", "1.5", '""', '"{}"', "[]", "[{}]", '[["a",1]]')

#: Whole lines. White space may stand around and between all tokens, and nothing else may.
LINES = (
    *('{"key":"k","request":{}}', ' {"key":"k","request":{}}', '{"key":"k","request":{}} '),
    *('\t{"key":"k","request":{}}\t', '\r{"key":"k","request":{}}', '{"key":"k","request":{}}\r'),
    *(' \t\r { "key" : "k" , "request" : { } } \t\r ', '{"request":{},"key":"k"}', '{"key":"k",\r"request":{}}'),
    *('{"key":"k","request":{}}\t \r', '{"a":1,"key":"k","b":[2],"request":{},"c":{"key":3}}'),
    *('{"\\u006bey":"k","request":{}}', '{"key":"k","\\u0072equest":{}}', '{"":"","key":"k","request":{}}'),
)
BROKEN_LINES: tuple[Text, ...] = (
    *('"key":"k","request":{}', '{"key":"k","request":{}', '"key":"k","request":{}}', '{"key":"k","request":{}}}'),
    *('{{"key":"k","request":{}}', '{"key":"k" "request":{}}', '{"key":"k",,"request":{}}'),
    *('{,"key":"k","request":{}}', '{"key":"k","request":{},}', '{"key" "k","request":{}}'),
    *('{"key":"k";"request":{}}', "{'key':'k','request':{}}", '{key:"k",request:{}}', '{"key"="k","request"={}}'),
    *('[{"key":"k","request":{}}]', '{"key":"k","request":{}},', ',{"key":"k","request":{}}'),
    *('{"key":"k","request":{}};', '{"key":"k","request":{}}{}', '{"key":"k","request":{}} 1'),
    *('{"key":"k","request":{}} null', '{"key":"k","request":{}}//', '//{"key":"k","request":{}}'),
    *('/**/{"key":"k","request":{}}', '#{"key":"k","request":{}}', '{"key":"k","request":{}}\x00'),
    *('\x00{"key":"k","request":{}}', '\x0b{"key":"k","request":{}}', '{"key":"k","request":{}}\x0c'),
    *('\ufeff{"key":"k","request":{}}', '\u00a0{"key":"k","request":{}}', '{"key":"k","request":{}}\u2028'),
    *('{"key":"k","request":{}}\u0085', '\x1e{"key":"k","request":{}}', ')]}\'{"key":"k","request":{}}'),
    *('data: {"key":"k","request":{}}', '{"key":"k","request":{}}"', '"{"key":"k","request":{}}"'),
    *('"{\\"key\\":\\"k\\",\\"request\\":{}}"', "({})", "{}", '{"key":"k","request":{}}'.encode("utf-16")),
    *('{"key":"k","request":{}}'.encode("utf-16-le"), '{"key":"k","request":{}}'.encode("utf-16-be")),
    *('{"key":"k","request":{}}'.encode("utf-32-le"), b'{"key":"k","request":{}}\xff'),
    *(b'\xc2{"key":"k","request":{}}', b'{"key":"k",\xe2\x80\xa8"request":{}}'),
    b'{"k\xff":1,"key":"k","request":{}}',
)

#: Strings that no key may be, whatever the grammar says.
NO_KEYS = ('""', r'"\u0000"', r'"a\u0000b"', '"' + "k" * (MAX_KEY_BYTES + 1) + '"')

#: RFC 8259 section 9 leaves it to us how deep texts may nest; the line and the request are two levels.
DEEPEST = MAX_DEPTH - 2
TOO_DEEP = (
    "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
    '{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1),
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000,
    '[{"a":' * 50_000 + "1" + "}]" * 50_000,
)


def lines(texts: Iterable[Text], places: Iterable[bytes]) -> dict[Text, list[bytes]]:
    """For each text, the lines with the text at each place."""
    return {text: [place.replace(b"%", _encoded(text)) for place in places] for text in texts}


def _encoded(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


ACCEPTED = {
    "literal": lines(LITERALS, VALUE_PLACES),
    "number": lines(NUMBERS, VALUE_PLACES),
    "string": lines((*STRINGS, '""', r'"\u0000"'), STRING_PLACES),
    "key": lines(STRINGS, KEY_PLACES),
    "array": lines(ARRAYS, VALUE_PLACES),
    "object": lines(OBJECTS, OBJECT_PLACES),
    "line": lines(LINES, [b"%"]),
}
REFUSED = {
    "literal": lines(BROKEN_LITERALS, (*VALUE_PLACES, *KEY_PLACES, b"%")),
    "number": lines(BROKEN_NUMBERS, (*VALUE_PLACES, *KEY_PLACES)),
    "string": lines((*BROKEN_STRINGS, *LONE_SURROGATES), (*STRING_PLACES, *KEY_PLACES)),
    "key": lines((*NO_KEYS, *LITERALS, *NUMBERS, *ARRAYS, *OBJECTS), KEY_PLACES),
    "array": lines(BROKEN_ARRAYS, VALUE_PLACES),
    "object": lines(BROKEN_OBJECTS, OBJECT_PLACES),
    "no object": lines(NO_OBJECTS, (b'{"key":"k","request":%}', b"%")),
    "line": lines(BROKEN_LINES, [b"%"]),
    "too deep": lines(TOO_DEEP, VALUE_PLACES[:4]),
}


def judged(line: bytes, before: bytes) -> tuple[int, int]:
    """How many lines were accepted and rejected of a frame that holds ``before`` and ``line``."""
    framer = Framer(1 << 24)
    blocks = [scan(raw, source="in") for raw in [*framer.feed(before + line + b"\n"), *framer.finish()]]
    return sum(len(block.ends) for block in blocks), sum(len(block.rejects) for block in blocks)


GOOD, BAD = b'{"key":"first","request":{}}\n', b"bad\n"


@pytest.mark.parametrize("production", ACCEPTED)
def test_what_the_grammar_derives_is_accepted(production: str) -> None:
    """Wherever it may stand, by the quick way and by the careful one."""
    every = [line for texts in ACCEPTED[production].values() for line in texts]
    assert [line[:200] for line in every if judged(line, GOOD) != (2, 0) or judged(line, BAD) != (1, 1)] == []


@pytest.mark.parametrize("production", REFUSED)
def test_what_it_does_not_derive_is_refused(production: str) -> None:
    """With a reject at every place; nothing else is raised, and the line before keeps its verdict."""
    every = [line for texts in REFUSED[production].values() for line in texts]
    assert [line[:200] for line in every if judged(line, GOOD) != (1, 1) or judged(line, BAD) != (0, 2)] == []


def test_the_table_is_as_large_as_it_claims() -> None:
    """Distinct texts and distinct lines, none with two verdicts."""
    verdicts = (ACCEPTED, REFUSED)
    accepted, refused = (
        {line for group in each.values() for texts in group.values() for line in texts} for each in verdicts
    )
    texts = {text for each in verdicts for group in each.values() for text in group}
    assert not accepted & refused
    assert len(texts) >= 250
    assert (len(texts), len(accepted), len(refused)) == (756, 1666, 4894)
