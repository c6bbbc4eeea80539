"""FastMCP: clients search a server's tools and call them in programs.

The client is a script, so that this runs without a network: `python with_fastmcp.py`.
"""

import asyncio

from fastmcp import Client, FastMCP
from fastmcp.experimental.transforms.code_mode import CodeMode

from cellblock.fastmcp import DESCRIPTION, CellblockProvider

PROGRAM = """
const found = await Promise.all(
  [1, 2, 3].map((n) => call_tool("add", { a: n, b: n })),
);
return found.map((each) => each.result);
"""

mode = CodeMode(sandbox_provider=CellblockProvider(), execute_description=DESCRIPTION)
server = FastMCP("adder", transforms=[mode])


@server.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


async def main() -> None:
    async with Client(server) as client:
        print(*sorted(tool.name for tool in await client.list_tools()))
        answer = await client.call_tool("execute", {"code": PROGRAM})
        print(answer.content[0].text)


asyncio.run(main())
