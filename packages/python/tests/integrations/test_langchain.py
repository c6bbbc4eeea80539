"""LangChain and deepagents, with a model that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import InjectedState
from langgraph.types import Command

from cellblock.langchain import CodeCellsMiddleware


class Model(GenericFakeChatModel):
    """Says what it was told to say, and notes what it was offered."""

    offered: list[Any] = []

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        self.offered.append(list(tools))
        return self


def model(*programs: str) -> Model:
    def said() -> Iterator[AIMessage]:
        for n, program in enumerate(programs):
            call = {"name": "run_code", "args": {"code": program}, "id": f"call-{n}"}
            yield AIMessage("", tool_calls=[call])
        while True:
            yield AIMessage("done")

    return Model(messages=said())


calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@tool
def search(query: str) -> list[str]:
    """Finds things."""
    calls.append(query)
    return [f"{query} 1", f"{query} 2"]


@tool
async def book(item: str) -> dict[str, str]:
    """Books a thing."""
    calls.append(item)
    return {"booked": item}


@tool
def secret() -> str:
    """Is not for programs."""
    calls.append("secret")
    return "secret"


@tool
def who(
    runtime: ToolRuntime,
    state: Annotated[dict[str, Any], InjectedState],
    call: Annotated[str, InjectedToolCallId],
) -> list[Any]:
    """Says what it was given."""
    return [call, len(state["messages"]), runtime.tool_call_id]


def answers(state: Any) -> list[Any]:
    return [each.content for each in state["messages"] if isinstance(each, ToolMessage)]


CONFIG: Any = {"configurable": {"thread_id": "1"}}


def agent_of(*programs: str, **settings: Any) -> Any:
    settings.setdefault("ptc", ["search", "book"])
    return create_agent(
        model(*programs),
        tools=[search, book, secret, who],
        middleware=[CodeCellsMiddleware(**settings)],
        checkpointer=InMemorySaver(),
    )


@pytest.mark.parametrize("is_async", [True, False])
async def test_programs_call_the_tools_of_the_list_and_no_others(is_async: bool) -> None:
    program = """
        const found = await Promise.all(['a', 'b'].map((query) => tools.search({ query })));
        text(Object.keys(tools).sort());
        return [found, await tools.book({ item: found[1][0] })];
    """
    said = model(program)
    agent = create_agent(
        said, tools=[search, book, secret], middleware=[CodeCellsMiddleware(ptc=["search", "book"])]
    )
    given: Any = {"messages": [("user", "x")]}
    state = await agent.ainvoke(given) if is_async else agent.invoke(given)
    assert answers(state) == [
        '["book","search"]\nResult:\n[[["a 1", "a 2"], ["b 1", "b 2"]], {"booked": "b 1"}]'
    ]
    assert calls == ["a", "b", "b 1"] or calls == ["b", "a", "b 1"]
    offered = {each.name: each.description for each in said.offered[0]}
    assert set(offered) == {"search", "book", "secret", "run_code"}
    assert "search(args: { query: string; })" in offered["run_code"]
    assert "secret" not in offered["run_code"]


async def test_tools_can_be_hidden_from_the_model() -> None:
    said = model("return 1")
    middleware = CodeCellsMiddleware(ptc=["search"], hide=True)
    agent = create_agent(said, tools=[search, secret], middleware=[middleware])
    await agent.ainvoke({"messages": [("user", "x")]})
    assert {each.name for each in said.offered[0]} == {"secret", "run_code"}


async def test_a_program_that_fails_says_why() -> None:
    agent = agent_of(
        "await tools.secret()", "await tools.search({})", "for (;;);", limits={"running_time": 0.1}
    )
    state = await agent.ainvoke({"messages": [("user", "x")]}, CONFIG)
    first, second, third = answers(state)
    assert "tools.secret is not a function" in first
    assert "query" in second
    assert "Field required" in second
    assert "running time limit" in third
    messages = [each for each in state["messages"] if isinstance(each, ToolMessage)]
    assert [each.status for each in messages] == ["error"] * 3
    assert calls == []


async def test_what_programs_store_is_the_threads() -> None:
    agent = agent_of("store('x', [1])", "store('y', 2)", "return [load('x'), load('y')]")
    state = await agent.ainvoke({"messages": [("user", "x")]}, CONFIG)
    assert answers(state)[-1] == "Result:\n[[1], 2]"
    assert "cellblock_stored" not in state
    kept = await agent.aget_state(CONFIG)
    assert kept.values["cellblock_stored"] == {"x": [1], "y": 2}


async def test_what_the_framework_injects_is_not_for_programs_to_give() -> None:
    program = "return await tools.who({ state: { messages: [] }, call: 'x', runtime: {} })"
    state = await agent_of(program, ptc=["who"]).ainvoke({"messages": [("user", "x")]}, CONFIG)
    assert answers(state) == ['Result:\n"[\\"call-0__1\\", 2, \\"call-0__1\\"]"']


async def test_calls_of_programs_are_events_below_the_programs() -> None:
    class Events(BaseCallbackHandler):
        def __init__(self) -> None:
            self.parents: dict[str, Any] = {}
            self.runs: dict[str, Any] = {}

        def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
            self.parents[serialized["name"]] = kwargs["parent_run_id"]
            self.runs[serialized["name"]] = kwargs["run_id"]

    events = Events()
    agent = agent_of("return await tools.search({ query: 'a' })")
    await agent.ainvoke({"messages": [("user", "x")]}, {**CONFIG, "callbacks": [events]})
    assert set(events.parents) == {"run_code", "search"}
    assert events.parents["search"] is not None


PROGRAM = """
const found = await tools.search({ query: 'a' });
const booked = await Promise.all(found.map((item) => tools.book({ item })));
const last = await tools.book({ item: 'last' });
return [...booked, last];
"""


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_program_waits_for_decisions_and_goes_on(is_async: bool) -> None:
    agent = agent_of(PROGRAM, interrupt_on={"book": True})

    async def invoke(given: Any) -> Any:
        if is_async:
            return await agent.ainvoke(given, CONFIG)
        return await asyncio.to_thread(agent.invoke, given, CONFIG)

    state = await invoke({"messages": [("user", "x")]})
    asked: list[str] = []
    while "__interrupt__" in state:
        (question,) = state["__interrupt__"]
        actions = question.value["action_requests"]
        assert {each["name"] for each in actions} == {"book"}
        decisions: list[Any] = []
        for each in actions:
            item = each["args"]["item"]
            asked.append(item)
            if item == "a 1":
                edited = {"name": "book", "args": {"item": "other"}}
                decisions.append({"type": "edit", "edited_action": edited})
            else:
                decisions.append({"type": "approve"})
        state = await invoke(Command(resume={"decisions": decisions}))
    assert sorted(asked) == ["a 1", "a 2", "last"]
    # Nothing of the program ran twice.
    assert sorted(calls) == ["a", "a 2", "last", "other"]
    assert answers(state) == [
        'Result:\n[{"booked": "other"}, {"booked": "a 2"}, {"booked": "last"}]'
    ]


async def test_a_call_that_is_rejected_fails() -> None:
    program = "try { await tools.book({ item: 'x' }) } catch (e) { return e.message }"
    agent = agent_of(program, interrupt_on={"book": {"allowed_decisions": ["approve", "reject"]}})
    await agent.ainvoke({"messages": [("user", "x")]}, CONFIG)
    answer: Any = Command(resume={"decisions": [{"type": "reject", "message": "too dear"}]})
    assert answers(await agent.ainvoke(answer, CONFIG)) == ['Result:\n"book: too dear"']
    assert calls == []


@pytest.mark.parametrize(
    "resume",
    [
        {"decisions": [{"type": "edit", "edited_action": {"name": "book", "args": {"item": "y"}}}]},
        {"decisions": []},
        {"decisions": [{"type": "approve"}] * 2},
        "yes",
    ],
)
async def test_a_decision_that_is_not_allowed_is_none(resume: Any) -> None:
    program = "try { await tools.book({ item: 'x' }) } catch (e) { return 'caught' }"
    agent = agent_of(program, interrupt_on={"book": {"allowed_decisions": ["approve"]}})
    await agent.ainvoke({"messages": [("user", "x")]}, CONFIG)
    assert answers(await agent.ainvoke(Command(resume=resume), CONFIG)) == ['Result:\n"caught"']
    assert calls == []


async def test_a_decision_for_a_program_that_is_lost_counts_for_nothing() -> None:
    saver = InMemorySaver()

    def agent() -> Any:
        middleware = CodeCellsMiddleware(ptc=["search", "book"], interrupt_on={"book": True})
        return create_agent(
            model(PROGRAM), tools=[search, book], middleware=[middleware], checkpointer=saver
        )

    await agent().ainvoke({"messages": [("user", "x")]}, CONFIG)
    decisions = {"decisions": [{"type": "approve"}] * 2}
    state = await agent().ainvoke(Command(resume=decisions), CONFIG)
    assert "is lost" in answers(state)[0]
    assert not {"a 1", "a 2", "last"} & set(calls)


async def test_a_deep_agent() -> None:
    said = model("return await tools.search({ query: 'a' })")
    agent = create_deep_agent(
        model=said, tools=[search], middleware=[CodeCellsMiddleware(ptc=["search"])]
    )
    state = await agent.ainvoke({"messages": [("user", "x")]})
    assert answers(state) == ['Result:\n["a 1", "a 2"]']
