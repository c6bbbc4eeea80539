"""An MCP server over streamable HTTP that answers calls of its tool `plain` in the way that the
argument `kind` names. It prints its URL."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOL = {"name": "plain", "description": "Answers.", "inputSchema": {"type": "object"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self, content, kind="application/json", status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def do_GET(self):
        self.body(b"", status=405)

    def do_DELETE(self):
        self.body(b"", status=405)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        id, method, params = request.get("id"), request.get("method"), request.get("params") or {}
        if id is None:
            return self.body(b"", status=202)
        if method == "tools/call":
            return self.call(id, (params.get("arguments") or {}).get("kind"))
        results = {
            "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}},
            "tools/list": {"tools": [TOOL]},
        }
        if method not in results:
            error = {"code": -32601, "message": "no such method"}
            return self.body(json.dumps({"jsonrpc": "2.0", "id": id, "error": error}).encode())
        self.body(json.dumps({"jsonrpc": "2.0", "id": id, "result": results[method]}).encode())

    def call(self, id, kind):
        def answer(text):
            return json.dumps({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}).encode()

        match kind:
            case "huge":
                self.body(answer("x" * 100_000_000))
            case "huge-event":
                self.events()
                self.wfile.write(b"data: " + answer("x" * 100_000_000) + b"\n\n")
            case "endless-line":
                self.events()
                while True:
                    self.wfile.write(b"x" * 1_000_000)
            case "endless-events":
                self.events()
                while True:
                    self.wfile.write(b": nothing\n\n" * 1_000)
                    time.sleep(0.05)
            case "silent":
                time.sleep(600)
            case "half":
                self.body(answer("half")[:20], length=1_000)
                self.close_connection = True
            case "garbage":
                self.body(b"garbage")
            case "halves":
                self.body(answer("\ud83d"))
            case "halves-event":
                self.events()
                self.wfile.write(b"data: " + answer("\ud83d") + b"\n\n")
            case "html":
                self.body(b"<html>", kind="text/html")
            case "failed":
                self.body(b"<html>down" * 100_000, kind="text/html", status=500)
            case "unauthorized":
                self.body(b"", status=401, **{"WWW-Authenticate": "Bearer " + "x" * 10_000})
            case "redirect":
                self.body(b"", status=307, Location="http://127.0.0.1:1/")
            case "accepted":
                self.body(b"", status=202)
            case "other-id":
                self.body(answer("other").replace(b'"id": %d' % id, b'"id": 999999'))
            case "no-event":
                self.events()
            case "number":
                self.body(answer("n").replace(b'"n"', b"1e999"))
            case _:
                self.body(answer("plain"))


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(f"http://127.0.0.1:{server.server_port}/mcp", flush=True)
server.serve_forever()
