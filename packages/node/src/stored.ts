// Values that programs leave for later programs of their session.

import { InvalidRequestError } from "./errors.js";
import { encode, type Json } from "./json.js";
import { MAX_STORED_BYTES } from "./messages.js";

/**
 * The stored values of a session, as JSON values by key.
 *
 * They live in this process. A program sees them as they are when it starts, and what it stores
 * is here once it has completed. Reading a key makes a new copy of its value.
 */
export class StoredValues implements Iterable<[string, Json]> {
  readonly #texts = new Map<string, string>();
  #bytes = 0;

  /** @internal */
  constructor(values: Readonly<Record<string, unknown>> = {}) {
    for (const [key, value] of Object.entries(values)) this.set(key, value);
  }

  /** How many there are. */
  get size(): number {
    return this.#texts.size;
  }

  has(key: string): boolean {
    return this.#texts.has(key);
  }

  get(key: string): Json | undefined {
    const text = this.#texts.get(key);
    return text === undefined ? undefined : (JSON.parse(text) as Json);
  }

  /**
   * @throws {NotJsonError} The value has no JSON.
   * @throws {InvalidRequestError} The key is not valid Unicode.
   */
  set(key: string, value: unknown): this {
    if (!key.isWellFormed()) throw new InvalidRequestError("a key that is not valid Unicode");
    this.#put(key, encode(value, `stored[${JSON.stringify(key)}]`));
    return this;
  }

  delete(key: string): boolean {
    const text = this.#texts.get(key);
    if (text !== undefined) this.#bytes -= size(key, text);
    return this.#texts.delete(key);
  }

  keys(): IterableIterator<string> {
    return this.#texts.keys();
  }

  *[Symbol.iterator](): Iterator<[string, Json]> {
    for (const [key, text] of this.#texts) yield [key, JSON.parse(text) as Json];
  }

  /** All of them as an object. */
  toJSON(): Record<string, Json> {
    return Object.fromEntries(this);
  }

  /** @internal A value as JSON text. */
  text(key: string): string | undefined {
    return this.#texts.get(key);
  }

  /** @internal The values as they are now, as JSON texts. */
  texts(): Map<string, string> {
    if (this.#bytes > MAX_STORED_BYTES) {
      throw new InvalidRequestError(
        `the stored values are ${this.#bytes} bytes, and at most ${MAX_STORED_BYTES} may be; ` +
          "delete some from `stored`",
      );
    }
    return new Map(this.#texts);
  }

  /** @internal Takes over what a program has stored. */
  merge(written: ReadonlyMap<string, string>): void {
    for (const text of written.values()) JSON.parse(text);
    for (const [key, text] of written) this.#put(key, text);
  }

  #put(key: string, text: string): void {
    const before = this.#texts.get(key);
    this.#bytes += size(key, text) - (before === undefined ? 0 : size(key, before));
    this.#texts.set(key, text);
  }
}

function size(key: string, text: string): number {
  return Buffer.byteLength(key) + Buffer.byteLength(text);
}

/** What `now` differs in from `before`, for the host; `undefined` is not known. */
export function delta(
  before: ReadonlyMap<string, string> | undefined,
  now: ReadonlyMap<string, string>,
): unknown {
  if (!before) return { replace: true, set: Object.fromEntries(now) };
  const set = [...now].filter(([key, text]) => before.get(key) !== text);
  const removed = [...before.keys()].filter((key) => !now.has(key));
  return {
    ...(set.length > 0 ? { set: Object.fromEntries(set) } : {}),
    ...(removed.length > 0 ? { removed } : {}),
  };
}
