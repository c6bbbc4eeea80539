"""Code mode for FastMCP: programs of clients run in Cellblock, in JavaScript.

```python
from fastmcp import FastMCP
from fastmcp.experimental.transforms.code_mode import CodeMode
from cellblock.fastmcp import DESCRIPTION, CellblockProvider

mode = CodeMode(sandbox_provider=CellblockProvider(), execute_description=DESCRIPTION)
server = FastMCP("shop", transforms=[mode])
```
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from fastmcp.exceptions import ToolError

from ._errors import CellblockError
from ._host import Host
from ._limits import Limits
from ._model import render
from ._session import Session
from ._tools import Tool

__all__ = ["DESCRIPTION", "CellblockProvider"]

DESCRIPTION = (
    "Chain `await call_tool(name, params)` calls in one JavaScript program; prefer to return the "
    "final answer from a single program.\n"
    "Use `return` to produce output. Make independent calls together, with `Promise.all`.\n"
    "Only `call_tool(name: string, params: object): Promise<any>` is in scope; there is no "
    "Node, no network, no file system, no `console` and no `import`."
)
"""What models read of the tool that runs programs: `execute_description` of `CodeMode`."""


class CellblockProvider:
    """Runs programs for FastMCP's `CodeMode`: a `SandboxProvider`.

    Programs are JavaScript, so `CodeMode` is to be given `DESCRIPTION` as its
    `execute_description`.

    Args:
        limits: What each program may use. One minute and 128 MiB, unless they say otherwise.
        host: Where programs run; a process that this one starts, unless it is given.
    """

    def __init__(self, *, limits: Limits | None = None, host: Host | None = None) -> None:
        self._limits = limits
        self._host = host

    async def run(
        self,
        code: str,
        *,
        inputs: dict[str, Any] | None = None,
        external_functions: dict[str, Callable[..., Any]] | None = None,
    ) -> Any:
        """Runs a program; returns its value, or what it printed if it has none.

        Args:
            code: The program.
            inputs: Global values of the program.
            external_functions: Global functions of the program.

        Raises:
            ToolError: The program failed, or reached a limit.
        """
        functions = external_functions or {}
        tools = [_tool(name, function) for name, function in functions.items()]
        prelude = "".join(
            f"globalThis[{json.dumps(tool.name)}] = (...all) => tools.{tool.identifier}(all);"
            for tool in tools
        )
        prelude += "".join(
            f"globalThis[{json.dumps(name)}] = {json.dumps(value)};"
            for name, value in (inputs or {}).items()
        )
        try:
            async with Session(tools, limits=self._limits, host=self._host) as session:
                # On the same line, so that lines in errors are those of the program.
                result = await session.exec(prelude + code)
        except CellblockError as error:
            raise ToolError(str(error)) from error
        if result.status != "completed" or result.value_error:
            raise ToolError(render(result))
        if result.value is None and result.text:
            return result.text
        return result.value


def _tool(name: str, function: Callable[..., Any]) -> Tool:
    """A function that takes its arguments by position, or, as one object, by name."""

    async def call(given: Any) -> Any:
        arguments = given if isinstance(given, list) else []
        returned = function(*arguments)
        return await returned if inspect.isawaitable(returned) else returned

    description = inspect.getdoc(function) or ""
    schema: Mapping[str, Any] = {"type": "array"}
    return Tool(name, description, schema, call)
