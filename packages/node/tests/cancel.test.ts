// Cancellation, from here to the program and from the program to its tools.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { CallOptions, Session } from "@cellblock/client";
import { inTime, Signal, WAITS, withSession } from "./support.js";

/** A tool that waits until it is cancelled. */
class Waiter {
  readonly started = new Signal();
  readonly cancelled = new Signal();

  readonly wait = (_: unknown, { signal }: CallOptions) =>
    new Promise((_, reject) => {
      this.started.fire();
      signal.addEventListener("abort", () => {
        this.cancelled.fire();
        reject(signal.reason);
      });
    });
}

/** The host runs nothing of the session any more: there is room for as much as may be. */
async function runsNothing(session: Session): Promise<void> {
  for (let round = 0; round < 1_000; round++) {
    const starting = Array.from({ length: 64 }, () => session.exec(WAITS, { yieldAfterMs: 0 }));
    const settled = await Promise.allSettled(starting);
    const started = settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    await Promise.all(started.map((result) => session.terminate(result)));
    if (started.length === 64) return;
    await sleep(20);
  }
  assert.fail("a program still runs");
}

test("a signal terminates its program", () =>
  withSession({}, async (session) => {
    const waiter = new Waiter();
    const controller = new AbortController();
    const { signal } = controller;
    const running = session.exec("await tools.wait()", { tools: { wait: waiter.wait }, signal });
    await inTime(waiter.started.fired);
    controller.abort(new Error("enough"));
    await assert.rejects(inTime(running), /enough/);
    await inTime(waiter.cancelled.fired);
    await runsNothing(session);
  }));

test("a timeout terminates its program", () =>
  withSession({}, async (session) => {
    const running = session.exec("for (;;);", { signal: AbortSignal.timeout(100) });
    await assert.rejects(inTime(running), { name: "TimeoutError" });
    await runsNothing(session);
  }));

test("a signal that is aborted at once leaves nothing", () =>
  withSession({}, async (session) => {
    await assert.rejects(session.exec("for (;;);", { signal: AbortSignal.abort() }), {
      name: "AbortError",
    });
    for (let steps = 0; steps < 30; steps++) {
      const controller = new AbortController();
      const running = session.exec("for (;;);", { signal: controller.signal });
      running.catch(() => {});
      for (let step = 0; step < steps; step++) await null;
      controller.abort();
      await assert.rejects(inTime(running), { name: "AbortError" });
    }
    await runsNothing(session);
  }));

test("a program that is terminated cancels its tools", () =>
  withSession({}, async (session) => {
    const waiter = new Waiter();
    const tools = { wait: waiter.wait };
    const first = await session.exec("await tools.wait()", { tools, yieldAfterMs: 0 });
    await inTime(waiter.started.fired);
    assert.equal((await session.terminate(first)).status, "terminated");
    await inTime(waiter.cancelled.fired);
  }));

test("a program that ends cancels its tools", async () => {
  for (const [program, status] of [
    ["tools.wait(); await tools.ready(); 1", "completed"],
    ["tools.wait(); await tools.ready(); for (;;);", "limit"],
  ] as const) {
    const waiter = new Waiter();
    const tools = { wait: waiter.wait, ready: () => waiter.started.fired };
    await withSession({ tools, limits: { fuel: 1e9 } }, async (session) => {
      assert.equal((await session.exec(program)).status, status);
      await inTime(waiter.cancelled.fired);
    });
  }
});

test("a tool that does not listen holds nobody up", () =>
  withSession({}, async (session) => {
    const started = new Signal();
    const never = () => {
      started.fire();
      return new Promise(() => {});
    };
    const first = await session.exec("await tools.never()", { tools: { never }, yieldAfterMs: 0 });
    await inTime(started.fired);
    assert.equal((await inTime(session.terminate(first))).status, "terminated");
  }));

test("a wait that is given up loses nothing and leaves the program alone", () =>
  withSession({}, async (session) => {
    let result = await session.exec(
      `
        for (let i = 0; i < 20; i++) {
          await new Promise((resolve) => setTimeout(resolve, 5));
          text(i);
        }
        'done'
      `,
      { yieldAfterMs: 0 },
    );
    const texts = [result.text];
    for (let round = 0; round < 20 && result.status === "running"; round++) {
      const controller = new AbortController();
      const waiting = session.wait(result, { signal: controller.signal });
      setTimeout(() => controller.abort(), 2);
      try {
        result = await waiting;
        texts.push(result.text);
      } catch (error) {
        assert.equal((error as Error).name, "AbortError");
      }
    }
    while (result.status === "running") {
      result = await inTime(session.wait(result));
      texts.push(result.text);
    }
    const numbers = texts.join("\n").match(/\d+/g)?.map(Number);
    assert.deepEqual(
      numbers,
      Array.from({ length: 20 }, (_, n) => n),
    );
    assert.equal(result.value, "done");
  }));

test("closing a session cancels its tools", async () => {
  const waiter = new Waiter();
  let running: Promise<{ status: string }> | undefined;
  await withSession({ tools: { wait: waiter.wait } }, async (session) => {
    running = session.exec("await tools.wait()");
    await inTime(waiter.started.fired);
  });
  assert.equal((await running)?.status, "terminated");
  await inTime(waiter.cancelled.fired);
});
