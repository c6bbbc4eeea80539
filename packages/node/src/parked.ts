// Programs that were parked, as they are seen from here.

import type { Call } from "./calls.js";
import type { Item } from "./result.js";

/** What is left of a program that was parked. */
export interface Parked {
  /** The program. */
  readonly cell: Uint8Array;
  /** Its nested calls that had not ended for it, which run on. */
  readonly calls: ReadonlyMap<string, Call>;
  /** Output that nobody had asked for. */
  readonly items: readonly Item[];
}

/** The name that is in the bytes of a parked program, if they are one. */
export function nameOf(parked: Uint8Array): string {
  return Buffer.from(parked.subarray(20, 36)).toString("hex");
}

/** One of which nothing is here. */
export function alone(cell: Uint8Array): Parked {
  return { cell, calls: new Map(), items: [] };
}

/** Cancels what runs on of one. */
export function cancelCalls(left: Parked): void {
  for (const call of left.calls.values()) call.cancel("the session was closed");
}
