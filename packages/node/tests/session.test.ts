// Programs, and what they answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BusyError,
  CellNotFoundError,
  InvalidRequestError,
  type Json,
  LimitError,
  type Limits,
  NotJsonError,
  ProgramError,
  Session,
  SessionClosedError,
  TerminatedError,
} from "@cellblock/client";
import { begun, eventually, inTime, Signal, WAITS, withSession } from "./support.js";

const PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=";

test("a result has what the program printed and its value", () =>
  withSession({}, async (session) => {
    const result = await session.exec(
      `text('a'); text({ b: 1 }); image('${PIXEL}'); [1, 'x', null]`,
    );
    assert.equal(result.status, "completed");
    assert.deepEqual(result.items, [
      { type: "text", text: "a" },
      { type: "text", text: '{"b":1}' },
      { type: "image", url: PIXEL, detail: "high" },
    ]);
    assert.equal(result.text, 'a\n{"b":1}');
    assert.deepEqual(result.value, [1, "x", null]);
    assert.ok(result.usage.fuel > 0);
    assert.ok(result.usage.peakMemoryBytes > 0);
    assert.equal(result.check(), result);
  }));

test("values", () =>
  withSession({}, async (session) => {
    const cases: [string, Json | undefined][] = [
      ["return 5", 5],
      ["1 + 1", 2],
      ["Promise.resolve({ a: [] })", { a: [] }],
      ["'\\u{1F600}'", "\u{1F600}"],
      ["undefined", undefined],
      ["null", null],
      ["const x: number = 3; x", 3],
      ["2 ** 53", 2 ** 53],
      ["0.1 + 0.2", 0.1 + 0.2],
    ];
    for (const [program, value] of cases) {
      const result = await session.exec(program);
      assert.equal(result.error, undefined, program);
      assert.deepEqual(result.value, value, program);
    }
  }));

test("a value that cannot be had says why", () =>
  withSession({}, async (session) => {
    const result = await session.exec("const a = {}; a.a = a; a");
    assert.equal(result.status, "completed");
    assert.equal(result.value, undefined);
    assert.match(result.valueError ?? "", /circular/);
  }));

test("a long value is there and stored", () =>
  withSession({}, async (session) => {
    const result = await session.exec("'x'.repeat(300_000)");
    assert.equal(result.value, "x".repeat(300_000));
    const again = await session.exec(`load(${JSON.stringify(result.valueKey)}).length`);
    assert.equal(again.value, 300_000);
  }));

test("without a value", () =>
  withSession({}, async (session) => {
    assert.equal((await session.exec("5", { value: false })).value, undefined);
    assert.equal((await session.exec("return 5", { value: false })).status, "failed");
  }));

test("a program that fails is a result", () =>
  withSession({}, async (session) => {
    const result = await session.exec("text('before'); console.log(1)");
    assert.equal(result.status, "failed");
    assert.equal(result.text, "before");
    assert.match(result.error ?? "", /console is not defined/);
    assert.match(result.hint ?? "", /text\(value\)/);
    assert.throws(
      () => result.check(),
      (error) => error instanceof ProgramError && error.code === "program_failed",
    );
  }));

test("limits hold", async () => {
  const cases: [Limits, string, string][] = [
    [{ runningTimeMs: 100 }, "for (;;);", "running_time"],
    [{ totalTimeMs: 200 }, WAITS, "total_time"],
    [{ memoryBytes: 4 << 20 }, "const a = []; for (;;) a.push({})", "memory"],
    [{ fuel: 20_000_000 }, "for (;;);", "fuel"],
    [{ outputBytes: 10 }, "text('x'.repeat(100))", "output_bytes"],
    [{ storedKeys: 1 }, "store('a', 1); store('b', 1)", "stored_keys"],
  ];
  for (const [limits, program, limit] of cases) {
    await withSession({ limits }, async (session) => {
      const result = await session.exec(program);
      assert.deepEqual([result.status, result.limit], ["limit", limit]);
      assert.throws(() => result.check(), LimitError);
    });
  }
});

test("limits can be wider than the defaults", () =>
  withSession({}, async (session, host) => {
    const program = "new Uint8Array(200 * 1024 * 1024).length";
    assert.equal((await session.exec(program)).limit, "memory");
    const wide = new Session({ host, limits: { memoryBytes: 300 << 20 } });
    assert.equal((await wide.exec(program)).value, 200 << 20);
    await wide.close();
  }));

test("limits that are none", async () => {
  for (const limits of [{ speed: 1 }, { fuel: -1 }, { totalTimeMs: "1s" }, { fuel: 1.5 }]) {
    assert.throws(() => new Session({ limits: limits as Limits }), RangeError);
  }
  await withSession({ limits: { memoryBytes: 1 } }, async (session) => {
    await assert.rejects(session.exec("1"), /memory limit must be between/);
  });
});

test("stored values are the caller's", async () => {
  await withSession({ stored: { given: { a: [1] } } }, async (session) => {
    await session.exec("store('made', [load('given').a[0], 2])");
    assert.deepEqual(session.stored.toJSON(), { given: { a: [1] }, made: [1, 2] });
    session.stored.set("given", "other");
    session.stored.delete("made");
    const result = await session.exec("[load('given'), load('made') === undefined]");
    assert.deepEqual(result.value, ["other", true]);
  });
  assert.throws(
    () => new Session({ stored: { x: { a: Number.NaN } } }),
    (error) => error instanceof NotJsonError && /stored\["x"\]: at \$\.a/.test(error.message),
  );
});

test("stored values that are too large are refused here", () =>
  withSession({}, async (session) => {
    for (let n = 0; n < 5; n++) session.stored.set(String(n), "x".repeat(15 << 20));
    await assert.rejects(session.exec("1"), InvalidRequestError);
    session.stored.delete("0");
    assert.equal((await session.exec("load('1').length")).value, 15 << 20);
  }));

test("a program yields and goes on", () =>
  withSession({}, async (session) => {
    const first = await session.exec(`
      text('one');
      yield_control();
      await new Promise((resolve) => setTimeout(resolve, 50));
      text('two');
      'three'
    `);
    assert.deepEqual([first.status, first.text, first.value], ["running", "one", undefined]);
    const last = await session.wait(first);
    assert.deepEqual([last.status, last.text, last.value], ["completed", "two", "three"]);
    await assert.rejects(session.wait(first), CellNotFoundError);
  }));

test("a program that is waited for in turns", () =>
  withSession({}, async (session) => {
    const first = await session.exec(WAITS, { yieldAfterMs: 0 });
    assert.equal(first.status, "running");
    const again = await session.wait(first.cellId, { yieldAfterMs: 10 });
    assert.deepEqual([again.status, again.cellId], ["running", first.cellId]);
    const waiting = session.wait(first);
    await assert.rejects(session.wait(first), BusyError);
    const ended = await session.terminate(first);
    assert.equal(ended.status, "terminated");
    assert.equal((await waiting).status, "terminated");
    assert.throws(() => ended.check(), TerminatedError);
    await assert.rejects(session.terminate(first), CellNotFoundError);
  }));

test("what a program stored is there though nobody waits", () =>
  withSession({}, async (session) => {
    const first = await session.exec(
      "yield_control(); await new Promise((r) => setTimeout(r, 10)); store('late', 1)",
    );
    await eventually(() => session.stored.has("late"));
    assert.equal((await session.wait(first)).status, "completed");
  }));

test("programs of a session run at the same time, and too many are refused", () =>
  withSession({}, async (session) => {
    const values = Array.from({ length: 60 }, (_, n) => n);
    const results = await Promise.all(values.map((n) => session.exec(`${n}`)));
    assert.deepEqual(
      results.map((result) => result.value),
      values,
    );
    const waiting = values.concat(values).map(() => session.exec(WAITS, { yieldAfterMs: 0 }));
    const settled = await Promise.allSettled(waiting);
    const refused = settled.flatMap((each) => (each.status === "rejected" ? [each.reason] : []));
    assert.equal(refused.length, 120 - 64);
    assert.ok(refused.every((error) => error instanceof BusyError && error.code === "busy"));
  }));

test("notifications arrive in order", async () => {
  const received: string[] = [];
  const onNotify = async (text: string) => {
    await sleep(0);
    received.push(text);
    if (text === "5") throw new Error("nobody minds");
  };
  await withSession({ onNotify }, async (session) => {
    await session.exec("for (let i = 0; i < 50; i++) notify(i)");
  });
  assert.deepEqual(
    received,
    Array.from({ length: 50 }, (_, n) => String(n)),
  );
});

test("locale, zone and language", () =>
  withSession({}, async (session) => {
    const program = "[(1234.5).toLocaleString(), new Date(0).getHours()]";
    assert.deepEqual((await session.exec(program)).value, ["1,234.5", 0]);
    const settings = { locale: "de-DE", timeZone: "Europe/Berlin" };
    assert.deepEqual((await session.exec(program, settings)).value, ["1.234,5", 1]);
    const js = await session.exec("const x: number = 1", { language: "js" });
    assert.equal(js.status, "failed");
  }));

test("what cannot be a program is refused, and others go on", () =>
  withSession({}, async (session) => {
    const [called, release] = [new Signal(), new Signal()];
    const wait = async () => {
      called.fire();
      await release.fired;
      return 1;
    };
    const running = session.exec("await tools.wait()", { tools: { wait } });
    await inTime(called.fired);
    await assert.rejects(session.exec("'\ud800'"), InvalidRequestError);
    await assert.rejects(session.exec("x".repeat(5 << 20)), InvalidRequestError);
    await assert.rejects(session.exec("x".repeat(65 << 20)), InvalidRequestError);
    await assert.rejects(session.exec("1", { timeZone: "Nowhere" }), InvalidRequestError);
    await assert.rejects(session.exec("1", { locale: "no such" }), InvalidRequestError);
    release.fire();
    assert.equal((await running).value, 1);
  }));

test("a session that is closed runs nothing", () =>
  withSession({}, async (session) => {
    await session.exec("1");
    const running = await begun(session);
    await session.close();
    await session.close();
    assert.equal((await inTime(running.ended)).status, "terminated");
    await assert.rejects(session.exec("1"), SessionClosedError);
    await assert.rejects(session.wait("1"), SessionClosedError);
    await assert.rejects(session.terminate("1"), SessionClosedError);
  }));
