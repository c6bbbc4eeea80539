"""OpenAI Agents SDK: a model writes a program that calls function tools.

The model is a script, so that this runs without a network: `python with_openai_agents.py`.
"""

import asyncio
import json
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from cellblock.openai_agents import code_tool

PROGRAM = """
const [price, stock] = await Promise.all([
  tools.get_price({ item: "apple" }),
  tools.get_stock({ item: "apple" }),
]);
return Number(price) * Number(stock);
"""


@function_tool
def get_price(item: str) -> float:
    """The price of an item, in francs."""
    return 1.5


@function_tool
def get_stock(item: str) -> int:
    """How many of an item there are."""
    return 40


class ScriptedModel(Model):
    """Writes a program, and then says what it returned."""

    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        last = input[-1] if isinstance(input, list) else {}
        if isinstance(last, dict) and last.get("type") == "function_call_output":
            text = ResponseOutputText(text=last["output"], type="output_text", annotations=[])
            said: Any = ResponseOutputMessage(
                id="m", content=[text], role="assistant", status="completed", type="message"
            )
        else:
            said = ResponseFunctionToolCall(
                name="run_code",
                arguments=json.dumps({"code": PROGRAM}),
                call_id="call-1",
                type="function_call",
            )
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


async def main() -> None:
    set_tracing_disabled(True)
    tools = [await code_tool([get_price, get_stock])]
    agent = Agent(name="shop", model=ScriptedModel(), tools=tools)
    result = await Runner.run(agent, "What is the stock worth?")
    print(result.final_output)


asyncio.run(main())
