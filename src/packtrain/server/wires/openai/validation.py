"""Validation of a batch's input file, before it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from ...._options import MAX_LINE_BYTES
from ...._wire.openai.batches import ENDPOINTS, BatchError, RequestLine
from .translation import resource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from .limits import OpenAILimits


class Findings(Struct):
    """``errors`` in line order; without errors, ``model`` is that of all lines, as written."""

    errors: list[BatchError]
    model: str = ""
    requests: int = 0


class _Body(Struct):
    model: str = ""
    input: Raw = Raw()


#: The real service's texts.
_SMALLER = "Please try again with a smaller batch."
_NOT_JSON = "This line is not parseable as valid JSON."

_decode_line = msgspec.json.Decoder(RequestLine).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_texts = msgspec.json.Decoder(list[Raw]).decode


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Numbered lines from 1, without blank ones; an overlong line is truncated, which makes it invalid JSON."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        rest = line
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)
        if not line.isspace():
            yield number, line


def validate(file: BinaryIO, size: int, endpoint: str, limits: OpenAILimits) -> Findings:
    """Validates the whole file; blocks. Rewinds the file."""
    if size > limits.batch_bytes:
        message = f"The batch input file is larger than the {limits.batch_bytes} maximum. {_SMALLER}"
        return Findings([_file_error("file_too_large", message)])
    check = _Check(endpoint, limits)
    for number, line in read_lines(file):
        check.line(number, line)
        if len(check.findings.errors) >= limits.errors or check.full:
            break
    file.seek(0)
    del check.findings.errors[limits.errors :]  # the last line may have had several
    if not check.findings.requests and not check.findings.errors:
        check.findings.errors.append(_file_error("empty_file", "The file has no requests."))
    return check.findings


def _file_error(code: str, message: str) -> BatchError:
    return BatchError(code=code, message=message)


class _Check:
    """The lines seen so far."""

    def __init__(self, endpoint: str, limits: OpenAILimits) -> None:
        self.findings = Findings([])
        self.full = False
        self._endpoint = endpoint
        self._limits = limits
        self._ids: set[str] = set()
        self._texts = 0

    def line(self, number: int, line: bytes) -> None:
        try:
            str(line, "utf-8")
            decoded = _decode_line(line)
            body = _decode_body(decoded.body) if bytes(decoded.body) else None
        except msgspec.ValidationError as error:
            return self._add_error(number, "invalid_json_line", f"This line is not a request: {error}.")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._add_error(number, "invalid_json_line", _NOT_JSON)
        self.findings.requests += 1
        self._check_members(number, decoded)
        if body is None:
            return self._missing(number, "body")
        self._check_model(number, body.model)
        self._count(number, body)

    def _check_members(self, number: int, line: RequestLine) -> None:
        if not line.custom_id:
            self._missing(number, "custom_id")
        elif line.custom_id in self._ids:
            self._add_error(
                number, "duplicate_custom_id", f"The custom_id {line.custom_id[:80]!r} occurs more than once."
            )
        self._ids.add(line.custom_id)
        if line.method != "POST":
            self._add_error(number, "invalid_method", "The method of a request is POST.", "method")
        if line.url != self._endpoint:
            message = f"The url {line.url[:80]!r} is not the batch's endpoint {self._endpoint}."
            self._add_error(number, "url_mismatch", message, "url")

    def _check_model(self, number: int, model: str) -> None:
        if not model:
            return self._missing(number, "body.model")
        try:
            resource(model)
        except ValueError as error:
            return self._add_error(number, "invalid_model", f"{error}.", "body.model")
        self.findings.model = self.findings.model or model
        if model != self.findings.model:
            message = f"The model {model[:80]!r} is not {self.findings.model!r}, the model of earlier lines."
            self._add_error(number, "model_mismatch", message, "body.model")

    def _count(self, number: int, body: _Body) -> None:
        several = ENDPOINTS[self._endpoint] == "embed" and bytes(body.input).startswith(b"[")
        self._texts += len(_decode_texts(body.input)) if several else 1
        if max(self.findings.requests, self._texts) > self._limits.requests:
            self.full = True
            self._add_error(number, "too_many_tasks", f"A batch has at most {self._limits.requests} requests.")

    def _missing(self, number: int, member: str) -> None:
        self._add_error(number, "missing_required_parameter", f"The member {member} is missing.", member)

    def _add_error(self, number: int, code: str, message: str, param: str | None = None) -> None:
        self.findings.errors.append(BatchError(code=code, message=message, line=number, param=param))
