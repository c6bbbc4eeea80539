// The host's life: started once, restarted when it fails, ended with this process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import {
  CellNotFoundError,
  Host,
  HostLostError,
  HostUnavailableError,
  Session,
} from "@cellblock/client";
import {
  begun,
  children,
  eventually,
  inTime,
  Signal,
  started,
  WAITS,
  withSession,
} from "./support.js";

test("sessions share a process, which has no secrets and no terminal", async () => {
  process.env.SECRET_KEY = "secret";
  const before = children();
  await withSession({}, async (session, host) => {
    const other = new Session({ host });
    await Promise.all([session.exec("1"), other.exec("1")]);
    const processes = started(before);
    assert.equal(processes.length, 1);
    const path = `/proc/${processes[0]}`;
    assert.equal(readFileSync(`${path}/comm`, "utf8").trim(), "cellblock");
    assert.doesNotMatch(readFileSync(`${path}/environ`, "utf8"), /SECRET/);
    const group = (pid: string) => readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[4];
    assert.notEqual(group(String(processes[0])), group("self"));
    await other.close();
  });
  await eventually(() => started(before).length === 0);
});

test("what was in flight fails and the next program runs", async () => {
  const before = children();
  const [called, cancelled] = [new Signal(), new Signal()];
  let calls = 0;
  const tools = {
    forever: (_: unknown, { signal }: { signal: AbortSignal }) => {
      calls += 1;
      if (calls === 20) called.fire();
      signal.addEventListener("abort", () => cancelled.fire());
      return new Promise(() => {});
    },
  };
  await withSession({ tools, stored: { kept: 1 } }, async (session) => {
    const yielded = await session.exec(WAITS, { yieldAfterMs: 0 });
    const unwatched = await session.exec(WAITS, { yieldAfterMs: 0 });
    const waiting = session.wait(yielded);
    let running = Array.from({ length: 20 }, () => session.exec("await tools.forever()"));
    await inTime(called.fired);
    for (let generation = 0; generation < 3; generation++) {
      const [pid = 0] = started(before);
      process.kill(pid, "SIGKILL");
      for (const each of running) {
        await assert.rejects(
          inTime(each),
          (error) => error instanceof HostLostError && /signal SIGKILL/.test(error.message),
        );
      }
      if (generation === 0) {
        await assert.rejects(waiting, HostLostError);
        await inTime(cancelled.fired);
        // Its numbers start anew with the next host, but a cell's name does not.
        await assert.rejects(session.wait(unwatched), (error) =>
          [HostLostError, CellNotFoundError].some((kind) => error instanceof kind),
        );
      }
      const result = await session.exec("store('made', 1); load('kept')");
      assert.equal(result.value, 1);
      assert.match(result.cellId, /^g/);
      running = [(await begun(session)).ended];
    }
    assert.equal(session.stored.get("made"), 1);
  });
});

test("a host that is closed starts again", () =>
  withSession({}, async (session, host) => {
    assert.equal((await session.exec("1")).value, 1);
    await host.close();
    assert.equal((await session.exec("2")).value, 2);
  }));

test("hosts that cannot be started", async () => {
  for (const [command, why] of [
    [["/nowhere/cellblock"], /ENOENT/],
    [["python3", "-c", "import sys; sys.exit('it is broken')"], /it is broken/],
    [["python3", "-c", "pass"], /exit code 0/],
  ] as const) {
    await withSession({ host: new Host({ command }) }, async (session) => {
      for (let round = 0; round < 2; round++) {
        await assert.rejects(
          inTime(session.exec("1")),
          (error) =>
            error instanceof HostUnavailableError &&
            error.code === "host_unavailable" &&
            why.test(error.message),
        );
      }
    });
  }
});

test("hosts that cannot be", () => {
  for (const options of [
    { url: "http://example.org" },
    { url: "unix:///x", command: ["x"] },
    { url: "unix:///x", parkKey: "key" },
    { command: ["x"], parkKey: "key" },
    { url: "/tmp/x" },
    { url: "ws://example.org", token: "secret" },
    { url: "unix:///x", token: "secret" },
    { token: "secret" },
    { url: "ws://example.org", tls: {} },
  ]) {
    assert.throws(() => new Host(options), TypeError);
  }
});

/** Runs a module; returns what it printed. */
async function run(source: string): Promise<{ output: string; code: number | null }> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  const code = await inTime(
    new Promise<number | null>((resolve) => {
      child.on("close", resolve);
    }),
  );
  return { output, code };
}

for (const ending of ["", "process.exit(0)", "process.kill(process.pid, 'SIGKILL')", "throw 1"]) {
  test(`the host ends with the process: ${ending || "by itself"}`, async () => {
    const { output } = await run(`
      import { readdirSync, readFileSync } from "node:fs";
      import { Session } from "@cellblock/client";
      const session = new Session();
      console.log((await session.exec("1 + 1")).value);
      // One that runs on and is not waited for keeps nobody.
      await session.exec(${JSON.stringify(WAITS)}, { yieldAfterMs: 0 });
      const tasks = readdirSync("/proc/self/task");
      const children = tasks.map((task) => readFileSync(\`/proc/self/task/\${task}/children\`, "utf8"));
      console.log(children.join(" "));
      process.on("uncaughtException", () => process.exit(1));
      ${ending}
    `);
    const [value, pids = ""] = output.split("\n");
    assert.equal(value, "2");
    const found = pids.split(" ").filter(Boolean);
    assert.ok(found.length > 0);
    await eventually(() => !found.some((pid) => existsSync(`/proc/${pid}`)));
  });
}

test("a program that is waited for keeps the process", async () => {
  const { output } = await run(`
    import { Session } from "@cellblock/client";
    const session = new Session({ tools: { later: () => new Promise((r) => setTimeout(() => r(7), 200)) } });
    session.exec("await new Promise((r) => setTimeout(r, 200)); await tools.later()")
      .then((result) => console.log(result.value));
  `);
  assert.equal(output, "7\n");
});

/** Starts worker threads that run a program and then something else; returns their values. */
async function inWorkers(then: string): Promise<{ workers: Worker[]; values: unknown[] }> {
  const source = `
    const { parentPort } = require("node:worker_threads");
    import("@cellblock/client").then(async ({ Session }) => {
      const session = new Session({ tools: { add: ({ a, b }) => a + b } });
      const result = await session.exec("await tools.add({ a: 1, b: 2 })");
      parentPort.postMessage(result.value);
      ${then}
    });
  `;
  const workers = Array.from({ length: 3 }, () => new Worker(source, { eval: true }));
  const values = workers.map(
    (worker) =>
      new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      }),
  );
  return { workers, values: await inTime(Promise.all(values)) };
}

test("worker threads have hosts of their own, which end with them", async () => {
  const before = children();
  const { values } = await inWorkers("");
  assert.deepEqual(values, [3, 3, 3]);
  await eventually(() => started(before).length === 0);
});

test("the hosts of worker threads that are terminated end, too", async () => {
  const before = children();
  const { workers } = await inWorkers(`await session.exec(${JSON.stringify(WAITS)});`);
  assert.equal(started(before).length, 3);
  await Promise.all(workers.map((worker) => worker.terminate()));
  // Node does not take note of their end, so an entry of each stays until this process ends.
  const isGone = (pid: number) => {
    try {
      return / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
    } catch {
      return true;
    }
  };
  await eventually(() => started(before).every(isGone));
});
