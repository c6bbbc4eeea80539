// What the tests have in common.

import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Host, type Result, Session, type SessionOptions } from "@cellblock/client";

/** Milliseconds after which something that should have happened will not. */
export const PATIENCE_MS = 60_000;

/** A session on a host of its own; both are closed at the end of the block. */
export async function withSession(
  options: SessionOptions,
  use: (session: Session, host: Host) => Promise<void>,
): Promise<void> {
  const host = options.host ?? new Host();
  const session = new Session({ ...options, host });
  try {
    await use(session, host);
  } finally {
    await session.close();
    await host.close();
  }
}

/** A program that does not end by itself. */
export const WAITS = "await new Promise(() => setTimeout(() => {}, 1e9))";

/** A program that has begun to run, and will not end by itself; its end is in `ended`. */
export async function begun(session: Session): Promise<{ ended: Promise<Result> }> {
  const running = new Signal();
  const ended = session.exec(`await tools.begin(); ${WAITS}`, { tools: { begin: running.fire } });
  ended.catch(() => {});
  await inTime(running.fired);
  return { ended };
}

/** The processes that a process has started. */
export function children(pid = process.pid): Set<number> {
  const found = new Set<number>();
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      const list = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8");
      for (const child of list.split(" ").filter(Boolean)) found.add(Number(child));
    } catch {
      // A thread may have ended meanwhile.
    }
  }
  return found;
}

/** Those of the processes that this one has started which are not in `before`. */
export function started(before: Set<number>): number[] {
  return [...children()].filter((pid) => !before.has(pid));
}

/** Waits until something holds. */
export async function eventually(holds: () => boolean): Promise<void> {
  const until = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > until) throw new Error("it does not hold in time");
    await sleep(10);
  }
}

/** A promise, or an error when it takes too long. */
export async function inTime<T>(promise: Promise<T>): Promise<T> {
  let late: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    late = setTimeout(() => reject(new Error("it takes too long")), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(late);
  }
}

/** A promise that a test settles. */
export class Signal {
  readonly fired: Promise<void>;
  fire: () => void = () => {};

  constructor() {
    this.fired = new Promise((resolve) => {
      this.fire = resolve;
    });
  }
}
