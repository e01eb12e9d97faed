"""Diagnosis of inputs that are of another kind than request lines."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packtrain._providers.service import line_form
from packtrain._rules.diagnosis import HEAD_BYTES, Kind, LineForm, diagnose

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtrain import Task


def good(number: int) -> dict[str, Any]:
    return {"key": f"k{number}", "request": {"contents": [{"parts": [{"text": f"t{number}"}]}]}}


def lines(make: Callable[[int], object], count: int = 20) -> bytes:
    return b"".join(json.dumps(make(number)).encode() + b"\n" for number in range(count))


def with_request(**members: object) -> bytes:
    return lines(lambda n: {**good(n), "request": {**good(n)["request"], **members}})


def request_of(number: int) -> object:
    return good(number)["request"]


def tar(form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        member = tarfile.TarInfo("in.jsonl")
        member.size = len(GOOD)
        archive.addfile(member, io.BytesIO(GOOD))
    return file.getvalue()


def old_tar() -> bytes:
    """As written before there was a magic number."""
    block = bytearray(tar(tarfile.USTAR_FORMAT)[:1024])
    block[148:156] = b" " * 8
    block[257:265] = bytes(8)
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("in.jsonl", GOOD)
    return file.getvalue()


GOOD = lines(good)

CASES: list[tuple[Kind, bytes, str]] = [
    ("tar", tar(tarfile.USTAR_FORMAT), "tar archive"),
    ("tar", tar(tarfile.GNU_FORMAT), "tar archive"),
    ("tar", old_tar(), "tar archive"),
    ("zip", zipped(), "zip archive"),
    ("parquet", b"PAR1" + bytes(200), "Parquet"),
    ("compressed", b"BZh91AY", "bzip2"),
    ("nested", gzip.compress(GOOD), "gzip data inside"),
    ("nested", b"\x28\xb5\x2f\xfd\0\0\0", "zstd data inside"),
    ("binary", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
    ("utf-16", GOOD.decode().encode("utf-16"), "UTF-16"),
    ("utf-16", GOOD.decode().encode("utf-16-le"), "UTF-16"),
    ("utf-16", GOOD.decode().encode("utf-16-be"), "UTF-16"),
    ("markup", b"<!DOCTYPE html>\n<html>\n", "HTML"),
    ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS"),
    ("csv", b'id,prompt\r\n1,"a, b"\r\n2,c\r\n', "id, prompt"),
    ("csv", b'id,prompt\n1,"a\nb"\n2,c\n3,d\n', "CSV"),
    ("csv", b"id\tprompt\n1\tx\n", "TSV"),
    ("text", b"Hello world.\nThis is prose.\n", "Hello world"),
    ("array", b"[\n" + b",\n".join(GOOD.splitlines()) + b"\n]\n", "JSON array"),
    ("array", b"[" + b",".join(GOOD.splitlines()) + b"]", "JSON array"),
    ("array", json.dumps([good(0), good(1)], indent=2).encode(), "JSON array"),
    ("arrays", lines(lambda n: ["k", n]), "JSON array in each line"),
    ("pretty", b"\n".join(json.dumps(good(n), indent=2).encode() for n in range(9)), "pretty-printed"),
    ("joined", GOOD.replace(b"\n", b""), "several JSON objects in one line"),
    ("commas", GOOD.replace(b"\n", b",\n"), "comma"),
    ("python", b"".join(str(good(n)).encode() + b"\n" for n in range(9)), "single quotes"),
    ("results", lines(lambda n: {"key": f"k{n}", "response": {}}), "answers"),
    ("results", lines(lambda n: {"id": "b", "custom_id": f"k{n}", "response": {}, "error": None}), "answers"),
    ("other service", lines(lambda n: {"custom_id": f"k{n}", "method": "POST", "url": "/v1", "body": {}}), "OpenAI"),
    ("other service", lines(lambda n: {"custom_id": f"k{n}", "params": {}}), "Anthropic"),
    ("other service", lines(lambda n: {"recordId": f"k{n}", "modelInput": {}}), "Bedrock"),
    ("bare", lines(lambda n: {"messages": []}), '"messages"'),
    ("bare", lines(request_of), '"contents"'),
    ("no key", lines(lambda n: {"request": request_of(n)}), "Vertex"),
    ("key name", lines(lambda n: {"id": f"k{n}", "request": request_of(n)}), '"id", a text'),
    ("key name", lines(lambda n: {"id": n, "request": request_of(n)}), '"id", a number'),
    ("key name", lines(lambda n: {"custom_id": f"k{n}", "request": request_of(n)}), '"custom_id"'),
    ("key name", lines(lambda n: {"Key": f"k{n}", "request": request_of(n)}), '"Key"'),
    ("key type", lines(lambda n: {"key": n, "request": request_of(n)}), "numbers"),
    ("request name", lines(lambda n: {"key": f"k{n}", "reqeust": request_of(n)}), '"reqeust"'),
    ("request name", lines(lambda n: {"key": f"k{n}", "body": request_of(n)}), '"body"'),
    ("request text", lines(lambda n: {"key": f"k{n}", "request": json.dumps(request_of(n))}), "JSON inside"),
    ("rows", lines(lambda n: {"doc": n, "question": "x"}), '"doc", "question"'),
    ("beside", lines(lambda n: {**good(n), "config": {"temperature": n}}), '"config" next to "request"'),
    ("beside", lines(lambda n: {**good(n), "generation_config": {}}), '"generation_config" next to "request"'),
    ("beside", with_request(config={"temperature": 1}), '"config" in "request"'),
    ("text contents", lines(lambda n: {"key": f"k{n}", "request": {"contents": "hello"}}), '"contents"'),
    ("text contents", lines(lambda n: {"key": f"k{n}", "request": {"contents": ["hello"]}}), '"contents"'),
    ("misspelt", with_request(generationConfg={}), '"generationConfig"'),
    ("misspelt", with_request(GenerationConfig={}), '"generationConfig"'),
    ("misspelt", with_request(system_instrution={}), '"systemInstruction"'),
    ("misspelt", with_request(generation_config={"max_output_token": 3}), '"maxOutputTokens"'),
    ("misspelt", with_request(generationConfig={"temprature": 3}), '"temperature"'),
]


def kind_of(head: bytes, *, task: Task | None = "generate", whole: bool = True) -> Kind | None:
    found = diagnose(head, line_form(task), whole=whole)
    return None if found is None else found.kind


@pytest.mark.parametrize(("kind", "head", "words"), CASES)
def test_an_input_of_another_kind_is_named(kind: Kind, head: bytes, words: str) -> None:
    """B5 and B8: one sentence for the whole, with what was found."""
    found = diagnose(head, line_form("generate"), whole=True)
    assert found is not None
    assert found.kind == kind
    assert words in found.fact
    assert len(found.fact) < 300


def test_every_kind_has_a_case() -> None:
    """But for those that need a task, and those that are found while a file is unpacked."""
    assert {kind for kind, _, _ in CASES} == set(get_args(Kind)) - {"task", "packed", "dictionary", "window"}


@pytest.mark.parametrize(
    "head",
    [
        GOOD,
        GOOD.rstrip(),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"\n", b"\r\n\r\n"),
        b"",
        b"\n\n",
        lines(lambda n: {**good(n), "config": "arm-3", "metadata": {"row": n}}),
        lines(lambda n: {"key": f"k{n}", "request": {}}),
        lines(lambda n: {"key": f"k{n}", "request": {"contents": {"parts": {"text": "one"}}}}),
        with_request(generation_config={"max_output_tokens": 3, "aNewOption": 1}, aNewMember={}, tools=[]),
        with_request(generationConfig={"maxOutputTokens": 3, "topK": 1, "topP": 0.5}, systemInstruction={}),
        b'{"key":"x",\n' + GOOD,
        b"[\n" + GOOD,
        b"id,prompt\n" + GOOD,
        b"\0\0\n" + GOOD,
        b"<p>\n" + GOOD,
        GOOD + lines(lambda n: {"id": n}, 5),
        lines(lambda n: {"id": n}, 2) + GOOD[: len(GOOD) // 2],
    ],
)
def test_an_input_of_mostly_good_lines_is_none(head: bytes) -> None:
    """Its bad lines are rejects; new members of the service's requests are no mistakes."""
    assert kind_of(head) is None


def test_nine_in_ten_lines_decide() -> None:
    """Of those that the first block has whole."""
    other = lines(lambda n: {"id": f"k{n}", "request": {}}, 1)
    assert kind_of(9 * other + lines(good, 1)) == "key name"
    assert kind_of(8 * other + lines(good, 2)) is None
    assert kind_of(other + b'{"key": "cut off', whole=False) == "key name"


def test_the_task_is_compared_where_it_is_known() -> None:
    """Requests of the other task would all fail a day later."""
    embed = lines(lambda n: {"key": f"k{n}", "request": {"content": {"parts": [{"text": "x"}]}}})
    assert kind_of(embed, task="generate") == "task"
    assert kind_of(GOOD, task="embed") == "task"
    assert kind_of(embed, task="embed") is None
    assert kind_of(embed, task=None) is None
    assert kind_of(GOOD, task=None) is None


def test_where_only_keys_are_read_only_keys_are_compared() -> None:
    """As for the requests of ``merge``."""
    form = LineForm(key_alone=True)
    assert diagnose(lines(lambda n: {"key": f"k{n}"}), form, whole=True) is None
    found = diagnose(lines(lambda n: {"id": f"k{n}", "request": {}}), form, whole=True)
    assert found is not None
    assert found.kind == "key name"


def test_what_the_first_block_cuts_off_is_named_all_the_same() -> None:
    """An array, an object, or a table that goes on for gigabytes."""
    long = "x" * HEAD_BYTES
    assert kind_of(b'[{"key":"' + long.encode(), whole=False) == "array"
    assert (
        kind_of(json.dumps({"key": "a", "request": {"t": long}}, indent=1).encode()[:HEAD_BYTES], whole=False)
        == "pretty"
    )
    assert kind_of(b'{"key":"a","request":{"t":"' + long.encode(), whole=False) is None


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=600), st.text(max_size=200).map(str.encode), st.sampled_from(CASES).map(lambda c: c[1])
    ),
    st.integers(0, 600),
)
def test_no_bytes_raise(head: bytes, cut: int) -> None:
    """Whatever a file begins with."""
    diagnose(head[:cut], line_form("generate"), whole=False)
    diagnose(head[cut:], line_form("embed"), whole=True)


@pytest.mark.parametrize("head", [b"[" * 200_000, b'{"a":' * 40_000, b'"' * 200_000, b"9" * 200_000, b'a,"' * 60_000])
def test_extreme_text_does_not_raise(head: bytes) -> None:
    """Depth, digits and quotes have limits in parsers."""
    diagnose(head, line_form("generate"), whole=True)
    diagnose(head + b"\n", line_form("generate"), whole=False)
