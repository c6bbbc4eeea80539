"""A small MCP server on standard streams that does one thing wrong, named by its argument."""

import json
import os
import signal
import sys
import time

MODE = sys.argv[1]
OPEN = {"type": "object", "additionalProperties": True}


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def read():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def text(value, **more):
    return {"content": [{"type": "text", "text": value}], **more}


def tool(name, **more):
    return {"name": name, "description": f"The tool {name}.", "inputSchema": OPEN, **more}


def tools():
    if MODE == "twins":
        return [tool("same", description="The first."), tool("same", description="The second.")]
    if MODE == "many":
        numbers = {"type": "object", "properties": {"n": {"type": "number"}}}
        return [tool(f"t{n}", outputSchema=numbers) for n in range(20)]
    if MODE == "changes" and os.path.exists(sys.argv[2]):
        return [tool("before"), tool("after")]
    if MODE == "changes":
        return [tool("before")]
    return [
        tool("call"),
        tool("read", annotations={"readOnlyHint": True}),
        tool("erase", annotations={"destructiveHint": True}),
        tool("fail"),
        tool("structured", outputSchema={"type": "object", "properties": {"n": {"type": "number"}}}),
    ]


def call(id, name, arguments):
    if MODE == "many":
        return text("a number", structuredContent={"n": arguments["n"]})
    if name == "read":
        return text("read")
    if name == "fail":
        return text("failed", isError=True)
    if name == "structured":
        return text("n is 7", structuredContent={"n": 7})
    if name == "erase":
        with open(sys.argv[2], "a") as file:
            file.write(f"{arguments.get('what')}\n")
        return text("erased")
    if MODE == "dies":
        print("out of cheese", file=sys.stderr, flush=True)
        os._exit(3)
    if MODE == "hangs":
        time.sleep(600)
    if MODE == "half":
        sys.stdout.write('{"jsonrpc":"2.0","id":')
        sys.stdout.flush()
        os._exit(0)
    if MODE == "closes":
        # It goes on, and nothing that it says can be read.
        os.close(1)
        time.sleep(600)
    if MODE == "stubborn":
        # A child outside its group holds its streams open for a while.
        if os.fork() == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(sys.argv[2], "w") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            time.sleep(600)
    if MODE == "floods":
        log = {"method": "notifications/message", "params": {"level": "info", "data": "x" * 1000}}
        changed = {"method": "notifications/tools/list_changed"}
        for _ in range(20_000):
            send(log)
            send(changed)
    if MODE == "asks-much":
        # And it never reads an answer.
        while True:
            sys.stdout.write('{"jsonrpc":"2.0","id":1,"method":"ping"}\n' * 1000)
    if MODE == "changes":
        open(sys.argv[2], "w").close()
        send({"method": "notifications/tools/list_changed"})
    if MODE == "huge":
        return text("x" * arguments.get("bytes", 100_000_000))
    if MODE == "marks":
        # The call lasts until it is cancelled.
        open(sys.argv[2], "w").close()
        while read().get("method") != "notifications/cancelled":
            pass
        open(sys.argv[3], "w").close()
    if MODE == "until":
        while not os.path.exists(sys.argv[2]):
            time.sleep(0.02)
    if MODE == "asks":
        question = {"message": "Your password?", "requestedSchema": {"type": "object", "properties": {}}}
        send({"id": "q", "method": "elicitation/create", "params": question})
        return text(json.dumps(read()))
    if MODE == "slow":
        for step in range(3):
            time.sleep(0.1)
            token = LAST_META.get("progressToken")
            params = {"progressToken": token, "progress": step, "total": 3, "message": f"step {step}"}
            send({"method": "notifications/progress", "params": params})
    return text(MODE, isError=MODE == "fails")


if MODE == "garbage":
    while True:
        print("I am not a server", flush=True)
        sys.stdin.readline()
if MODE == "ends":
    print("no such database", file=sys.stderr, flush=True)
    sys.exit(7)

LAST_META = {}
while True:
    request = read()
    id, method, params = request.get("id"), request.get("method"), request.get("params") or {}
    if method == "initialize" and MODE == "together":
        # It starts once the others do.
        open(os.path.join(sys.argv[2], str(os.getpid())), "w").close()
        while len(os.listdir(sys.argv[2])) < int(sys.argv[3]):
            time.sleep(0.02)
    if method == "initialize":
        version = "2024-11-05" if MODE == "old" else params["protocolVersion"]
        info = {"name": MODE, "version": "1"}
        capabilities = {"tools": {"listChanged": True}}
        send({"id": id, "result": {"protocolVersion": version, "capabilities": capabilities, "serverInfo": info}})
    elif method == "tools/list" and MODE == "pages":
        send({"id": id, "result": {"tools": [], "nextCursor": "again"}})
    elif method == "tools/list":
        if MODE == "chatty":
            print("listing tools", flush=True)
        send({"id": id, "result": {"tools": tools()}})
        if MODE == "deaf":
            time.sleep(600)
    elif method == "tools/call":
        LAST_META = params.get("_meta") or {}
        send({"id": id, "result": call(id, params["name"], params.get("arguments") or {})})
    elif id is not None and method:
        send({"id": id, "error": {"code": -32601, "message": "no such method"}})
