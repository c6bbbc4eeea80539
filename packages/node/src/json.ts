// Values as JSON that loses nothing, or an error that names the part that would be lost.

import { types } from "node:util";
import { NotJsonError } from "./errors.js";

/** Levels that a value may nest: what hosts read, less what the message around it takes. */
export const MAX_DEPTH = 123;

/** A value that JSON has. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** Why a part of a value has no JSON. */
class NotPlain extends Error {
  path = "";
}

/**
 * JSON text of a value. Members that are `undefined` are left out, as `JSON.stringify` does,
 * and `toJSON` is honoured, so dates become strings. `undefined` itself is `null`.
 *
 * @throws {NotJsonError} A part has no JSON, or would be another value as JSON.
 */
export function encode(value: unknown, what = "the value"): string {
  try {
    return JSON.stringify(plain(value ?? null, "", 0, []));
  } catch (error) {
    if (!(error instanceof NotPlain)) throw error;
    const where = error.path ? `${what}: at $${error.path}: ` : `${what}: `;
    throw new NotJsonError(where + error.message);
  }
}

/** The value made of what JSON has. `around` are the containers that it is in. */
function plain(given: unknown, key: string, depth: number, around: unknown[]): unknown {
  const value = withJson(given, key);
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (Number.isFinite(value)) return value;
      throw new NotPlain(`JSON has no ${value}; use null or a string`);
    case "bigint":
      throw new NotPlain("JSON has no bigint; use a string");
    case "object":
      if (value === null) return null;
      break;
    default:
      throw new NotPlain(`JSON has no ${typeof value}`);
  }
  if (depth >= MAX_DEPTH) throw new NotPlain(`it nests more than ${MAX_DEPTH} levels deep`);
  if (around.includes(value)) throw new NotPlain("it contains itself");
  around.push(value);
  const result = Array.isArray(value)
    ? array(value, depth + 1, around)
    : object(value, depth + 1, around);
  around.pop();
  return result;
}

/** What `JSON.stringify` would look at instead: what `toJSON` returns, and unboxed primitives. */
function withJson(value: unknown, key: string): unknown {
  if (value instanceof Date && Number.isNaN(value.getTime())) {
    throw new NotPlain("JSON has no invalid date");
  }
  if (types.isBoxedPrimitive(value)) return value.valueOf();
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) {
    throw new NotPlain("JSON has no bytes; use text, for example base64");
  }
  if (typeof value === "object" && value !== null && "toJSON" in value) {
    if (typeof value.toJSON === "function") return value.toJSON(key);
  }
  return value;
}

function array(items: readonly unknown[], depth: number, around: unknown[]): unknown[] {
  return Array.from(items, (item, index) =>
    within(`[${index}]`, () => plain(item, String(index), depth, around)),
  );
}

function object(value: object, depth: number, around: unknown[]): unknown {
  if (
    types.isMap(value) ||
    types.isSet(value) ||
    types.isWeakMap(value) ||
    types.isWeakSet(value) ||
    types.isPromise(value) ||
    types.isRegExp(value) ||
    types.isNativeError(value)
  ) {
    throw new NotPlain(`JSON has no ${value.constructor.name}; use an object, a list or a string`);
  }
  const entries: [string, unknown][] = [];
  for (const key of Object.keys(value)) {
    const member = (value as Record<string, unknown>)[key];
    if (member === undefined) continue;
    const path = /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
    entries.push([key, within(path, () => plain(member, key, depth, around))]);
  }
  // Also a member `__proto__` is one of its own.
  return Object.fromEntries(entries);
}

function within<T>(path: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof NotPlain) error.path = path + error.path;
    throw error;
  }
}
