"""Diagnosis of an input that is of another kind than the run's lines, from its first bytes as a whole.

A few bad lines among good ones are rejects. But when nine in ten of the first lines are wrong in the same way, the
input is of another kind: a CSV file, another service's lines, a JSON array. Then one sentence about the whole says more
than a reason for each line, and nothing of it should be sent.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from .framing import BOM
from .lines import OWN, LineShape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Bytes that are looked at, after decompression, and the lines of them that are parsed.
HEAD_BYTES = 256 * 1024
HEAD_LINES = 100
#: Lines of a stream that are enough for a look.
ENOUGH_LINES = 10
#: Lines of a hundred that must be of one other kind.
_SHARE = 90
_LONGEST_NAME = 40

#: What an input can be instead: advice for people goes by these.
Kind = Literal[
    "tar", "zip", "parquet", "compressed", "dictionary", "window", "packed", "nested", "binary", "utf-16", "markup",
    "lfs", "csv", "text", "array", "arrays", "pretty", "joined", "commas", "python", "results", "other service", "bare",
    "no key", "key name", "key type", "request name", "request text", "rows", "beside", "task", "text contents",
    "misspelt",
]  # fmt: skip


class RequestForm(Struct, frozen=True, kw_only=True):
    """What a request of one task looks like at a service, as far as an obvious mistake shows."""

    #: The member that every request has.
    needs: str
    #: All members, and those of the options in ``options``; a service may take further ones.
    members: tuple[str, ...]
    options: str = ""
    option_members: tuple[str, ...] = ()
    #: Names by which SDKs have options next to the request.
    beside: tuple[str, ...] = ()


class LineForm(Struct, frozen=True, kw_only=True):
    """The lines that a run takes: their members, and the requests of each task. Without ``task``, only mistakes show
    that are mistakes for all of them."""

    shape: LineShape = OWN
    requests: Mapping[str, RequestForm] = {}
    task: str | None = None
    #: Only the key is read of a line.
    key_alone: bool = False


class Diagnosis(Struct, frozen=True):
    """``fact`` follows the input's name: "is a tar archive"."""

    kind: Kind
    fact: str


#: Formats by their first bytes.
_MAGIC: tuple[tuple[bytes, Kind, str], ...] = (
    (b"BZh", "compressed", "is compressed with bzip2, which is not read"),
    (b"\xfd7zXZ\x00", "compressed", "is compressed with xz, which is not read"),
    (b"7z\xbc\xaf", "compressed", "is compressed with 7-Zip, which is not read"),
    (b"\x04\x22\x4d\x18", "compressed", "is compressed with lz4, which is not read"),
    (b"PK\x03\x04", "zip", "is a zip archive, which is not read"),
    (b"PAR1", "parquet", "is a Parquet file, which is not read"),
    (b"ARROW1", "binary", "is an Arrow file, which is not read"),
    (b"Obj\x01", "binary", "is an Avro file, which is not read"),
    (b"SQLite", "binary", "is an SQLite database, which is not read"),
)
_PACKED = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_TAR_BLOCK, _TAR_SUM = 512, slice(148, 156)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

#: Lines of other services by members that they have; the first that fits.
_SERVICES = (
    ({"custom_id", "body"}, "an OpenAI batch"),
    ({"custom_id", "params"}, "an Anthropic batch"),
    ({"recordId", "modelInput"}, "an Amazon Bedrock batch"),
    ({"key", "request"}, "a Gemini batch"),
)
_BARE = ("contents", "content", "messages", "prompt", "input")
_KEY_NAMES = ("id", "custom_id", "request_id", "_id", "uid", "uuid", "index", "name", "Key", "KEY")
_REQUEST_NAMES = ("body", "params", "req", "payload", "input", *_BARE)


def by_magic(head: bytes) -> Diagnosis | None:
    """A format that is not read, by its first six bytes."""
    return next((Diagnosis(kind, fact) for magic, kind, fact in _MAGIC if head.startswith(magic)), None)


def diagnose(head: bytes, form: LineForm, *, whole: bool) -> Diagnosis | None:
    """The other kind that an input is of, or None. ``head`` are its first bytes after decompression; ``whole``: they
    are all. No bytes raise.
    """
    return _by_bytes(head) or _by_text(head, whole=whole) or _by_lines(head, form, whole=whole)


def _by_bytes(head: bytes) -> Diagnosis | None:
    if found := by_magic(head):
        return found
    if form := next((form for magic, form in _PACKED if head.startswith(magic)), None):
        return Diagnosis("nested", f"is compressed twice: there is {form} data inside of it")
    if _is_tar(head):
        return Diagnosis("tar", "is a tar archive, which is not read")
    if head.startswith(_UTF16) or _looks_wide(head):
        return Diagnosis("utf-16", "is UTF-16 text, not UTF-8")
    if b"\0" in head[:_TAR_BLOCK] and not head.removeprefix(BOM).lstrip().startswith(b"{") and b"\n{" not in head:
        return Diagnosis("binary", "is a binary file, not text")
    return None


def _is_tar(head: bytes) -> bool:
    """By the checksum of its first header, which old archives without a magic number have too."""
    block = head[:_TAR_BLOCK]
    if len(block) < _TAR_BLOCK:
        return False
    try:
        claimed = int(block[_TAR_SUM].strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return claimed == sum(block) - sum(block[_TAR_SUM]) + 8 * ord(" ")


def _looks_wide(head: bytes) -> bool:
    """UTF-16 without a mark: every other byte of the first is NUL, as in ASCII text."""
    piece = head[:64]
    return len(piece) >= 4 and (not any(piece[1::2]) or not any(piece[::2])) and any(piece)


def _by_text(head: bytes, *, whole: bool) -> Diagnosis | None:
    text = head.removeprefix(BOM).lstrip()
    if text.startswith(b"version https://git-lfs"):
        return Diagnosis("lfs", "is a pointer of Git LFS, not the file itself")
    if text.startswith(b"<") and b"\n{" not in text:
        return Diagnosis("markup", "is HTML or XML, not JSONL")
    first, _, rest = text.partition(b"\n")
    if text.startswith(b"[") and (_parsed(first) is _NOTHING or (not rest.strip() and _holds_objects(first))):
        # A line that is an array of its own is judged as a line. One that is cut off is a long array.
        return Diagnosis("array", "is one JSON array, not a line for each request") if _is_array(text, rest) else None
    if text.startswith(b"{") and _parsed(first) is _NOTHING and _goes_on(text, first, rest, whole=whole):
        return Diagnosis("pretty", "is pretty-printed JSON: one object goes over several lines")
    return None


def _is_array(text: bytes, rest: bytes) -> bool:
    """Its first element is an object, and the lines behind its first are no lines of their own."""
    lines = rest.split(b"\n", 20)[:20]
    begins = text[1:].lstrip()[:1] in (b"{", b"", b"]")
    return begins and 2 * sum(_parsed(line) is not _NOTHING for line in lines) <= len(lines)


def _holds_objects(line: bytes) -> bool:
    value = _parsed(line)
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _goes_on(text: bytes, first: bytes, rest: bytes, *, whole: bool) -> bool:
    """An object that begins on the first line ends on a later one."""
    try:
        _, end = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
    except RecursionError:
        return False
    except ValueError:
        # It may end behind the head.
        return not whole and first.rstrip().endswith((b"{", b"[", b",")) and rest[:1] in (b" ", b"\t")
    return end > len(first.decode("utf-8", "replace"))


_NOTHING = object()


def _parsed(line: bytes) -> object:
    """The value of a line, or ``_NOTHING``."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NOTHING


def _by_lines(head: bytes, form: LineForm, *, whole: bool) -> Diagnosis | None:
    lines = [line for line in _lines(head, whole=whole) if line.strip()][:HEAD_LINES]
    if not lines:
        return None
    found = Counter(filter(None, (_of_line(line, form) for line in lines)))
    kinds = Counter[Kind]()
    for diagnosis, count in found.items():
        kinds[diagnosis.kind] += count
    for kind, count in kinds.most_common(1):
        if 100 * count >= _SHARE * len(lines):
            return _of_text(lines) if kind == "text" else next(d for d, _ in found.most_common() if d.kind == kind)
    return None


def _lines(head: bytes, *, whole: bool) -> list[bytes]:
    """The whole lines; the last one has its newline, or ends the input."""
    lines = head.removeprefix(BOM).split(b"\n")
    last = lines.pop()
    return [*lines, last] if whole else lines


def _of_text(lines: Sequence[bytes]) -> Diagnosis | None:
    """No line is JSON: a table, or any text."""
    texts = [line[:2000].decode("utf-8", "replace").strip() for line in lines]
    if texts[0].startswith(("{", "[")):
        return None
    for name, delimiter in (("CSV", ","), ("TSV", "\t"), ("CSV", ";")):
        rows = _rows(texts, delimiter)
        columns = len(rows[0]) if rows else 0
        # Rows may be cut, or go over several lines.
        if columns > 1 and 2 * sum(len(row) == columns for row in rows) > len(rows):
            shown = ", ".join(column[:_LONGEST_NAME] for column in rows[0][:5])
            return Diagnosis("csv", f"is {name}, not JSONL; its first line is {shown!r}")
    return Diagnosis("text", f"is text without JSON; its first line is {texts[0][:80]!r}")


def _rows(texts: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(texts, delimiter=delimiter))
    except csv.Error:  # a quote that is never closed
        return []


def _of_line(line: bytes, form: LineForm) -> Diagnosis | None:
    line = line.strip()
    row = _parsed(line)
    if row is _NOTHING:
        return _of_broken(line)
    if isinstance(row, list):
        return Diagnosis("arrays", "has a JSON array in each line, not an object")
    if not isinstance(row, dict):
        return Diagnosis("text", "")
    key, request = row.get(form.shape.key), row.get(form.shape.request)
    if isinstance(key, str) and form.key_alone:
        return None
    if isinstance(key, str) and isinstance(request, dict):
        return _of_request(row, request, form)
    return _of_members(row, form.shape)


def _of_broken(line: bytes) -> Diagnosis | None:
    if line[:1] not in (b"{", b"["):
        return Diagnosis("text", "")
    if line.endswith(b",") and isinstance(_parsed(line[:-1]), dict):
        return Diagnosis("commas", "has a comma at the end of each line")
    if line.startswith(b"{'"):
        return Diagnosis("python", "has Python's notation, with single quotes, not JSON")
    try:
        _, end = json.JSONDecoder().raw_decode(line.decode())
    except (ValueError, RecursionError):
        return None
    rest = line.decode()[end:].lstrip()
    return Diagnosis("joined", "has several JSON objects in one line") if rest.startswith("{") else None


def _of_members(row: Mapping[str, object], shape: LineShape) -> Diagnosis | None:
    """An object that is no request line of this shape, by the names of its members."""
    names = set(row)
    wanted = f'"{shape.key}" and "{shape.request}"'
    if shape.request not in names and names & {shape.response, "response"} and names & {shape.key, "key", "custom_id"}:
        return Diagnosis("results", "has answers of a batch, not requests")
    for members, service in _SERVICES:
        if members <= names and not {shape.key, shape.request} <= names:
            shown = " and ".join(f'"{name}"' for name in sorted(members))
            return Diagnosis("other service", f"has the lines of {service}, with {shown}; here a line has {wanted}")
    if shape.key in names and shape.request in names:
        return _of_types(row, shape)
    if shape.request in names:
        return _without_key(row, shape)
    if shape.key in names:
        return _without_request(row, shape)
    if found := [name for name in _BARE if name in names]:
        return Diagnosis("bare", f'has "{found[0]}" at the top of each line; here a line has {wanted}')
    if not names:
        return None
    shown = ", ".join(f'"{name[:_LONGEST_NAME]}"' for name in list(row)[:5])
    return Diagnosis("rows", f"has lines with {shown}; here a line has {wanted}")


def _of_types(row: Mapping[str, object], shape: LineShape) -> Diagnosis | None:
    key, request = row[shape.key], row[shape.request]
    if isinstance(key, int | float):
        return Diagnosis("key type", f'has numbers as "{shape.key}", which must be text')
    if isinstance(request, str):
        how = "JSON inside of a text" if isinstance(_parsed(request.encode("utf-8", "replace")), dict) else "a text"
        return Diagnosis("request text", f'has {how} as "{shape.request}", which must be an object')
    return None


def _without_key(row: Mapping[str, object], shape: LineShape) -> Diagnosis:
    others = [name for name in row if name != shape.request]
    name = next((name for name in _KEY_NAMES if name in others), None) or _nearest(others, (shape.key,))
    if name is not None:
        kind = "a number" if isinstance(row[name], int | float) else "a text"
        return Diagnosis("key name", f'has no member "{shape.key}"; "{name}", {kind}, may be it')
    return Diagnosis("no key", f'has no member "{shape.key}", which names each line, as lines for Vertex AI have none')


def _without_request(row: Mapping[str, object], shape: LineShape) -> Diagnosis | None:
    others = [name for name in row if name != shape.key]
    name = next((name for name in _REQUEST_NAMES if name in others), None) or _nearest(others, (shape.request,))
    if name is None:
        return None
    return Diagnosis("request name", f'has no member "{shape.request}"; "{name}" may be it')


def _of_request(row: Mapping[str, object], request: Mapping[str, object], form: LineForm) -> Diagnosis | None:
    """A line whose two members are sound."""
    task = next((task for task, other in form.requests.items() if other.needs in request), form.task)
    wanted = form.requests.get(task or "")
    if wanted is None:
        return None
    if form.task is not None and task != form.task:
        needs = form.requests[form.task].needs
        return Diagnosis("task", f'has requests with "{wanted.needs}", for --task {task}; {form.task} takes "{needs}"')
    return (
        _of_place(row, request, wanted, form.shape.request)
        or _of_content(request, wanted)
        or _of_names(request, wanted, form.shape.request)
    )


def _of_place(
    row: Mapping[str, object], request: Mapping[str, object], wanted: RequestForm, place: str
) -> Diagnosis | None:
    for name in wanted.beside:
        if isinstance(row.get(name), dict):
            return Diagnosis("beside", f'has "{name}" next to "{place}", where the service does not read it')
        if name not in _spelled(wanted.members) and isinstance(request.get(name), dict):
            return Diagnosis("beside", f'has "{name}" in "{place}", where the service does not read it')
    return None


def _of_content(request: Mapping[str, object], wanted: RequestForm) -> Diagnosis | None:
    value = request.get(wanted.needs)
    items = value if isinstance(value, list) and value else [value]
    if all(isinstance(item, str) for item in items):
        return Diagnosis(
            "text contents", f'has plain text as "{wanted.needs}", which SDKs take but the service does not'
        )
    return None


def _of_names(request: Mapping[str, object], wanted: RequestForm, place: str) -> Diagnosis | None:
    options = next((request[name] for name in _spelled((wanted.options,)) if name in request), None)
    for names, known, where in (
        (request, wanted.members, place),
        (options if isinstance(options, dict) else {}, wanted.option_members, wanted.options),
    ):
        if wrong := _misspelt(names, known):
            return Diagnosis("misspelt", f'has "{wrong[0]}" in "{where}", which may be meant as "{wrong[1]}"')
    return None


def _misspelt(members: Iterable[str], known: tuple[str, ...]) -> tuple[str, str] | None:
    """A member that is none of the known ones, but nearly is, and the one that may be meant."""
    for name in members:
        if name not in _spelled(known) and (meant := _nearest_known(name, known)):
            return name, meant
    return None


@lru_cache(maxsize=32)
def _spelled(names: tuple[str, ...]) -> frozenset[str]:
    """In the two spellings that JSON of protocol buffers takes: camelCase and snake_case."""
    return frozenset(names) | {"".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in names}


def _nearest(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    return next((name for name in names if _nearest_known(name, known)), None)


@lru_cache(maxsize=1024)
def _nearest_known(name: str, known: tuple[str, ...]) -> str | None:
    """The known name that is the same but for case and underscores, or one edit away."""
    if len(name) > _LONGEST_NAME:
        return None
    plain = name.replace("_", "").lower()
    for other in known:
        target = other.replace("_", "").lower()
        if plain == target or (len(target) >= 6 and _is_one_edit(plain, target)):
            return other
    return None


def _is_one_edit(a: str, b: str) -> bool:
    """One letter more, less, changed, or two neighbours exchanged."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
