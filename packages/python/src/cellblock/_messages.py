"""The messages of framed JSON, version 1, with `cellblock-seam-v1`: docs/protocol.md has them.

What a host sends is validated, so that nothing past this module meets a message of another
shape.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

VERSION = 1
LIMITS_CAPABILITY = "session-cell-execution-resource-limits"
SEAM_CAPABILITY = "cellblock-seam-v1"

MAX_FRAME_BYTES = 64 << 20
"""Longest payload of a frame."""

HEADER_BYTES = 4
"""Bytes of a frame before its payload: the payload's length, little-endian."""

MAX_STORED_BYTES = 64 << 20
"""Bytes of stored values, keys included, that a session may have on a host."""

Id = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class _Snake(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Camel(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel)


class TextItem(_Snake):
    type: Literal["input_text"]
    text: str


class ImageItem(_Snake):
    type: Literal["input_image"]
    image_url: str
    detail: str | None = None


class AudioItem(_Snake):
    type: Literal["input_audio"]
    audio_url: str


ContentItem = Annotated[TextItem | ImageItem | AudioItem, Field(discriminator="type")]


class DurationParts(_Snake):
    secs: int
    nanos: int


class CellUsage(_Snake):
    fuel: int
    peak_memory_bytes: int
    running_time: DurationParts
    calls: int
    output_bytes: int


class CallReport(_Snake):
    runtime_tool_call_id: str
    tool: str
    end: Literal["succeeded", "failed", "cancelled"]


class StoredValue(_Snake):
    key: str
    bytes: int


class ProgramValue(_Snake):
    """Exactly one of these."""

    json_text: str | None = Field(default=None, alias="json")
    stored: StoredValue | None = None
    refused: str | None = None


class CellReport(_Snake):
    usage: CellUsage
    limit: str | None = None
    hint: str | None = None
    calls: list[CallReport] = []
    value: ProgramValue | None = None


class End(_Snake):
    """How a nested call has ended: exactly one of these, a result as JSON text."""

    ok: str | None = Field(default=None, alias="Ok")
    error: str | None = Field(default=None, alias="Err")


class SeamParked(_Camel):
    cell: str
    """In base64."""
    ends: dict[str, End] = {}


class SeamResponse(_Camel):
    report: CellReport
    stored: dict[str, str] = {}
    parked: SeamParked | None = None


class Response(_Snake):
    """The fields of every kind of response."""

    cell_id: str
    content_items: list[ContentItem]
    error_text: str | None = None
    seam: SeamResponse | None = None


class TaggedResponse(_Snake):
    """Exactly one of these, by the kind of the response."""

    yielded: Response | None = Field(default=None, alias="Yielded")
    terminated: Response | None = Field(default=None, alias="Terminated")
    result: Response | None = Field(default=None, alias="Result")


class TaggedOutcome(_Snake):
    """Exactly one of these."""

    live: TaggedResponse | None = Field(default=None, alias="LiveCell")
    missing: TaggedResponse | None = Field(default=None, alias="MissingCell")


class Failure(_Snake):
    status: Literal["error"]
    message: str


class SessionReady(_Camel):
    type: Literal["session/ready"]


class SessionClosed(_Camel):
    type: Literal["session/closed"]


class ExecutionStarted(_Camel):
    type: Literal["execution/started"]
    cell_id: str


class WaitCompleted(_Camel):
    type: Literal["wait/completed"]
    outcome: TaggedOutcome


OperationValue = Annotated[
    SessionReady | SessionClosed | ExecutionStarted | WaitCompleted, Field(discriminator="type")
]


class OperationOk(_Snake):
    status: Literal["ok"]
    value: OperationValue


class InitialOk(_Snake):
    status: Literal["ok"]
    value: TaggedResponse


class Ready(_Camel):
    type: Literal["connection/ready"]
    selected_version: int
    capabilities: list[str]


class Rejected(_Camel):
    type: Literal["connection/rejected"]
    reason: dict[str, Any]


class OperationResponse(_Camel):
    type: Literal["operation/response"]
    id: Id
    result: Annotated[OperationOk | Failure, Field(discriminator="status")]


class InitialResponse(_Camel):
    type: Literal["execute/initialResponse"]
    id: Id
    result: Annotated[InitialOk | Failure, Field(discriminator="status")]


class ToolName(_Snake):
    name: str
    namespace: str | None = None


class Invocation(_Snake):
    cell_id: str
    runtime_tool_call_id: str
    tool_name: ToolName
    input: Any = None


class InvokeTool(_Camel):
    type: Literal["tool/invoke"]
    invocation: Invocation
    resumed: bool = False


class Notify(_Camel):
    type: Literal["notification/send"]
    cell_id: str
    text: str


class DelegateRequest(_Camel):
    type: Literal["delegate/request"]
    id: Id
    session_id: str
    request: Annotated[InvokeTool | Notify, Field(discriminator="type")]


class DelegateCancel(_Camel):
    type: Literal["delegate/cancel"]
    id: Id


class CellEnded(_Camel):
    type: Literal["cell/ended"]
    session_id: str
    cell_id: str


class CellKept(_Camel):
    type: Literal["cell/kept"]
    session_id: str
    cell_id: str
    name: str | None = None


class CellClosed(_Camel):
    type: Literal["cell/closed"]
    session_id: str
    cell_id: str


HostMessage = (
    Ready
    | Rejected
    | OperationResponse
    | InitialResponse
    | DelegateRequest
    | DelegateCancel
    | CellEnded
    | CellKept
    | CellClosed
)

_ADAPTER: TypeAdapter[HostMessage] = TypeAdapter(
    Annotated[HostMessage, Field(discriminator="type")]
)


def parse(payload: bytes) -> HostMessage:
    """A message of a host.

    Raises:
        ValueError: It is not one; the text says where, and shows nothing of it.
    """
    try:
        return _ADAPTER.validate_json(payload)
    except ValueError as error:
        errors = getattr(error, "errors", None)
        if errors is None:
            raise
        first = errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{first['msg']} (at {where or 'the start'})") from None


def frame(message: dict[str, Any]) -> bytes:
    """A message as a whole frame, for messages without values of tools."""
    return frame_text(json.dumps(message, ensure_ascii=False, allow_nan=False))


def frame_text(text: str) -> bytes:
    """JSON text as a whole frame.

    Raises:
        ValueError: It is longer than a frame may be, or not valid Unicode.
    """
    payload = text.encode("utf-8")
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(
            f"the message is {len(payload)} bytes long, and at most {MAX_FRAME_BYTES} fit"
        )
    return len(payload).to_bytes(HEADER_BYTES, "little") + payload


def hello() -> bytes:
    """The first message of a client."""
    return frame(
        {
            "type": "connection/hello",
            "supportedVersions": [VERSION],
            "requiredCapabilities": [SEAM_CAPABILITY],
            "optionalCapabilities": [LIMITS_CAPABILITY],
        }
    )
