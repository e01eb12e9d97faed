"""What the operations of this wire take and give."""

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
    Parameter("after", "query", TEXT, description="The last id of the page before."),
    Parameter("order", "query", {"type": "string", "enum": ["asc", "desc"]}),
)
PURPOSE = Parameter("purpose", "query", TEXT)

BASE = "/v1beta/openai"
OPERATIONS = {
    "openai.files.create": Operation(
        at=f"POST {BASE}/files", says="Send a file", sends=(FORM, NEW_FILE), gives=FileObject
    ),
    "openai.files.list": Operation(
        at=f"GET {BASE}/files", says="Files, newest first", takes=[*PAGE, PURPOSE], gives=FilePage
    ),
    "openai.files.get": Operation(at=f"GET {BASE}/files/{{file}}", says="One file", gives=FileObject),
    "openai.files.delete": Operation(at=f"DELETE {BASE}/files/{{file}}", says="Delete a file", gives=Deleted),
    "openai.files.content": Operation(
        at=f"GET {BASE}/files/{{file}}/content", says="The bytes of a file", takes=[RANGE], gives=None
    ),
    "openai.uploads.create": Operation(
        at=f"POST {BASE}/uploads", says="Begin an upload in parts", sends=(JSON, NewUpload), gives=Upload
    ),
    "openai.uploads.part": Operation(
        at=f"POST {BASE}/uploads/{{upload}}/parts", says="Add a part", sends=(FORM, NEW_PART), gives=Part
    ),
    "openai.uploads.complete": Operation(
        at=f"POST {BASE}/uploads/{{upload}}/complete",
        says="Make a file of the parts",
        sends=(JSON, Completion),
        gives=Upload,
    ),
    "openai.uploads.cancel": Operation(
        at=f"POST {BASE}/uploads/{{upload}}/cancel", says="Forget an upload and its parts", gives=Upload
    ),
    "openai.chat.completions": Operation(
        at=f"POST {BASE}/chat/completions", says="An answer at once", sends=(JSON, ChatRequest), gives=ChatCompletion
    ),
    "openai.embeddings": Operation(
        at=f"POST {BASE}/embeddings", says="Vectors at once", sends=(JSON, EmbeddingRequest), gives=EmbeddingList
    ),
    "openai.batches.create": Operation(
        at=f"POST {BASE}/batches", says="Make a batch", sends=(JSON, NewBatch), gives=Batch
    ),
    "openai.batches.list": Operation(
        at=f"GET {BASE}/batches", says="Batches made on this wire, newest first", takes=PAGE, gives=JobPage
    ),
    "openai.batches.get": Operation(at=f"GET {BASE}/batches/{{batch}}", says="One batch", gives=Batch),
    "openai.batches.cancel": Operation(at=f"POST {BASE}/batches/{{batch}}/cancel", says="Cancel a batch", gives=Batch),
}

OPENAI = Wire(
    name="OpenAI",
    operations=OPERATIONS,
    error=Envelope,
    parts={
        "file": {"type": "string", "pattern": "^files/[^/:]+$"},
        "batch": {"type": "string", "pattern": "^batches/[^/:]+$"},
        "upload": {"type": "string", "pattern": "^upload_[^/:]+$"},
    },
)
