"""pydantic-ai, with a model that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, RunContext, ToolDenied
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.exceptions import ModelRetry, UsageLimitExceeded
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import DeferredToolApprovalResult, ToolApproved
from pydantic_ai.usage import UsageLimits

from cellblock import Host
from cellblock.pydantic_ai import CodeCells

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


class Script:
    """A model that writes programs, one after the other, and then says `done`."""

    def __init__(self, *programs: str) -> None:
        self.programs = list(programs)
        self.tools: list[list[str]] = []
        self.description = ""

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.tools.append([tool.name for tool in info.function_tools])
        described = {tool.name: tool.description or "" for tool in info.function_tools}
        self.description = described.get("run_code", "")
        if not self.programs:
            return ModelResponse([TextPart("done")])
        return ModelResponse([ToolCallPart("run_code", {"code": self.programs.pop(0)})])


def returned(messages: list[ModelMessage]) -> list[Any]:
    """What the model was sent of its programs."""
    return [
        part.content
        for message in messages
        for part in message.parts
        if isinstance(part, (ToolReturnPart, RetryPromptPart))
    ]


class Order(BaseModel):
    item: str
    count: int


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with Host() as host:
        yield host


def agent_of(script: Script, host: Host, **settings: Any) -> Agent[None, Any]:
    output = settings.pop("output_type", str)
    more = settings.pop("more", [])
    capabilities = [CodeCells(host=host, **settings), *more]
    return Agent(FunctionModel(script), capabilities=capabilities, output_type=output)


async def test_programs_call_the_agents_tools(host: Host) -> None:
    script = Script(
        "const o = await tools.make_order({ item: 'pear', count: 2 }); store('o', o);"
        "text('made'); return o.count + await tools.add({ a: 1, b: 2 })",
        "return load('o').item",
    )
    agent = agent_of(script, host)

    @agent.tool_plain
    def make_order(item: str, count: int) -> Order:
        """Makes an order."""
        return Order(item=item, count=count)

    @agent.tool
    async def add(ctx: RunContext[None], a: int, b: int) -> int:
        assert ctx.tool_name == "add"
        return a + b

    result = await agent.run("x")
    assert result.output == "done"
    assert script.tools == [["run_code"]] * 3
    assert "make_order(args: { count: number; item: string; })" in script.description
    assert returned(result.all_messages()) == [{"output": "made", "result": 5}, "pear"]


@pytest.mark.parametrize(
    ("tools", "inside"),
    [
        ("all", {"one", "two"}),
        (["one"], {"one"}),
        (lambda ctx, tool: tool.name == "two", {"two"}),
    ],
)
async def test_which_tools_programs_may_call(host: Host, tools: Any, inside: set[str]) -> None:
    script = Script("return Object.keys(tools)")
    agent = agent_of(script, host, tools=tools)

    def one() -> int:
        return 1

    for name in ("one", "two"):
        agent.tool_plain(name=name)(one)
    result = await agent.run("x")
    assert set(returned(result.all_messages())[0]) == inside
    assert set(script.tools[0]) == {"one", "two"} - inside | {"run_code"}


async def test_a_program_that_fails_is_tried_again(host: Host) -> None:
    script = Script(
        "return await tools.fails()",
        "console.log(1)",
        "try { await tools.fails({ x: 1 }) } catch (e) { return e.message }",
    )
    agent = agent_of(script, host)

    @agent.tool_plain
    def fails() -> None:
        raise ModelRetry("not today")

    result = await agent.run("x")
    first, second, third = returned(result.all_messages())
    assert "not today" in str(first)
    assert "tool-1 fails failed" in str(first)
    assert "Print with `text(value)`" in str(second)
    assert "Extra inputs" in str(third) or "Unexpected" in str(third)


async def test_limits_hold(host: Host) -> None:
    script = Script("for (;;);", "return 1")
    agent = agent_of(script, host, limits={"running_time": 0.1})
    result = await agent.run("x")
    assert "running time limit" in str(returned(result.all_messages())[0])


async def test_the_runs_limit_of_calls_ends_it(host: Host) -> None:
    script = Script("for (let i = 0; i < 10; i++) { try { await tools.one() } catch {} }")
    agent = agent_of(script, host)
    calls = 0

    @agent.tool_plain
    def one() -> int:
        nonlocal calls
        calls += 1
        return 1

    with pytest.raises(UsageLimitExceeded):
        await agent.run("x", usage_limits=UsageLimits(tool_calls_limit=4))
    assert calls <= 4


async def test_images_reach_the_model_and_programs(host: Host) -> None:
    script = Script("image(await tools.shoot()); return 'shot'")
    agent = agent_of(script, host)

    @agent.tool_plain
    def shoot() -> BinaryContent:
        return BinaryContent.from_data_uri(PIXEL)

    result = await agent.run("x")
    contents = [
        part.content
        for message in result.all_messages()
        for part in message.parts
        if part.part_kind == "user-prompt"
    ]
    assert any(isinstance(each, list) and isinstance(each[0], BinaryContent) for each in contents)


APPROVED = """
const first = await tools.read();
text(await Promise.all([tools.delete({ n: 1 }), tools.delete({ n: 2 })]));
const last = await tools.delete({ n: 3 });
return [first, last];
"""


def with_approvals(script: Script, host: Host, deleted: list[int]) -> Agent[None, Any]:
    agent = agent_of(script, host, output_type=[str, DeferredToolRequests])
    agent.reads = 0  # type: ignore[attr-defined]

    @agent.tool_plain
    def read() -> int:
        agent.reads += 1  # type: ignore[attr-defined]
        return 7

    @agent.tool_plain(requires_approval=True)
    def delete(n: int) -> int:
        deleted.append(n)
        return n

    return agent


async def test_a_program_waits_for_approvals_and_goes_on(host: Host) -> None:
    deleted: list[int] = []
    agent = with_approvals(Script(APPROVED), host, deleted)
    result = await agent.run("x")
    asked: list[int] = []
    while isinstance(result.output, DeferredToolRequests):
        (call,) = result.output.approvals
        assert call.tool_name == "run_code"
        calls = result.output.metadata[call.tool_call_id]["calls"]
        assert {each["tool_name"] for each in calls} == {"delete"}
        numbers = [each["args"]["n"] for each in calls]
        assert not set(numbers) & set(deleted)
        asked += numbers
        answers = DeferredToolResults(approvals={call.tool_call_id: True})
        result = await agent.run(
            message_history=result.all_messages(), deferred_tool_results=answers
        )
    assert result.output == "done"
    assert sorted(asked) == sorted(deleted) == [1, 2, 3]
    # It went on from where it was: what came before did not happen again.
    assert agent.reads == 1  # type: ignore[attr-defined]
    assert returned(result.all_messages())[-1] == {"output": "[1,2]", "result": [7, 3]}


async def test_a_program_whose_approval_is_denied_does_nothing(host: Host) -> None:
    deleted: list[int] = []
    agent = with_approvals(Script("return await tools.delete({ n: 1 })"), host, deleted)
    result = await agent.run("x")
    (call,) = result.output.approvals
    answers = DeferredToolResults(approvals={call.tool_call_id: ToolDenied("no")})
    result = await agent.run(message_history=result.all_messages(), deferred_tool_results=answers)
    assert result.output == "done"
    assert deleted == []


async def test_an_approval_for_a_program_that_is_lost_runs_nothing(host: Host) -> None:
    deleted: list[int] = []
    script = Script("return await tools.delete({ n: 1 })")
    agent = with_approvals(script, host, deleted)
    result = await agent.run("x")
    (call,) = result.output.approvals
    other = with_approvals(script, host, deleted)
    answers = DeferredToolResults(approvals={call.tool_call_id: ToolApproved()})
    result = await other.run(message_history=result.all_messages(), deferred_tool_results=answers)
    assert "is lost" in str(returned(result.all_messages())[-1])
    assert deleted == []


async def test_a_handler_of_the_agent_is_asked_first(host: Host) -> None:
    deleted: list[int] = []

    async def handle(ctx: RunContext[None], requests: DeferredToolRequests) -> DeferredToolResults:
        decisions: dict[str, DeferredToolApprovalResult | bool] = {
            call.tool_call_id: (
                True if call.args_as_dict()["n"] == 1 else ToolDenied("only the first")
            )
            for call in requests.approvals
        }
        return DeferredToolResults(approvals=decisions)

    program = """
        const one = await tools.delete({ n: 1 });
        try { await tools.delete({ n: 2 }) } catch (e) { return [one, e.message] }
    """
    agent = agent_of(Script(program), host, more=[HandleDeferredToolCalls(handle)])

    @agent.tool_plain(requires_approval=True)
    def delete(n: int) -> int:
        deleted.append(n)
        return n

    result = await agent.run("x")
    assert returned(result.all_messages()) == [[1, "delete: only the first"]]
    assert deleted == [1]


async def test_runs_at_the_same_time_share_nothing(host: Host) -> None:
    async def run(n: int) -> Any:
        agent = agent_of(
            Script(f"store('n', {n}); return await tools.back()", "return load('n')"), host
        )

        @agent.tool_plain
        def back() -> int:
            return n

        return returned((await agent.run("x")).all_messages())

    assert await asyncio.gather(*(run(n) for n in range(10))) == [[n, n] for n in range(10)]
