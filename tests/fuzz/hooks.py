"""Hooks of schemathesis: meaningful values, and an encoder for multipart/related.

Random names match nothing, so most operations would only return 404. So every second call gets names that occurred in
earlier responses. All calls are counted by operation and status.
far they came.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, HookContext, Response, SerializationContext

#: Names kept per kind, the newest ones.
KEPT = 8
#: Declared bytes of uploads in parts, and bytes of each part: one part completes an upload.
SIZE = 4
BOUNDARY = "the-boundary-of-parts"

#: Names in responses, by kind.
_PATTERNS = {
    "file": re.compile(r"files/[a-z0-9-]+"),
    "batch": re.compile(r"batches/[a-z0-9]{36}"),
    "upload": re.compile(r"upload_[0-9a-f]{32}"),
    "part": re.compile(r"part_[0-9a-f]{32}"),
    "session": re.compile(r"(?<=upload_id=)[\w-]+"),
    "webhook": re.compile(r'(?<="id":")[a-z0-9]{24}(?=")'),
    "page": re.compile(r'(?<="nextPageToken":")[^"]+'),
}
#: Parameters and members that take a name, by kind.
_NAMES = {
    "fileName": "file",
    "input_file_id": "file",
    "after": "file",
    "batch": "batch",
    "upload": "upload",
    "upload_id": "session",
    "webhook": "webhook",
    "pageToken": "page",
}
_MESSAGES = [{"role": "user", "content": "hello"}]
_BODY = {"model": "m", "messages": _MESSAGES}
_LINE = {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": _BODY}
_VALUES = {
    "X-Goog-Upload-Offset": "0",
    "bytes": SIZE,
    "completion_window": "24h",
    "contents": [{"parts": [{"text": "hello"}]}],
    "data": "x" * SIZE,
    "endpoint": "/v1/chat/completions",
    "file": json.dumps(_LINE),
    "input": "hello",
    "md5": None,
    "messages": _MESSAGES,
    "model": "m",
    "n": 1,
    "outputDimensionality": 8,
    "requests": [{"request": {"contents": []}, "content": {"parts": [{"text": "hello"}]}}],
    "stream": False,
    "subscribed_events": ["batch.succeeded"],
    "text": "hello",
    "uri": "http://127.0.0.1:9/",
}

_known: defaultdict[str, list[str]] = defaultdict(list)
_tally: defaultdict[str, Counter[int]] = defaultdict(Counter)
_chance = random.Random(os.environ.get("FUZZ_SEED"))


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    if _chance.random() < 0.5:
        _name(case.path_parameters, whole="/openai/" in case.operation.path)
        for place in (case.query, case.headers, case.body):
            if isinstance(place, MutableMapping):
                _fill(place)
        if case.media_type == "multipart/related":
            case.headers["Content-Type"] = f"multipart/related; boundary={BOUNDARY}"


def _name(path: dict[str, Any], *, whole: bool) -> None:
    """Paths of the Gemini wire contain names without their prefix."""
    for part in path:
        if known := _known[part]:
            name = _pick(known)
            path[part] = name if whole else name.rpartition("/")[2]


def _pick(known: list[str]) -> str:
    """The newest name half of the time."""
    return known[-1] if _chance.random() < 0.5 else _chance.choice(known)


def _fill(place: MutableMapping[str, Any]) -> None:
    for name, value in list(place.items()):
        known = _known[_NAMES.get(name, "")]
        if isinstance(value, dict):
            _fill(value)
        elif _chance.random() < 0.2:
            continue
        elif known:
            place[name] = _pick(known)
        elif name == "part_ids":
            place[name] = _known["part"][-1:]
        elif name in _VALUES:
            place[name] = _VALUES[name]


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    _tally[case.operation.definition.raw["operationId"]][response.status_code] += 1
    if response.status_code >= 400:
        return  # errors name missing resources
    heads = (value for values in response.headers.values() for value in values)
    text = "\n".join([response.content.decode("utf-8", "replace"), *heads])
    for kind, shape in _PATTERNS.items():
        names = list(dict.fromkeys(shape.findall(text)))
        _known[kind] = [*(name for name in _known[kind] if name not in names), *names][-KEPT:]


@atexit.register
def _write_tally() -> None:
    if path := os.environ.get("FUZZ_TALLY"):
        Path(path).write_text(json.dumps(_tally))


@schemathesis.serializer("multipart/related")
def multipart_related(context: SerializationContext, value: Any) -> bytes:
    """Metadata and content; any other value is one part."""
    members = dict(sorted(value.items(), reverse=True)) if isinstance(value, dict) else {"": value}
    return b"".join([_part(member) for member in members.values()]) + f"--{BOUNDARY}--\r\n".encode()


def _part(member: Any) -> bytes:
    data = member if isinstance(member, bytes) else json.dumps(member, default=str).encode("utf-8", "replace")
    return f"--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n".encode() + data + b"\r\n"
