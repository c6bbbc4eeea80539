"""FastMCP's code mode, over its own client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.experimental.transforms.code_mode import CodeMode, SandboxProvider

from cellblock import Limits
from cellblock.fastmcp import DESCRIPTION, CellblockProvider


def server_of(limits: Limits | None = None) -> FastMCP[Any]:
    provider: SandboxProvider = CellblockProvider(limits=limits)
    mode = CodeMode(sandbox_provider=provider, execute_description=DESCRIPTION)
    server: FastMCP[Any] = FastMCP("x", transforms=[mode])

    @server.tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool
    def fails() -> None:
        """Fails."""
        raise ToolError("not today")

    return server


async def run(code: str, limits: Limits | None = None) -> Any:
    async with Client(server_of(limits)) as client:
        answer = await client.call_tool("execute", {"code": code})
        return "".join(block.text for block in answer.content)


async def test_programs_call_the_servers_tools() -> None:
    program = """
        const all = await Promise.all([1, 2, 3].map((n) => call_tool('add', { a: n, b: n })));
        return all.map((each) => each.result);
    """
    assert json.loads(await run(program)) == [2, 4, 6]
    assert await run("text('printed')") == "printed"
    assert json.loads(await run("const other = 1; return { a: [null] }")) == {"a": [None]}


async def test_clients_find_the_tools() -> None:
    async with Client(server_of()) as client:
        names = {tool.name for tool in await client.list_tools()}
        assert names == {"execute", "search", "get_schema"}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("return await call_tool('fails', {})", "not today"),
        ("return await call_tool('add', { a: 'x' })", "Valid parameters for add"),
        ("return await call_tool('nothing', {})", "Unknown tool"),
        ("x y", "SyntaxError"),
        ("\nthrow new Error('here')", "exec_main.mjs:2"),
        ("for (;;);", "running time limit"),
        ("return () => 1", "functions"),
    ],
)
async def test_programs_that_fail_say_why(code: str, why: str) -> None:
    with pytest.raises(ToolError, match=why):
        await run(code, {"running_time": 0.2})


async def test_inputs_and_functions() -> None:
    async def later(a: int, b: int = 2) -> int:
        return a + b

    provider = CellblockProvider()
    value = await provider.run(
        "return [x.y, await now('a'), await later(1), await later(1, 5)]",
        inputs={"x": {"y": 1}},
        external_functions={"now": str.upper, "later": later},
    )
    assert value == [1, "A", 3, 6]
