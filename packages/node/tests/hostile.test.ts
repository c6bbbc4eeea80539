// Hosts that break the protocol: nothing hangs, nothing else breaks, the reason is said.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import {
  CellNotFoundError,
  Host,
  HostLostError,
  HostUnavailableError,
  type Result,
  Session,
} from "@cellblock/client";
import { children, eventually, inTime, PATIENCE_MS, Signal, withSession } from "./support.js";

const HOSTILE = `${process.env.CELLBLOCK_PACKAGES}/tests/hostile_host.py`;

async function run(way: string, tool: () => unknown = () => 1): Promise<Result> {
  const before = children();
  const host = new Host({ command: ["python3", HOSTILE, way] });
  const session = new Session({ host, tools: { tool } });
  try {
    return await inTime(session.exec("await tools.tool()"));
  } finally {
    await inTime(session.close());
    await inTime(host.close());
    await eventually(() => children().size <= before.size);
  }
}

test("one that keeps to it", async () => {
  assert.equal((await run("fine")).value, 5);
});

for (const [way, why] of [
  ["garbage", /a frame of \d+ bytes/],
  ["huge", /a frame of 4294967295 bytes/],
  ["half", /it ended within a frame/],
  ["not json", /JSON/],
  ["no object", /the message is not an object/],
  ["deep", /not an object|JSON/],
  ["other version", /version 2/],
  ["no capability", /it lacks the capability cellblock-seam-v1/],
  ["rejects", /it rejected this client: .*invalidHello/],
  ["odd", /it answered with cell\/closed/],
  ["logs", /exit code 1: the reason/],
] as const) {
  test(`one that is none: ${way}`, async () => {
    await assert.rejects(
      run(way),
      (error) => error instanceof HostUnavailableError && why.test(error.message),
      String(why),
    );
  });
}

for (const [way, why] of [
  ["dies", /signal SIGKILL/],
  ["closes half way", /ended within a frame/],
  ["closes its output", /the connection to the host has ended/],
  ["first before started", /an answer to an execute that is not one/],
  ["closed for a program", /an answer to an execute that is not one/],
  ["started for nothing", /an answer to the request 99/],
  ["started twice", /an answer to an execute that is not one/],
  ["unknown type", /type is not/],
  ["second handshake", /a second handshake/],
  ["huge id", /id is not an integer/],
  ["text id", /id is not an integer/],
  ["same delegate twice", /was made twice/],
  ["too many delegates", /more than 1024/],
  ["no report", /without a report/],
  ["bad value", /broke the protocol/],
  ["nan value", /broke the protocol/],
  ["bad stored value", /broke the protocol/],
  ["no kind", /a response of no kind/],
  ["bad unicode", /broke the protocol|encoded data/],
] as const) {
  test(`one that breaks it with a program: ${way}`, async () => {
    await assert.rejects(
      run(way, () => new Promise(() => {})),
      (error) => error instanceof HostLostError && why.test(error.message),
      String(why),
    );
  });
}

test("an answer that comes twice fails nothing that was answered", async () => {
  assert.equal((await run("answered twice")).status, "completed");
});

test("calls for nobody are refused", async () => {
  assert.equal((await run("unknown session")).value, 5);
  assert.equal((await run("unknown cell")).value, "refused");
});

test("a cell that the host has lost", async () => {
  const host = new Host({ command: ["python3", HOSTILE, "missing cell"] });
  const session = new Session({ host });
  const first = await session.exec("1", { yieldAfterMs: 0 });
  await assert.rejects(inTime(session.wait(first)), CellNotFoundError);
  await session.close();
  await host.close();
});

for (const way of ["misses the wait", "misses the end"]) {
  test(`a wait and a termination of which one comes too late: ${way}`, async () => {
    await withSession(
      { host: new Host({ command: ["python3", HOSTILE, way] }) },
      async (session) => {
        const first = await session.exec("1", { yieldAfterMs: 0 });
        const waiting = session.wait(first);
        assert.equal((await inTime(session.terminate(first))).status, "terminated");
        assert.equal((await inTime(waiting)).status, "terminated");
      },
    );
  });
}

/** Runs a program on a host that goes silent, and lets the time go by. */
async function overtime(way: string, calls: boolean): Promise<void> {
  const host = new Host({ command: ["python3", HOSTILE, way] });
  const called = new Signal();
  const tool = () => {
    called.fire();
    return "x".repeat(5 << 20);
  };
  const session = new Session({ host, tools: { tool } });
  // Time begins once the host has done what it does.
  await host.connection();
  mock.timers.enable({ apis: ["setTimeout"] });
  const running = session.exec("await tools.tool()");
  if (calls) await called.fired;
  const ended = running.catch(() => {});
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  const until = performance.now() + PATIENCE_MS;
  while (!isOver) {
    assert.ok(performance.now() < until, "it does not end in time");
    mock.timers.tick(100);
    await new Promise((resolve) => setImmediate(resolve));
  }
  mock.timers.reset();
  await session.close();
  await host.close();
  await running;
}

test("hosts that do not answer, and one that does not read", async () => {
  for (const [way, calls, why] of [
    ["never opens", false, /the opening of a session in time/],
    ["never starts", false, /an execute in time|the opening of a session in time/],
    ["does not read", true, /it does not read/],
  ] as const) {
    await assert.rejects(overtime(way, calls), why);
  }
});

test("a flood holds up nobody else", async () => {
  const flooding = new Host({ command: ["python3", HOSTILE, "floods"] });
  const flooded = new Session({ host: flooding }).exec("1");
  flooded.catch(() => {});
  await withSession({}, async (session) => {
    for (let n = 0; n < 20; n++) assert.equal((await session.exec(`${n}`)).value, n);
  });
  await inTime(flooding.close());
  await assert.rejects(flooded, HostLostError);
});
