"""What models read: how to write a program, and what became of one."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import OrderedDict

from ._errors import HostUnavailableError
from ._host import binary
from ._result import Result
from ._tools import Toolbox

MAX_OUTPUT_BYTES = 40_000
"""Bytes of output that a model reads; about ten thousand tokens."""

_CACHED = 64
"""Sets of tools whose declarations are remembered."""

_PATIENCE = 30.0
"""Seconds that the declarations may take."""

_PROSE = """\
Runs a JavaScript program that calls tools, combines what they return, and returns only what \
matters.
- `await` and `return` work at the top level. The program's result is what it returns, or else \
its last expression, as JSON; `text(value)` prints besides, `image(dataUrl)` shows an image.
- Tools are methods of `tools`: each takes one object and returns a promise. When a call fails it \
rejects with an `Error`. Make independent calls together, with `Promise.all`.
- There is no Node, no file system, no network, no `console` and no `import`. TypeScript is \
allowed; types are not checked.
- Nothing is left for the next program but what `store(key, value)` keeps, which `load(key)` \
returns.
"""

_declarations: OrderedDict[str, str] = OrderedDict()


async def describe(tools: Toolbox) -> str:
    """How to write a program that calls these tools, for the description of a tool."""
    key = json.dumps(tools.definitions, sort_keys=True)
    declared = _declarations.get(key)
    if declared is None:
        declared = await asyncio.to_thread(_declared, tools)
        _declarations[key] = declared
        while len(_declarations) > _CACHED:
            _declarations.popitem(last=False)
    return f"{_PROSE}\n```ts\n{declared}\n```"


def _declared(tools: Toolbox) -> str:
    """The declaration of `tools` in TypeScript, which the program of the sandbox makes."""
    listed = [
        {
            "name": definition["name"],
            "description": definition["description"],
            "input_schema": definition["input_schema"],
            "output_schema": definition["output_schema"],
        }
        for definition in tools.definitions
    ]
    try:
        command = [binary(), "tools", "--tools", "-", "--format", "ts"]
        made = subprocess.run(
            command,
            input=json.dumps({"tools": listed}).encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, HostUnavailableError):
        # Where the sandbox is on another machine only: names and schemas say the same.
        return "\n".join(
            f"// tools.{tool.identifier}: {json.dumps(each)}"
            for tool, each in zip(tools, listed, strict=True)
        )
    _, marker, rest = made.stdout.decode("utf-8", "replace").partition("declare const tools")
    return (marker + rest).strip()


def render(result: Result, *, max_output_bytes: int = MAX_OUTPUT_BYTES) -> str:
    """What a model reads of a result, images and audio aside."""
    parts = []
    if result.text:
        parts.append(result.text)
    if result.value_key is not None:
        parts.append(
            f"The result is long, and is stored: a later program gets it with "
            f"load({json.dumps(result.value_key)})."
        )
    elif result.value is not None:
        parts.append(f"Result:\n{json.dumps(result.value, ensure_ascii=False)}")
    if result.value_error:
        parts.append(f"The program has a result that cannot be shown: {result.value_error}.")
    text = _cut("\n".join(parts), max_output_bytes)
    if result.status == "terminated":
        text += "\nThe program was terminated."
    if result.error is not None:
        text += f"\nScript error:\n{result.error}"
        if result.calls and result.limit is None:
            ends = {"cancelled": "had not ended and was cancelled; it may have taken effect"}
            listed = "\n".join(
                f"    {call.id} {call.tool} {ends.get(call.end, call.end)}"
                for call in result.calls[-20:]
            )
            text += f"\nNested calls:\n{listed}"
    if result.hint:
        text += f"\nHint: {result.hint}"
    return text.strip() or (
        "The program returned nothing and printed nothing. Only what is returned or passed to "
        "text() or image() is output."
    )


def _cut(text: str, limit: int) -> str:
    """The text, or its beginning and its end when it is longer than the limit."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    half = limit // 2
    start = encoded[:half].decode("utf-8", "ignore")
    end = encoded[-half:].decode("utf-8", "ignore")
    return f"{start}\n… {len(encoded) - 2 * half} bytes left out …\n{end}"
