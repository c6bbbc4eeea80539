// Sandboxes of Node, each with the same four tasks: `contestants.mjs NAME TASK`.
//
// Prints one JSON value. `compare.py` calls it.

import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const [STARTS, CALLS, PARKED] = [200, 2_000, 100];
const MEMORY = 64 << 20;
// Running; some count waiting for tools, too.
const TIME_MS = process.argv[3] === "hostile" ? 1_000 : 60_000;

/** Memory of this process and all that it has started. */
function residentKib() {
  const pids = [process.pid];
  let total = 0;
  for (const pid of pids) {
    try {
      for (const task of readdirSync(`/proc/${pid}/task`)) {
        const children = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8");
        pids.push(...children.split(" ").filter(Boolean).map(Number));
      }
      const smaps = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
      total += Number(smaps.match(/^Pss:\s+(\d+)/m)[1]);
    } catch {
      // It has ended.
    }
  }
  return total;
}

const never = () => new Promise(() => {});

/** This project's client. */
async function cellblock() {
  const { Session } = await import("@cellblock/client");
  const tools = { echo: ({ n }) => n, wait: never };
  const limits = { runningTimeMs: TIME_MS, memoryBytes: MEMORY };
  const sessions = Array.from({ length: 4 }, () => new Session({ tools, limits }));
  return {
    one: "1 + 1",
    call: `for (let i = 0; i < ${CALLS}; i++) await tools.echo({ n: i }); 1`,
    run: async (program) => (await sessions[0].exec(program)).check().value,
    parked: (count) =>
      Promise.all(
        Array.from({ length: count }, (_, n) =>
          sessions[n % 4].exec("await tools.wait(); 1", { yieldAfterMs: 0 }),
        ),
      ),
  };
}

/** quickjs-wasi: QuickJS in WebAssembly, in this process. */
async function quickjsWasi() {
  const { QuickJS } = await import("quickjs-wasi");
  const bytes = readFileSync(new URL(import.meta.resolve("quickjs-wasi/quickjs.wasm")));
  const wasm = await WebAssembly.compile(bytes);
  const make = async () => {
    const until = Date.now() + TIME_MS;
    const vm = await QuickJS.create({
      wasm,
      memoryLimit: MEMORY,
      interruptHandler: () => Date.now() > until,
    });
    const host = (name, answer) => {
      const handle = vm.newFunction(name, (given) => {
        const deferred = vm.newPromise();
        const value = given ? vm.dump(given) : undefined;
        answer(value).then((result) => {
          deferred.resolve(vm.hostToHandle(result));
          vm.executePendingJobs();
        });
        return deferred.handle;
      });
      vm.setProp(vm.global, name, handle);
    };
    host("echo", async (n) => n);
    host("wait", never);
    return vm;
  };
  const begin = (vm, program) => {
    // A program is an async function whose last line returns.
    const promise = vm.evalCode(program);
    vm.executePendingJobs();
    return promise;
  };
  const value = async (vm, promise) => {
    const settled = await vm.resolvePromise(promise);
    if (settled.error) throw new Error("it failed");
    return vm.dump(settled.value);
  };
  return {
    one: "(async () => 1 + 1)()",
    call: `(async () => { for (let i = 0; i < ${CALLS}; i++) await echo(i); return 1 })()`,
    run: async (program) => {
      const vm = await make();
      try {
        return await value(vm, begin(vm, program));
      } finally {
        try {
          vm.dispose();
        } catch {
          // It is broken.
        }
      }
    },
    parked: async (count) => {
      const kept = [];
      for (let n = 0; n < count; n++) {
        const vm = await make();
        kept.push([vm, begin(vm, "(async () => { await wait(); return 1 })()")]);
      }
      return kept;
    },
  };
}

/** isolated-vm: an isolate of V8, in this process. */
async function isolatedVm() {
  const { default: ivm } = await import("isolated-vm");
  const make = async () => {
    const isolate = new ivm.Isolate({ memoryLimit: MEMORY >> 20 });
    const context = await isolate.createContext();
    const host = async (name, answer) => {
      const source = `globalThis.${name} = (n) => $0.apply(undefined, [n], { result: { promise: true } })`;
      await context.evalClosure(source, [answer], { arguments: { reference: true } });
    };
    await host("echo", async (n) => n);
    await host("wait", never);
    return { isolate, context };
  };
  const begin = (context, program) =>
    context.eval(program, { timeout: TIME_MS, promise: true, copy: true });
  return {
    one: "(async () => 1 + 1)()",
    call: `(async () => { for (let i = 0; i < ${CALLS}; i++) await echo(i); return 1 })()`,
    run: async (program) => {
      const { isolate, context } = await make();
      try {
        return await begin(context, program);
      } finally {
        if (!isolate.isDisposed) isolate.dispose();
      }
    },
    parked: async (count) => {
      const kept = [];
      for (let n = 0; n < count; n++) {
        const made = await make();
        kept.push([made, begin(made.context, "(async () => { await wait(); return 1 })()")]);
      }
      await sleep(1_000);
      return kept;
    },
  };
}

const SANDBOXES = { cellblock, "quickjs-wasi": quickjsWasi, "isolated-vm": isolatedVm };

const TASKS = {
  /** Milliseconds of a new sandbox with `1 + 1` in it, the middle of many. */
  async start(sandbox) {
    const times = [];
    await sandbox.run(sandbox.one);
    for (let n = 0; n < STARTS; n++) {
      const began = performance.now();
      if ((await sandbox.run(sandbox.one)) !== 2) throw new Error("1 + 1 is not 2");
      times.push(performance.now() - began);
    }
    return times.sort((a, b) => a - b)[STARTS / 2];
  },

  /** Milliseconds of an awaited call of a tool. */
  async call(sandbox) {
    const began = performance.now();
    await sandbox.run(sandbox.call);
    return (performance.now() - began) / CALLS;
  },

  /** KiB of a program that waits for a tool. */
  async park(sandbox) {
    await sandbox.run(sandbox.one);
    globalThis.gc?.();
    const before = residentKib();
    globalThis.kept = await sandbox.parked(PARKED);
    globalThis.gc?.();
    return (residentKib() - before) / PARKED;
  },

  /** Whether a program that is given on standard input is contained. */
  async hostile(sandbox) {
    const program = readFileSync(0, "utf8");
    const late = Symbol("late");
    const ran = sandbox.run(program).catch(() => undefined);
    const answer = await Promise.race([ran, sleep(10_000, late)]);
    const alive = (await Promise.race([sandbox.run(sandbox.one), sleep(10_000, late)])) === 2;
    return answer !== late && alive;
  },
};

const [name, task] = process.argv.slice(2);
const sandbox = await SANDBOXES[name]();
const answer = JSON.stringify(await TASKS[task](sandbox));
process.stdout.write(`${answer}\n`, () => process.exit(0));
