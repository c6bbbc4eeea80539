"""A client of the Python MCP SDK: makes the calls that standard input lists, and prints what
it gets as one JSON object for each line."""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult


async def main():
    plan = json.load(sys.stdin)
    if "url" in plan:
        server = plan["url"]
    else:
        server = StdioServerParameters(command=plan["command"], args=plan["args"], cwd=plan["cwd"])
    progress, asked = [], []

    async def follow(done, total, message):
        progress.append(message)

    async def answer(context, params):
        asked.append(params.message)
        fields = params.requested_schema["properties"]
        return ElicitResult(action="accept", content={field: plan["approve"] for field in fields})

    options = {"elicitation_callback": answer} if "approve" in plan else {}
    async with Client(server, mode=plan["mode"], **options) as client:
        out({"protocol": client.protocol_version, "instructions": client.instructions})
        for step in plan["steps"]:
            match step:
                case {"list": _}:
                    listed = await client.list_tools()
                    out(listed.model_dump(mode="json", by_alias=True))
                case {"read": uri}:
                    read = await client.read_resource(uri)
                    out({"text": read.contents[0].text})
                case {"call": name, "arguments": arguments}:
                    result = await client.call_tool(name, arguments, progress_callback=follow)
                    result = result.model_dump(mode="json", by_alias=True)
                    out({**result, "progress": progress[:], "asked": asked[:]})
                    progress.clear()
                    asked.clear()


def out(value):
    print(json.dumps(value), flush=True)


asyncio.run(main())
