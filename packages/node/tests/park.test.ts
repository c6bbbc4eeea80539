// Programs that are parked as bytes, and woken.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BusyError,
  type CallOptions,
  CellNotFoundError,
  Host,
  HostLostError,
  ParkError,
  type Result,
  type Session,
} from "@cellblock/client";
import { begun, children, inTime, Signal, started, WAITS, withSession } from "./support.js";

const ASKS =
  "let n = 1; text('asked'); n += await tools.ask({ what: 'how many?' }); text('told'); n";

/** A tool that waits for an answer. */
class Asker {
  calls = 0;
  readonly called = new Signal();
  readonly answered = new Signal();
  readonly cancelled = new Signal();

  readonly ask = async (_: unknown, { signal }: CallOptions) => {
    this.calls += 1;
    this.called.fire();
    signal.addEventListener("abort", () => this.cancelled.fire());
    await this.answered.fired;
    return 41;
  };
}

/** A program that waits for an answer. */
async function asking(session: Session, { ask, called }: Asker): Promise<Result> {
  const first = await session.exec(ASKS, { tools: { ask }, yieldAfterMs: 0 });
  await inTime(called.fired);
  return first;
}

test("a program goes on in another process", async () => {
  const folder = mkdtempSync(join(tmpdir(), "cellblock-"));
  const parkKey = join(folder, "park.key");
  const asker = new Asker();
  const { ask } = asker;
  let first: Result | undefined;
  let parked = new Uint8Array();
  await withSession({ host: new Host({ parkKey }) }, async (session) => {
    first = await asking(session, asker);
    parked = new Uint8Array(await session.park(first));
    await assert.rejects(session.wait(first), CellNotFoundError);
  });
  // What it had called ends with its session.
  await inTime(asker.cancelled.fired);
  await withSession({ host: new Host({ parkKey }), tools: { ask } }, async (session) => {
    const resume = { ask: ({ what }: { what: string }) => what.length };
    const result = await session.wake(parked, { resume });
    assert.deepEqual([result.status, result.value], ["completed", 10]);
    assert.deepEqual(`${first?.text}\n${result.text}`.trim().split("\n"), ["asked", "told"]);
    // Nobody knows whether the call has had its effect.
    const again = await session.wake(parked, { isFork: true });
    assert.match(again.error ?? "", /ask: the program was parked while this call ran/);
  });
  assert.equal(asker.calls, 1);
  await withSession({}, async (session) => {
    await assert.rejects(
      session.wake(parked),
      (error) =>
        error instanceof ParkError && error.code === "park" && /another key/.test(error.message),
    );
  });
  rmSync(folder, { recursive: true });
});

for (const answeredFirst of [true, false]) {
  test(`calls run on in their session: ${answeredFirst}`, () =>
    withSession({}, async (session) => {
      const asker = new Asker();
      const { ask } = asker;
      const parked = await session.park(await asking(session, asker));
      if (answeredFirst) {
        asker.answered.fire();
        await sleep(0);
      }
      const waking = session.wake(parked, { tools: { ask } });
      asker.answered.fire();
      const result = await inTime(waking);
      assert.deepEqual([result.value, asker.calls], [42, 1]);
    }));
}

test("no call is lost or made twice", () =>
  withSession({}, async (session) => {
    const calls: number[] = [];
    const ready = new Signal();
    const add = async ({ n }: { n: number }) => {
      calls.push(n);
      await ready.fired;
      for (let turn = 0; turn < n % 7; turn++) await new Promise((done) => setImmediate(done));
      return n;
    };
    const program = "let sum = 0; for (let n = 0; n < 60; n++) sum += await tools.add({ n }); sum";
    let result = await session.exec(program, { tools: { add }, yieldAfterMs: 0 });
    let parks = 0;
    ready.fire();
    while (result.status === "running") {
      let parked: Uint8Array;
      try {
        parked = await inTime(session.park(result));
      } catch (error) {
        // It has ended.
        assert.ok(error instanceof ParkError);
        result = await session.wait(result);
        continue;
      }
      parks += 1;
      result = await session.wake(parked, { tools: { add }, yieldAfterMs: 2 });
    }
    const numbers = Array.from({ length: 60 }, (_, n) => n);
    assert.deepEqual(
      [result.error, result.value],
      [undefined, numbers.reduce((sum, n) => sum + n)],
    );
    assert.deepEqual(calls, numbers);
    assert.ok(parks > 0);
  }));

test("a park that is given up leaves the program alone", () =>
  withSession({}, async (session) => {
    const asker = new Asker();
    const { ask } = asker;
    let first = await asking(session, asker);
    for (let steps = 0; steps < 60; steps++) {
      const controller = new AbortController();
      const parking = session.park(first, { signal: controller.signal });
      parking.catch(() => {});
      for (let step = 0; step < steps % 30; step++) await null;
      if (steps >= 30) await sleep(steps - 30);
      controller.abort();
      try {
        const parked = await inTime(parking);
        first = await session.wake(parked, { tools: { ask }, yieldAfterMs: 0 });
      } catch (error) {
        assert.equal((error as Error).name, "AbortError");
      }
    }
    asker.answered.fire();
    let result = await inTime(session.wait(first));
    while (result.status === "running") result = await inTime(session.wait(result));
    assert.deepEqual([result.error, result.value, asker.calls], [undefined, 42, 1]);
  }));

test("a program that never waits is not parked", () =>
  withSession({}, async (session) => {
    const busy = await session.exec("for (;;);", { yieldAfterMs: 0 });
    const parking = session.park(busy);
    parking.catch(() => {});
    await assert.rejects(session.wait(busy), BusyError);
    await assert.rejects(session.park(busy), BusyError);
    assert.equal((await session.terminate(busy)).status, "terminated");
    await assert.rejects(inTime(parking), ParkError);
  }));

test("what cannot be parked or woken", () =>
  withSession({}, async (session) => {
    await assert.rejects(session.park("7"), CellNotFoundError);
    const parked = await session.park(await session.exec(WAITS, { yieldAfterMs: 0 }));
    const changed = Uint8Array.from(parked);
    changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
    for (const [wrong, why] of [
      [new Uint8Array(), /not a parked cell/],
      [new TextEncoder().encode("something else"), /not a parked cell/],
      [parked.subarray(0, 40), /damaged/],
      [changed, /damaged/],
    ] as const) {
      await assert.rejects(
        session.wake(wrong),
        (error) => error instanceof ParkError && why.test(error.message),
        String(why),
      );
    }
    const woken = await session.wake(parked, { yieldAfterMs: 0 });
    assert.equal((await session.terminate(woken)).status, "terminated");
  }));

test("a host that fails while it parks", async () => {
  const before = children();
  await withSession({}, async (session) => {
    const busy = await session.exec("for (;;);", { yieldAfterMs: 0 });
    const parking = session.park(busy);
    parking.catch(() => {});
    await begun(session);
    for (const pid of started(before)) process.kill(pid, "SIGKILL");
    await assert.rejects(inTime(parking), HostLostError);
  });
});
