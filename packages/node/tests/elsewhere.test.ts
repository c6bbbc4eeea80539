// Hosts elsewhere: Unix sockets, WebSockets, TLS and tokens.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { Host, HostLostError, HostUnavailableError, type Tls } from "@cellblock/client";
import { generate } from "selfsigned";
import { begun, inTime, withSession } from "./support.js";

const TOKEN = "0123456789abcdef";
const folder = mkdtempSync(join(tmpdir(), "cellblock-"));
const processes: ChildProcess[] = [];

after(() => {
  for (const each of processes) each.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

/** Starts a host that listens; returns its url and its process. */
async function serve(listen: string, ...more: string[]): Promise<[string, ChildProcess]> {
  const program = createRequire(import.meta.url).resolve("@cellblock/linux-x64/bin/cellblock");
  const child = spawn(program, ["host", "--listen", listen, ...more], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  processes.push(child);
  const [line] = await once(createInterface(child.stdout), "line");
  return [String(line).trim(), child];
}

const add = ({ a, b }: { a: number; b: number }) => a + b;

async function works(host: Host): Promise<void> {
  await withSession({ host, tools: { add }, stored: { x: 1 } }, async (session) => {
    const result = await session.exec("store('y', 2); await tools.add({ a: load('x'), b: 2 })");
    assert.deepEqual([result.error, result.value], [undefined, 3]);
    assert.equal(session.stored.get("y"), 2);
    const tools = { long: () => "x".repeat(20 << 20) };
    assert.equal((await session.exec("(await tools.long()).length", { tools })).value, 20 << 20);
  });
}

test("a Unix socket", async () => {
  const [url] = await serve(`unix://${folder}/a.sock`);
  await works(new Host({ url }));
});

test("a WebSocket", async () => {
  const [url] = await serve("ws://127.0.0.1:0");
  await works(new Host({ url }));
});

test("TLS and a token", async () => {
  const names = [
    { type: 7 as const, ip: "127.0.0.1" },
    { type: 2 as const, value: "localhost" },
  ];
  const extensions = [{ name: "subjectAltName" as const, altNames: names }];
  const pems = await generate([{ name: "commonName", value: "localhost" }], { extensions });
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const [url] = await serve(
    "wss://127.0.0.1:0",
    ...["--tls-cert", file("cert.pem", pems.cert), "--tls-key", file("key.pem", pems.private)],
    ...["--token-file", file("tokens", `me ${TOKEN}\n`)],
  );
  await works(new Host({ url, token: TOKEN, tls: { ca: pems.cert } }));
  const refused: [Tls, string | undefined, RegExp][] = [
    [{ ca: pems.cert }, undefined, /401/],
    [{ ca: pems.cert }, "another0123456789", /401/],
    [{}, TOKEN, /certificate/],
    [{ ca: pems.cert, servername: "example.org" }, TOKEN, /example\.org/],
  ];
  for (const [tls, token, why] of refused) {
    const host = new Host({ url, tls, ...(token === undefined ? {} : { token }) });
    await withSession({ host }, async (session) => {
      await assert.rejects(
        inTime(session.exec("1")),
        (error) => error instanceof HostUnavailableError && why.test(error.message),
        String(why),
      );
    });
  }
});

test("a host that goes away and comes back", async () => {
  const listen = `unix://${folder}/b.sock`;
  const [url, child] = await serve(listen);
  await withSession({ host: new Host({ url }) }, async (session) => {
    assert.equal((await session.exec("1")).value, 1);
    const running = await begun(session);
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await assert.rejects(inTime(running.ended), HostLostError);
    await exited;
    await assert.rejects(session.exec("1"), /ECONNREFUSED/);
    await serve(listen);
    assert.equal((await session.exec("2")).value, 2);
  });
});

test("limits of a session do not widen those of the host", async () => {
  const [url] = await serve("ws://127.0.0.1:0", "--limit", "calls=5");
  const program = "for (let i = 0; i < 10; i++) await tools.add({ a: 1, b: i })";
  for (const limits of [{}, { calls: 8 }, { timers: 1 }]) {
    await withSession({ host: new Host({ url }), tools: { add }, limits }, async (session) => {
      const result = await session.exec(program);
      assert.deepEqual([result.limit, result.usage.calls], ["calls", 5]);
    });
  }
});

test("nobody listens, or something else", async () => {
  const server = createServer((socket) => socket.end("220 smtp.example.org ESMTP\r\n"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  for (const url of [
    `unix://${folder}/nothing`,
    "ws://127.0.0.1:1",
    "wss://127.0.0.1:1",
    `ws://127.0.0.1:${port}`,
    `wss://127.0.0.1:${port}`,
  ]) {
    await withSession({ host: new Host({ url }) }, async (session) => {
      await assert.rejects(inTime(session.exec("1")), HostUnavailableError, url);
    });
  }
  server.close();
});
