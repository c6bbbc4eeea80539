"""Lets `cellblock mcp` call every tool of the server at a URL, in one program. Arguments: the
program, and the URL."""

import json
import os
import subprocess
import sys
import tempfile

PROGRAM, URL = sys.argv[1:]
CODE = """
for (const name of Object.keys(tools.s ?? {}))
    try { text(await tools.s[name]({ a: 5, b: 3 })) } catch (error) { text(error.message) }
"""


def send(message):
    child.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    child.stdin.flush()


def request(id, method, params):
    send({"id": id, "method": method, "params": params})
    for line in child.stdout:
        message = json.loads(line)
        if message.get("id") == id:
            return message["result"]


with tempfile.TemporaryDirectory() as folder:
    config = os.path.join(folder, "mcp.json")
    with open(config, "w") as file:
        json.dump({"mcpServers": {"s": {"url": URL}}}, file)
    command = [PROGRAM, "mcp", "--config", config]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    info = {"name": "calls all", "version": "1"}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
    request(1, "initialize", hello)
    send({"method": "notifications/initialized"})
    print(json.dumps(request(2, "tools/call", {"name": "exec", "arguments": {"code": CODE}})))
    child.stdin.close()
    child.wait()
