"""What a program has answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import Self

from . import _messages as messages
from ._errors import LimitError, ProgramError, TerminatedError
from ._json import decode
from ._prelude import without_prelude
from ._stored import StoredValues

Kind = Literal["yielded", "terminated", "result"]
"""What kind of response there is."""

Status = Literal["completed", "failed", "limit", "terminated", "running"]


@dataclass(frozen=True)
class Text:
    """What a program printed with `text`."""

    text: str


@dataclass(frozen=True)
class Image:
    """What a program printed with `image`."""

    url: str
    """A `data:` URL."""
    detail: str | None = None
    """How closely a model should look: `auto`, `low`, `high` or `original`."""


@dataclass(frozen=True)
class Audio:
    """What a program printed with `audio`."""

    url: str
    """A `data:` URL."""


@dataclass(frozen=True)
class Call:
    """A nested call that a program made."""

    id: str
    """`tool-1`, `tool-2`, ... in the order of the program's calls."""
    tool: str
    """The tool, as the program knows it."""
    end: Literal["succeeded", "failed", "cancelled"]
    """How it ended; `cancelled` when the program ended first."""


@dataclass(frozen=True)
class Usage:
    """What a program has used since it started."""

    fuel: int = 0
    """About one unit for each WebAssembly instruction."""
    peak_memory_bytes: int = 0
    """The largest size of the sandbox's memory, its stack aside."""
    running_time: float = 0.0
    """Seconds spent running, without those spent waiting."""
    calls: int = 0
    """Nested calls made."""
    output_bytes: int = 0
    """Bytes of output and notifications, as JSON holds them."""


@dataclass(frozen=True)
class Result:
    """What a program has answered, since its answer before."""

    status: Status
    """`running` when it goes on: `Session.wait` gets the rest."""
    cell_id: str
    """The program's name in its session."""
    items: tuple[Text | Image | Audio, ...] = ()
    """What it printed, in order."""
    value: Any = None
    """The value of a program that completed: that of its last expression, or of a `return`.
    `None` also when that is `undefined`, has no JSON, or was not wanted."""
    value_key: str | None = None
    """The key under which a long value is stored for later programs, which `load` it."""
    value_error: str | None = None
    """Why there is a value that cannot be had, for example because it is a function."""
    error: str | None = None
    """Why the program failed, with its stack."""
    hint: str | None = None
    """What its author should change, where its end shows a common mistake."""
    limit: str | None = None
    """The limit that it reached, such as `memory` or `running_time`."""
    calls: tuple[Call, ...] = ()
    """The newest nested calls, at most 100, once it has ended."""
    usage: Usage = field(default_factory=Usage)
    """What it has used so far."""

    @property
    def text(self) -> str:
        """The texts that it printed, a line each."""
        return "\n".join(item.text for item in self.items if isinstance(item, Text))

    def check(self) -> Self:
        """The result itself, if the program has not failed.

        Raises:
            LimitError: It reached a limit.
            TerminatedError: It was terminated.
            ProgramError: It failed otherwise.
        """
        match self.status:
            case "limit":
                raise LimitError(self.error)
            case "terminated":
                raise TerminatedError("the program was terminated")
            case "failed":
                raise ProgramError(self.error)
            case _:
                return self


def items_of(response: messages.Response) -> list[Text | Image | Audio]:
    """The content of a response."""
    items: list[Text | Image | Audio] = []
    for item in response.content_items:
        match item:
            case messages.TextItem():
                items.append(Text(item.text))
            case messages.ImageItem():
                items.append(Image(item.image_url, item.detail))
            case messages.AudioItem():
                items.append(Audio(item.audio_url))
    return items


def result_of(
    kind: Kind,
    response: messages.Response,
    cell_id: str,
    items: list[Text | Image | Audio],
    stored: StoredValues,
    *,
    prelude: int,
) -> Result:
    """A response as a result. `stored` has values that are too long for it; `prelude` is the
    length of what stands in front of the program.

    Raises:
        ValueError: The host has sent a value that is not valid JSON.
    """
    report = response.seam.report if response.seam else None
    if report is None:
        raise ValueError("a response without a report")
    status: Status = "running"
    if kind == "terminated":
        status = "terminated"
    elif kind == "result":
        status = "completed" if response.error_text is None else "failed"
        if report.limit is not None:
            status = "limit"
    value, key, error = None, None, None
    if report.value:
        error = report.value.refused
        text = report.value.json_text
        if report.value.stored:
            key = report.value.stored.key
            text = stored.text(key)
        if text is not None:
            value = decode(text)
    used = report.usage
    return Result(
        status=status,
        cell_id=cell_id,
        items=tuple(items),
        value=value,
        value_key=key,
        value_error=error,
        error=None
        if response.error_text is None
        else without_prelude(response.error_text, prelude),
        hint=report.hint,
        limit=report.limit,
        calls=tuple(Call(call.runtime_tool_call_id, call.tool, call.end) for call in report.calls),
        usage=Usage(
            fuel=used.fuel,
            peak_memory_bytes=used.peak_memory_bytes,
            running_time=used.running_time.secs + used.running_time.nanos / 1e9,
            calls=used.calls,
            output_bytes=used.output_bytes,
        ),
    )
