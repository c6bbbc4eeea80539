"""Code mode for the OpenAI Agents SDK: the model writes programs that call the agent's tools.

```python
from agents import Agent, function_tool
from cellblock.openai_agents import code_tool

agent = Agent("shop", tools=[await code_tool([get_price, get_stock])])
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agents import FunctionTool, RunContextWrapper
from agents.tool import invoke_function_tool
from agents.tool_context import ToolContext
from pydantic import BaseModel, ConfigDict, ValidationError

from ._errors import CellblockError, ToolDefinitionError
from ._host import Host
from ._limits import Limits
from ._model import describe, render
from ._session import Session
from ._stored import StoredValues
from ._tools import Tool, Toolbox

__all__ = ["code_tool"]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")

    code: str
    """The program, in JavaScript."""


async def code_tool(
    tools: Sequence[FunctionTool],
    *,
    name: str = "run_code",
    limits: Limits | None = None,
    stored: StoredValues | None = None,
    host: Host | None = None,
) -> FunctionTool:
    """A tool that runs JavaScript programs, which call other tools.

    The model reads what a program returns and prints, or why it failed.

    Args:
        tools: Those that programs may call, made by `function_tool`. What the model itself may
            call is the agent's own list.
        name: What the model calls.
        limits: What each program may use.
        stored: The values that programs store and load; for one conversation. Programs keep
            nothing, unless it is given.
        host: Where programs run; a process that this one starts, unless it is given.

    Raises:
        ToolDefinitionError: A tool needs approval or has guardrails. The SDK keeps both for
            calls of the model itself, so such a tool is for the agent's own list.
    """
    for tool in tools:
        if tool.needs_approval is not False:
            raise ToolDefinitionError(
                f"{tool.name} needs approval, which calls of programs cannot wait for: give it "
                "to the agent itself"
            )
        if tool.tool_input_guardrails or tool.tool_output_guardrails:
            raise ToolDefinitionError(
                f"{tool.name} has guardrails, which are not asked for calls of programs: give it "
                "to the agent itself"
            )

    async def invoke(context: ToolContext[Any], arguments: str) -> str:
        try:
            code = _Arguments.model_validate_json(arguments).code
        except ValidationError:
            return "Script error:\nthe arguments are not an object with `code`"
        callable_tools = [
            _as_tool(tool, context) for tool in tools if await _is_enabled(tool, context)
        ]
        try:
            async with Session(callable_tools, limits=limits, host=host) as session:
                if stored is not None:
                    session.stored.update(stored)
                result = await session.exec(code)
                if stored is not None:
                    stored.update(session.stored)
        except CellblockError as error:
            return f"Script error:\n{error}"
        return render(result)

    schema = _Arguments.model_json_schema()
    return FunctionTool(
        name=name,
        description=await describe(Toolbox([_described(tool) for tool in tools])),
        params_json_schema=schema,
        on_invoke_tool=invoke,
        strict_json_schema=True,
    )


async def _is_enabled(tool: FunctionTool, context: RunContextWrapper[Any]) -> bool:
    if isinstance(tool.is_enabled, bool):
        return tool.is_enabled
    agent: Any = getattr(context, "agent", None)
    enabled = tool.is_enabled(context, agent)
    return bool(await enabled if not isinstance(enabled, bool) else enabled)


def _as_tool(tool: FunctionTool, context: ToolContext[Any]) -> Tool:
    """A tool as programs call it."""
    calls = 0

    async def call(given: Any) -> Any:
        nonlocal calls
        calls += 1
        arguments = json.dumps({} if given is None else given)
        own = ToolContext.from_agent_context(
            context,
            tool_call_id=f"{context.tool_call_id}__{tool.name}_{calls}",
            tool_name=tool.name,
            tool_arguments=arguments,
        )
        return await invoke_function_tool(function_tool=tool, context=own, arguments=arguments)

    return Tool(tool.name, tool.description, tool.params_json_schema, call)


def _described(tool: FunctionTool) -> Tool:
    """What models read about a tool."""
    return Tool(tool.name, tool.description, tool.params_json_schema, lambda _: None)
