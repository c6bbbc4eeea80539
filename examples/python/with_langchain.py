"""LangChain: a model writes a program that calls the agent's tools, one of which asks first.

The model is a script, so that this runs without a network: `python with_langchain.py`.
"""

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from cellblock.langchain import CodeCellsMiddleware

PROGRAM = """
const found = await tools.search({ query: "cheap flights" });
const booked = await tools.book({ flight: found[0] });
return booked;
"""


class ScriptedModel(GenericFakeChatModel):
    """Says what it was told to say."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


@tool
def search(query: str) -> list[str]:
    """Flights that match a query."""
    return ["LX 318", "LX 332"]


@tool
def book(flight: str) -> str:
    """Books a flight."""
    return f"booked {flight}"


async def main() -> None:
    call = {"name": "run_code", "args": {"code": PROGRAM}, "id": "call-1"}
    said = [AIMessage("", tool_calls=[call]), AIMessage("Your flight is booked.")]
    agent = create_agent(
        ScriptedModel(messages=iter(said)),
        tools=[search, book],
        middleware=[CodeCellsMiddleware(ptc=["search", "book"], interrupt_on={"book": True})],
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "1"}}
    state = await agent.ainvoke({"messages": [("user", "Book the cheapest.")]}, config)
    (asked,) = state["__interrupt__"]
    print("asked:", asked.value["action_requests"][0]["args"])
    answer = Command(resume={"decisions": [{"type": "approve"}]})
    state = await agent.ainvoke(answer, config)
    print("program:", state["messages"][-2].content)
    print("model:", state["messages"][-1].content)


asyncio.run(main())
