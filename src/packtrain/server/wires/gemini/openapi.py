"""Operations table of the Gemini wire.

The structs describe bodies that the handlers read member by member, in camelCase or snake_case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from ...._wire.gemini.batches import METHODS, Metadata, OperationPage
from ...._wire.gemini.batches import Operation as Job
from ...._wire.gemini.errors import Envelope
from ...._wire.gemini.files import CHOSEN_NAME, FileBody, FilePage, Uploaded
from ...._wire.gemini.webhooks import EVENTS, Webhook, WebhookPage
from ...backends.echo import Content, Embedding, EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse
from ...openapi_document import BYTES, JSON, NOTHING, OCTETS, RANGE, TEXT, Operation, Parameter, Wire
from .interactive import MAX_EMBEDDINGS
from .resumable_upload import MAX_DISPLAY_NAME
from .webhooks import CHANGEABLE, DEFAULT_SIZE, MAX_NAME, MAX_SIZE, MAX_URIS

if TYPE_CHECKING:
    from ...openapi_document import Shape


EventType = Annotated[str, Meta(pattern=f"^({'|'.join(EVENTS)})$")]
EventTypes = Annotated[list[EventType], Meta(min_length=1)]
Name = Annotated[str, Meta(max_length=MAX_NAME)]


class WebhookConfig(Struct, frozen=True, rename="camel"):
    """Receivers of a job's event. With ``uris``, registered webhooks get no event."""

    uris: Annotated[list[str], Meta(max_length=MAX_URIS)] | UnsetType = UNSET
    user_metadata: dict[str, Any] | UnsetType = UNSET


class NewWebhook(Struct, frozen=True):
    uri: str
    subscribed_events: EventTypes
    name: Name | UnsetType = UNSET


class WebhookUpdate(Struct, frozen=True):
    uri: str | UnsetType = UNSET
    subscribed_events: EventTypes | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    state: Annotated[str, Meta(pattern="^(enabled|disabled)$")] | UnsetType = UNSET


class Rotation(Struct, frozen=True):
    revocation_behavior: str | UnsetType = UNSET


class NewSecret(Struct, frozen=True):
    secret: str


class PublicKeys(Struct, frozen=True):
    """A JSON Web Key Set."""

    keys: list[dict[str, str]]


class NewFile(Struct, frozen=True, kw_only=True, rename="camel"):
    name: Annotated[str, Meta(pattern=f"^{CHOSEN_NAME.pattern}$")] | UnsetType = UNSET
    display_name: Annotated[str, Meta(max_length=MAX_DISPLAY_NAME)] = ""
    mime_type: str = ""
    size_bytes: Annotated[int, Meta(ge=0)] | UnsetType = UNSET


class UploadStart(Struct, frozen=True):
    file: NewFile | UnsetType = UNSET


class Received(Struct, frozen=True):
    """The file, once it is complete."""

    file: FileBody | UnsetType = UNSET


class InlineRequest(Struct, frozen=True):
    """``metadata`` is returned with the answer."""

    request: dict[str, Any]
    metadata: dict[str, Any] | UnsetType = UNSET


class InlineRequests(Struct, frozen=True):
    requests: Annotated[list[InlineRequest], Meta(min_length=1)]


#: An int64, higher ones first.
Priority = int | Annotated[str, Meta(pattern="^-?[0-9]{1,18}$")]


class JobInput(Struct, frozen=True, rename="camel"):
    """Either of the two members."""

    file_name: str | UnsetType = UNSET
    requests: InlineRequests | UnsetType = UNSET


class NewJob(Struct, frozen=True, rename="camel"):
    input_config: JobInput
    display_name: str = ""
    priority: Priority | UnsetType = UNSET
    webhook_config: WebhookConfig | UnsetType = UNSET


class JobUpdate(Struct, frozen=True, rename="camel"):
    display_name: str | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET


class NewBatch(Struct, frozen=True):
    batch: NewJob


class EmbedRequests(Struct, frozen=True):
    requests: Annotated[list[EmbedRequest], Meta(min_length=1, max_length=MAX_EMBEDDINGS)]


class Embeddings(Struct, frozen=True):
    embeddings: list[Embedding]


class CountRequest(Struct, frozen=True, rename="camel"):
    """Either member; ``generateContentRequest`` takes precedence."""

    contents: list[Content] = []
    generate_content_request: GenerateRequest | UnsetType = UNSET


class TokenCount(Struct, frozen=True, rename="camel"):
    total_tokens: int


PAGE = (
    Parameter("pageSize", "query", {"type": "integer", "minimum": 0}, description="10 when left out, at most 100."),
    Parameter("pageToken", "query", TEXT, description="The nextPageToken of the page before."),
)
UPLOAD_ID = Parameter("upload_id", "query", TEXT, required=True)
OFFSET = Parameter("X-Goog-Upload-Offset", "header", {"type": "integer", "minimum": 0})
#: The parts in this order.
WHOLE: Shape = {
    "type": "object",
    "required": ["description", "content"],
    "properties": {"description": {"$ref": "#/components/schemas/Gemini.UploadStart"}, "content": BYTES},
}


def _one_of(name: str, place: Any, *words: str) -> Parameter:
    return Parameter(name, place, {"type": "string", "enum": [*words]}, required=True)


OPERATIONS = {
    "upload.start": Operation(
        route="POST /upload/v1beta/files",
        summary="Start a resumable upload; the response headers hold its URL",
        parameters=[_one_of("X-Goog-Upload-Command", "header", "start")],
        request_body=(JSON, UploadStart),
        response=NOTHING,
        response_headers=["X-Goog-Upload-URL", "X-Goog-Upload-Status", "X-Goog-Upload-Chunk-Granularity"],
    ),
    "upload.data": Operation(
        route="POST /upload/v1beta/files#data",
        summary="Send content, finish, cancel or query an upload; authorised by the upload id",
        parameters=[
            UPLOAD_ID,
            _one_of("X-Goog-Upload-Command", "header", "upload", "upload, finalize", "finalize", "query", "cancel"),
            OFFSET,
        ],
        request_body=(OCTETS, BYTES),
        response=Received,
        response_headers=["X-Goog-Upload-Status"],
        keyless=True,
    ),
    "upload.raw": Operation(
        route="POST /upload/v1beta/files#raw",
        summary="Upload a file in one call, content only",
        parameters=[
            _one_of("X-Goog-Upload-Protocol", "header", "raw"),
            Parameter("X-Goog-Upload-File-Name", "header", TEXT),
        ],
        request_body=(OCTETS, BYTES),
        response=Uploaded,
    ),
    "upload.multipart": Operation(
        route="POST /upload/v1beta/files#multipart",
        summary="Upload a file in one call, JSON metadata before the content",
        parameters=[_one_of("X-Goog-Upload-Protocol", "header", "multipart")],
        request_body=("multipart/related", WHOLE),
        response=Uploaded,
    ),
    "files.list": Operation(
        route="GET /v1beta/files", summary="Files, newest first", parameters=PAGE, response=FilePage
    ),
    "files.get": Operation(route="GET /v1beta/files/{file}", summary="One file", response=FileBody),
    "files.delete": Operation(route="DELETE /v1beta/files/{file}", summary="Delete a file", response=NOTHING),
    "files.download": Operation(
        route="GET /v1beta/files/{file}:download", summary="Download a file", parameters=[RANGE], response=None
    ),
    "batches.create": Operation(
        route="POST /v1beta/models/{model}:{method}",
        summary="Create a job",
        request_body=(JSON, NewBatch),
        response=Job,
    ),
    "batches.list": Operation(
        route="GET /v1beta/batches", summary="Jobs, newest first", parameters=PAGE, response=OperationPage
    ),
    "batches.get": Operation(
        route="GET /v1beta/batches/{batch}", summary="One job, with its inline results repeated", response=Job
    ),
    "batches.update": Operation(
        route="PATCH /v1beta/batches/{batch}:updateGenerateContentBatch",
        summary="Change a job's name or priority; updateEmbedContentBatch for a job of embeddings",
        parameters=[
            Parameter("updateMask", "query", TEXT, description="displayName, priority, or both; all when left out.")
        ],
        request_body=(JSON, JobUpdate),
        response=Metadata,
    ),
    "batches.cancel": Operation(route="POST /v1beta/batches/{batch}:cancel", summary="Cancel a job", response=NOTHING),
    "batches.delete": Operation(
        route="DELETE /v1beta/batches/{batch}", summary="Delete a job and its results", response=NOTHING
    ),
    "models.generateContent": Operation(
        route="POST /v1beta/models/{model}:generateContent",
        summary="Generate content; the backend gets the body unchanged",
        request_body=(JSON, GenerateRequest),
        response=GenerateResponse,
    ),
    "models.embedContent": Operation(
        route="POST /v1beta/models/{model}:embedContent",
        summary="Embed one content",
        request_body=(JSON, EmbedRequest),
        response=EmbedResponse,
    ),
    "models.batchEmbedContents": Operation(
        route="POST /v1beta/models/{model}:batchEmbedContents",
        summary="Embed several contents",
        request_body=(JSON, EmbedRequests),
        response=Embeddings,
    ),
    "models.countTokens": Operation(
        route="POST /v1beta/models/{model}:countTokens",
        summary="Estimate the number of tokens",
        request_body=(JSON, CountRequest),
        response=TokenCount,
    ),
}

WEBHOOK = "/v1beta/webhooks/{webhook}"
WEBHOOK_PAGE = (
    Parameter(
        "page_size",
        "query",
        {"type": "integer", "minimum": 0},
        description=f"{DEFAULT_SIZE} when left out, at most {MAX_SIZE}.",
    ),
    Parameter("page_token", "query", TEXT, description="The next_page_token of the page before."),
)
MASK = Parameter("update_mask", "query", TEXT, description=f"Some of {', '.join(CHANGEABLE)}; all when left out.")

WEBHOOK_OPERATIONS = {
    "webhooks.create": Operation(
        route="POST /v1beta/webhooks",
        summary="Register a webhook; only this response shows the whole secret",
        request_body=(JSON, NewWebhook),
        response=Webhook,
    ),
    "webhooks.list": Operation(
        route="GET /v1beta/webhooks", summary="Webhooks, newest first", parameters=WEBHOOK_PAGE, response=WebhookPage
    ),
    "webhooks.get": Operation(route=f"GET {WEBHOOK}", summary="One webhook", response=Webhook),
    "webhooks.update": Operation(
        route=f"PATCH {WEBHOOK}",
        summary="Change a webhook",
        parameters=[MASK],
        request_body=(JSON, WebhookUpdate),
        response=Webhook,
    ),
    "webhooks.delete": Operation(route=f"DELETE {WEBHOOK}", summary="Delete a webhook", response=NOTHING),
    "webhooks.ping": Operation(route=f"POST {WEBHOOK}:ping", summary="Send a ping event", response=NOTHING),
    "webhooks.rotate": Operation(
        route=f"POST {WEBHOOK}:rotateSigningSecret",
        summary="Create a new secret; old ones stay valid for a day, or are revoked",
        request_body=(JSON, Rotation),
        response=NewSecret,
    ),
    "webhooks.keys": Operation(
        route="GET /.well-known/jwks.json",
        summary="Public keys that sign the events of jobs",
        response=PublicKeys,
        keyless=True,
    ),
}

GEMINI = Wire(
    name="Gemini",
    operations=OPERATIONS | WEBHOOK_OPERATIONS,
    error=Envelope,
    path_parameters={
        "file": {"type": "string", "pattern": "^[^/:]+$"},
        "batch": {"type": "string", "pattern": "^[^/:]+$"},
        "model": {"type": "string", "pattern": "^[^/:]+$"},
        "webhook": {"type": "string", "pattern": "^[^/:]+$"},
        "method": {"type": "string", "enum": [*METHODS.values()]},
    },
)
