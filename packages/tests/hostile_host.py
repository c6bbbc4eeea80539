"""A host that breaks the protocol, as a program: `hostile_host.py WAY`.

The tests of all clients use it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

WAY = sys.argv[1]


def receive() -> Any:
    header = sys.stdin.buffer.read(4)
    if len(header) < 4:
        sys.exit()
    return json.loads(sys.stdin.buffer.read(int.from_bytes(header, "little")))


def raw(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def text(payload: str) -> None:
    data = payload.encode("utf-8", "surrogatepass")
    raw(len(data).to_bytes(4, "little") + data)


def send(**message: Any) -> None:
    text(json.dumps(message))


def respond(to: int, value: Any) -> None:
    send(type="operation/response", id=to, result={"status": "ok", "value": value})


USAGE = {
    "fuel": 1,
    "peak_memory_bytes": 1,
    "running_time": {"secs": 0, "nanos": 0},
    "calls": 0,
    "output_bytes": 0,
}


def result(cell: str = "1", *, value: Any = None, **more: Any) -> Any:
    report: Any = {"usage": USAGE, "limit": None, "hint": None, "calls": []}
    if value:
        report["value"] = value
    body: Any = {
        "cell_id": cell,
        "content_items": [],
        "error_text": None,
        "seam": {"report": report},
    }
    return {"Result": {**body, **more}}


def first(to: int, value: Any) -> None:
    send(type="execute/initialResponse", id=to, result={"status": "ok", "value": value})


def invoke(delegate: int, session: str, cell: str = "1", input: Any = None) -> None:
    invocation = {
        "cell_id": cell,
        "runtime_tool_call_id": "tool-1",
        "tool_name": {"name": "tool", "namespace": None},
        "tool_kind": "function",
        "input": input,
    }
    request = {"type": "tool/invoke", "invocation": invocation}
    send(type="delegate/request", id=delegate, sessionId=session, request=request)


def ready(**more: Any) -> None:
    capabilities = ["cellblock-seam-v1"]
    send(**{"type": "connection/ready", "selectedVersion": 1, "capabilities": capabilities, **more})


# Before hands are shaken.
if WAY == "silent":
    time.sleep(1_000)
receive()
match WAY:
    case "garbage":
        raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        time.sleep(1_000)
    case "huge":
        raw(b"\xff\xff\xff\xff")
        time.sleep(1_000)
    case "half":
        raw(b"\x10\x00\x00\x00{")
        sys.exit()
    case "not json":
        text("{nothing")
    case "no object":
        text("[]")
    case "deep":
        text("[" * 100_000 + "]" * 100_000)
    case "other version":
        ready(selectedVersion=2)
    case "no capability":
        ready(capabilities=[])
    case "rejects":
        send(type="connection/rejected", reason={"type": "invalidHello", "message": "no"})
    case "odd":
        send(type="cell/closed", sessionId="x", cellId="1")
    case "logs":
        for _ in range(2_000):
            print("x" * 10_000, file=sys.stderr)
        sys.exit("the reason")
ready()

# With a program that runs.
opening = receive()
session = opening["request"]["sessionId"]
if WAY == "never opens":
    time.sleep(1_000)
respond(opening["id"], {"type": "session/ready", "sessionId": session})
execute = receive()
program = execute["id"]
started = {"type": "execution/started", "cellId": "1"}
if WAY == "never starts":
    time.sleep(1_000)
if WAY == "first before started":
    first(program, result())
if WAY == "closed for a program":
    respond(program, {"type": "session/closed", "sessionId": session})
if WAY == "started for nothing":
    respond(99, started)
respond(program, started)
match WAY:
    case "dies":
        os.kill(os.getpid(), 9)
    case "closes half way":
        raw(b"\x10\x00\x00\x00{")
        sys.exit()
    case "closes its output":
        os.close(1)
        time.sleep(1_000)
    case "started twice":
        respond(program, started)
    case "answered twice":
        first(program, result())
        first(program, result())
    case "unknown type":
        send(type="cell/moved", cellId="1")
    case "second handshake":
        ready()
    case "huge id":
        text('{"type":"delegate/cancel","id":%s}' % ("9" * 5_000))
    case "text id":
        send(type="delegate/cancel", id="1")
    case "same delegate twice":
        invoke(1, session)
        invoke(1, session)
    case "too many delegates":
        for delegate in range(1_100):
            invoke(delegate, session)
    case "unknown session":
        invoke(1, "other")
        first(program, result(value={"json": "5"}))
    case "unknown cell":
        invoke(1, session, cell="7")
        answer = receive()
        value = "refused" if answer["result"]["status"] == "error" else "served"
        first(program, result(value={"json": json.dumps(value)}))
    case "no report":
        first(program, result(seam=None))
    case "bad value":
        first(program, result(value={"json": "{nothing"}))
    case "deep value":
        first(program, result(value={"json": "[" * 100_000 + "]" * 100_000}))
    case "nan value":
        first(program, result(value={"json": "NaN"}))
    case "bad stored value":
        first(program, result(seam={"report": {"usage": USAGE}, "stored": {"a": "{nothing"}}))
    case "no kind":
        first(program, {})
    case "bad unicode":
        raw(b"\x02\x00\x00\x00\xff\xff")
    case "half a pair":
        text('{"type":"cell/closed","sessionId":"\\ud800","cellId":"1"}')
    case "missing cell":
        send(type="cell/ended", sessionId=session, cellId="1")
        first(program, {"Yielded": result()["Result"]})
        waited = receive()
        missing = {"type": "wait/completed", "outcome": {"MissingCell": result()}}
        respond(waited["id"], missing)
    case "misses the wait" | "misses the end":
        first(program, {"Yielded": result()["Result"]})
        asked = [receive(), receive()]
        if WAY == "misses the end":
            asked.reverse()
        missing = {"type": "wait/completed", "outcome": {"MissingCell": result()}}
        respond(asked[0]["id"], missing)
        ended = {"LiveCell": {"Terminated": result()["Result"]}}
        respond(asked[1]["id"], {"type": "wait/completed", "outcome": ended})
    case "floods":
        while True:
            send(type="cell/ended", sessionId=session, cellId="1")
    case "does not read":
        for delegate in range(100):
            invoke(delegate, session)
        time.sleep(1_000)
    case "fine":
        first(program, result(value={"json": "5"}))
while True:
    last = receive()
    if last["type"] == "operation/request" and last["request"]["method"] == "session/shutdown":
        respond(last["id"], {"type": "session/closed", "sessionId": session})
