"""The OpenAI Agents SDK, with a model that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    Model,
    ModelResponse,
    RunContextWrapper,
    Runner,
    ToolGuardrailFunctionOutput,
    Usage,
    function_tool,
    set_tracing_disabled,
    tool_input_guardrail,
)
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from cellblock import Limits, StoredValues, ToolDefinitionError
from cellblock.openai_agents import code_tool

set_tracing_disabled(True)


class Script(Model):
    """A model that writes programs, one after the other, and then says what it was sent."""

    def __init__(self, *programs: str) -> None:
        self.programs = list(programs)
        self.outputs: list[str] = []

    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        self.outputs = [
            item["output"]
            for item in input
            if isinstance(item, dict) and item.get("type") == "function_call_output"
        ]
        said: Any
        if self.programs:
            said = ResponseFunctionToolCall(
                name="run_code",
                arguments=json.dumps({"code": self.programs.pop(0)}),
                call_id=f"call-{len(self.outputs)}",
                type="function_call",
            )
        else:
            text = ResponseOutputText(text="done", type="output_text", annotations=[])
            said = ResponseOutputMessage(
                id="m", content=[text], role="assistant", status="completed", type="message"
            )
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


async def run(
    tools: list[FunctionTool], *programs: str, context: Any = None, **settings: Any
) -> list[str]:
    script = Script(*programs)
    agent: Agent[Any] = Agent(name="a", model=script, tools=[await code_tool(tools, **settings)])
    assert (await Runner.run(agent, "x", context=context)).final_output == "done"
    return script.outputs


@function_tool
async def add(context: RunContextWrapper[Any], a: int, b: int) -> int:
    """Adds."""
    return a + b + (context.context or 0)


@function_tool(failure_error_function=None)
def fails() -> None:
    """Fails."""
    raise ValueError("not today")


@function_tool(timeout=0.05)
async def slow() -> str:
    """Takes long."""
    await asyncio.sleep(60)
    return "late"


async def test_programs_call_function_tools() -> None:
    described = await code_tool([add])
    assert "add(args: { a: number; b: number; })" in described.description
    program = "return (await Promise.all([1, 2].map((a) => tools.add({ a, b: 1 })))).map(Number)"
    assert await run([add], program, context=10) == ["Result:\n[12, 13]"]


async def test_programs_that_fail_say_why() -> None:
    limits: Limits = {"running_time": 0.2}
    outputs = await run([fails, slow], "await tools.fails()", "x y", "for (;;);", limits=limits)
    assert "not today" in outputs[0]
    assert "SyntaxError" in outputs[1]
    assert "running time limit" in outputs[2]


async def test_the_timeout_of_a_tool_holds() -> None:
    (output,) = await run([slow], "return await tools.slow()")
    assert "timed out" in output


async def test_what_programs_store_is_kept_where_it_is_wanted() -> None:
    stored = StoredValues()
    programs = ("store('x', 1)", "return load('x')")
    assert (await run([], *programs, stored=stored))[1] == "Result:\n1"
    assert dict(stored) == {"x": 1}
    assert "printed nothing" in (await run([], *programs))[1]


async def test_tools_that_need_more_than_a_call_are_refused() -> None:
    @function_tool(needs_approval=True)
    def approved() -> None:
        """Needs approval."""

    @tool_input_guardrail
    def guard(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.allow()

    guarded = function_tool(lambda: None, name_override="guarded")
    guarded.tool_input_guardrails = [guard]
    for tool, why in ((approved, "needs approval"), (guarded, "has guardrails")):
        with pytest.raises(ToolDefinitionError, match=why):
            await code_tool([tool])
