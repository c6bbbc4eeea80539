"""pydantic-ai: a model writes a program that calls the agent's tools.

The model is a script, so that this runs without a network: `python with_pydantic_ai.py`.
"""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from cellblock.pydantic_ai import CodeCells

PROGRAM = """
const items = ["apple", "pear", "plum"];
const prices = await Promise.all(items.map((item) => tools.get_price({ item })));
return items[prices.indexOf(Math.min(...prices))];
"""


def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Writes a program, and then says what it returned."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse([TextPart(f"The cheapest is the {last.content}.")])
    (tool,) = info.function_tools
    assert "get_price(args: { item: string; }): Promise<number>" in (tool.description or "")
    return ModelResponse([ToolCallPart(tool.name, {"code": PROGRAM})])


agent = Agent(FunctionModel(model), capabilities=[CodeCells()])


@agent.tool_plain
async def get_price(item: str) -> float:
    """The price of an item, in francs."""
    return {"apple": 1.5, "pear": 2.0, "plum": 0.7}[item]


async def main() -> None:
    result = await agent.run("What is cheapest?")
    print(result.output)


asyncio.run(main())
