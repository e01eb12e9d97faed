"""Lines of a batch: requests read in blocks, answers and errors written to one file each."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from ...._errors import ProtocolError
from ...._model import RowError
from ...._wire.gemini.errors import GRPC_INVALID_ARGUMENT
from ...._wire.openai.batches import RequestLine, ResultLine, RowFailure, RowResponse, encode_row
from ...._wire.openai.errors import encode_error, status_of
from ...job_lines import BLOCK_BYTES, BLOCK_ROWS, join_lines
from ...jobs import Counts
from .translation import Translated, combine, translate
from .validation import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from ...._model import Task
    from ...backends.backend import Answer
    from ...blobs import Appender
    from .batch_store import StoredBatch

_decode = msgspec.json.Decoder(RequestLine).decode


class Line(Struct, frozen=True):
    """``tag`` identifies the line of the batch, the same on every run."""

    tag: str
    custom_id: str
    translated: Translated | RowError


class BatchReader:
    """Reads the requests of a validated file."""

    def __init__(self, file: BinaryIO, batch: StoredBatch) -> None:
        self._file = read_lines(file)
        self._batch = batch

    def block(self, most: int | None = None) -> list[Line]:
        """The next lines with up to about ``most`` requests; none at the end of the file."""
        lines: list[Line] = []
        size = requests = 0
        for number, line in self._file:
            lines.append(decoded := self._line(number, line))
            size += len(line)
            requests += len(decoded.translated.requests) if isinstance(decoded.translated, Translated) else 0
            if size >= BLOCK_BYTES or requests >= min(most or BLOCK_ROWS, BLOCK_ROWS):
                break
        return lines

    def remaining(self) -> Iterator[tuple[str, str]]:
        """Tag and custom_id of the lines that were not read."""
        for number, line in self._file:
            yield self._tag(number), _decode(line).custom_id

    def _line(self, number: int, line: bytes) -> Line:
        decoded = _decode(line)
        tag = self._tag(number)
        return Line(tag, decoded.custom_id, _translated(self._batch.task, decoded.body, tag, int(self._batch.created)))

    def _tag(self, number: int) -> str:
        return hashlib.blake2b(b"%b:%d" % (self._batch.name.encode(), number), digest_size=16).hexdigest()


def _translated(task: Task, body: Raw, tag: str, created: int) -> Translated | RowError:
    try:
        return translate(task, body, id=f"chatcmpl-{tag}", created=created)
    except (ValueError, RecursionError) as error:
        return RowError(code=GRPC_INVALID_ARGUMENT, message=f"The request cannot be answered: {error}.")


def requests_of(block: Sequence[Line]) -> list[Raw]:
    return [
        request for line in block if isinstance(line.translated, Translated) for request in line.translated.requests
    ]


class BatchWriter:
    """Appends to the output and the error file; ``counts`` covers the lines written."""

    def __init__(self, output: Appender, errors: Appender) -> None:
        self._output = output
        self._errors = errors
        self.counts = Counts()

    def write(self, block: Sequence[Line], answers: Sequence[Answer]) -> None:
        """Writes ``answers`` to ``requests_of(block)``, atomically. Raises ProtocolError for a different number."""
        if len(answers) != len(requests_of(block)):
            raise ProtocolError(f"the backend gave {len(answers)} answers to {len(requests_of(block))} requests")
        remaining = iter(answers)
        output, errors = list[bytes](), list[bytes]()
        for line in block:
            answer = _answer(line, remaining)
            (errors if isinstance(answer, RowError) else output).append(_row(line, answer))
        with self._output.atomic():
            self._output.write_all(join_lines(output))
            self._errors.write_all(join_lines(errors))
        self.counts.succeeded += len(output)
        self.counts.failed += len(errors)

    def write_failures(self, lines: Sequence[tuple[str, str]], failure: RowFailure) -> None:
        """Writes the same failure for these lines (tag, custom_id), atomically."""
        rows = (ResultLine(id=f"batch_req_{tag}", custom_id=custom_id, error=failure) for tag, custom_id in lines)
        self._errors.write_all(join_lines(map(encode_row, rows)))
        self.counts.failed += len(lines)


def _answer(line: Line, answers: Iterator[Answer]) -> Answer:
    if isinstance(line.translated, RowError):
        return line.translated
    return combine(line.translated, [next(answers) for _ in line.translated.requests])


def _row(line: Line, answer: Answer) -> bytes:
    if isinstance(answer, RowError):
        status = status_of(answer.code)
        body = encode_error(status, answer.message or "The model gave no reason.")
    else:
        status, body = 200, answer
    response = RowResponse(status_code=status, request_id=f"req_{line.tag}", body=Raw(body))
    return encode_row(ResultLine(id=f"batch_req_{line.tag}", custom_id=line.custom_id, response=response))
