// Limits of programs.

/**
 * What a program may use. What is left out has its default, in brackets.
 *
 * With a host elsewhere a limit counts where it is narrower than the host's.
 */
export interface Limits {
  /** Fuel, about one unit for each WebAssembly instruction (10 ** 12). */
  readonly fuel?: number;
  /** Fuel from one wait of the program to the next (10 ** 12). */
  readonly stepFuel?: number;
  /** Milliseconds of running; waiting for tools and timers is free (60,000). */
  readonly runningTimeMs?: number;
  /** Milliseconds from start to end, waiting included (a day). */
  readonly totalTimeMs?: number;
  /** Bytes of memory for JavaScript, from 1 MiB to 1 GiB (128 MiB). */
  readonly memoryBytes?: number;
  /** Bytes of stack for JavaScript, at most 8 MiB (8 MiB). */
  readonly stackBytes?: number;
  /**
   * Bytes that the host may hold for the program outside its sandbox (a quarter of
   * `memoryBytes`, at least 8 MiB).
   */
  readonly hostBytes?: number;
  /** Bytes of output and notifications (32 MiB). */
  readonly outputBytes?: number;
  /** Content items and notifications (20,000). */
  readonly outputItems?: number;
  /** Nested calls in all (100,000). */
  readonly calls?: number;
  /** Nested calls at one time (1,024). */
  readonly callsInFlight?: number;
  /** Bytes of one nested call's input (32 MiB). */
  readonly inputBytes?: number;
  /** Bytes of one nested call's result (32 MiB). */
  readonly resultBytes?: number;
  /** Timers pending at one time (10,000). */
  readonly timers?: number;
  /** Bytes that the program may store, keys included (16 MiB). */
  readonly storedBytes?: number;
  /** Keys that the program may store (10,000). */
  readonly storedKeys?: number;
  /** Bytes of the program (4 MiB). */
  readonly sourceBytes?: number;
  /** Bytes of a program that is read as TypeScript (256 KiB). */
  readonly typescriptBytes?: number;
}

const NAMES: Record<keyof Limits, string> = {
  fuel: "fuel",
  stepFuel: "step_fuel",
  runningTimeMs: "running_time",
  totalTimeMs: "total_time",
  memoryBytes: "memory_bytes",
  stackBytes: "stack_bytes",
  hostBytes: "host_bytes",
  outputBytes: "output_bytes",
  outputItems: "output_items",
  calls: "calls",
  callsInFlight: "calls_in_flight",
  inputBytes: "input_bytes",
  resultBytes: "result_bytes",
  timers: "timers",
  storedBytes: "stored_bytes",
  storedKeys: "stored_keys",
  sourceBytes: "source_bytes",
  typescriptBytes: "typescript_bytes",
};

/**
 * Limits as hosts know them.
 *
 * @throws {RangeError} One is not known, or is not a natural number.
 */
export function onTheWire(limits: Limits): Record<string, number | string> {
  const wire: Record<string, number | string> = {};
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(NAMES, name)) throw new RangeError(`there is no limit ${name}`);
    const number = name.endsWith("Ms") ? Math.round(value as number) : value;
    if (!Number.isSafeInteger(number) || (number as number) < 0) {
      throw new RangeError(`the limit ${name} is not a natural number: ${String(value)}`);
    }
    wire[NAMES[name as keyof Limits]] = name.endsWith("Ms") ? `${number}ms` : (number as number);
  }
  return wire;
}
