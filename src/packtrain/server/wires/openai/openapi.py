"""Operations table of the OpenAI wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...._wire.openai.batches import Batch, JobPage, NewBatch
from ...._wire.openai.chat import ChatCompletion, ChatRequest
from ...._wire.openai.embeddings import EmbeddingList, EmbeddingRequest
from ...._wire.openai.errors import Envelope
from ...._wire.openai.files import Completion, Deleted, FileObject, FilePage, NewUpload, Part, Upload
from ...openapi_document import BYTES, JSON, RANGE, TEXT, Operation, Parameter, Wire
from .files import PURPOSES
from .limits import LIMITS

if TYPE_CHECKING:
    from ...openapi_document import Shape

FORM = "multipart/form-data"
NEW_FILE: Shape = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        "purpose": {"type": "string", "enum": sorted(PURPOSES)},
        "file": BYTES,
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {
            "type": "integer",
            "minimum": int(LIMITS.shortest_life),
            "maximum": int(LIMITS.longest_life),
        },
    },
}
NEW_PART: Shape = {"type": "object", "required": ["data"], "properties": {"data": BYTES}}

PAGE = (
    Parameter("limit", "query", {"type": "integer", "minimum": 1}),
    Parameter("after", "query", TEXT, description="The last id of the previous page."),
    Parameter("order", "query", {"type": "string", "enum": ["asc", "desc"]}),
)
PURPOSE = Parameter("purpose", "query", TEXT)

BASE = "/v1beta/openai"
OPERATIONS = {
    "openai.files.create": Operation(
        route=f"POST {BASE}/files", summary="Upload a file", request_body=(FORM, NEW_FILE), response=FileObject
    ),
    "openai.files.list": Operation(
        route=f"GET {BASE}/files", summary="Files, newest first", parameters=[*PAGE, PURPOSE], response=FilePage
    ),
    "openai.files.get": Operation(route=f"GET {BASE}/files/{{file}}", summary="One file", response=FileObject),
    "openai.files.delete": Operation(route=f"DELETE {BASE}/files/{{file}}", summary="Delete a file", response=Deleted),
    "openai.files.content": Operation(
        route=f"GET {BASE}/files/{{file}}/content", summary="Download a file", parameters=[RANGE], response=None
    ),
    "openai.uploads.create": Operation(
        route=f"POST {BASE}/uploads",
        summary="Start an upload in parts",
        request_body=(JSON, NewUpload),
        response=Upload,
    ),
    "openai.uploads.part": Operation(
        route=f"POST {BASE}/uploads/{{upload}}/parts",
        summary="Add a part",
        request_body=(FORM, NEW_PART),
        response=Part,
    ),
    "openai.uploads.complete": Operation(
        route=f"POST {BASE}/uploads/{{upload}}/complete",
        summary="Create the file from the parts",
        request_body=(JSON, Completion),
        response=Upload,
    ),
    "openai.uploads.cancel": Operation(
        route=f"POST {BASE}/uploads/{{upload}}/cancel", summary="Cancel an upload and delete its parts", response=Upload
    ),
    "openai.chat.completions": Operation(
        route=f"POST {BASE}/chat/completions",
        summary="Chat completion",
        request_body=(JSON, ChatRequest),
        response=ChatCompletion,
    ),
    "openai.embeddings": Operation(
        route=f"POST {BASE}/embeddings",
        summary="Embeddings",
        request_body=(JSON, EmbeddingRequest),
        response=EmbeddingList,
    ),
    "openai.batches.create": Operation(
        route=f"POST {BASE}/batches", summary="Create a batch", request_body=(JSON, NewBatch), response=Batch
    ),
    "openai.batches.list": Operation(
        route=f"GET {BASE}/batches",
        summary="Batches of this wire, newest first",
        parameters=PAGE,
        response=JobPage,
    ),
    "openai.batches.get": Operation(route=f"GET {BASE}/batches/{{batch}}", summary="One batch", response=Batch),
    "openai.batches.cancel": Operation(
        route=f"POST {BASE}/batches/{{batch}}/cancel", summary="Cancel a batch", response=Batch
    ),
}

OPENAI = Wire(
    name="OpenAI",
    operations=OPERATIONS,
    error=Envelope,
    path_parameters={
        "file": {"type": "string", "pattern": "^files/[^/:]+$"},
        "batch": {"type": "string", "pattern": "^batches/[^/:]+$"},
        "upload": {"type": "string", "pattern": "^upload_[^/:]+$"},
    },
)
