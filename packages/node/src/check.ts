// Checks of what a host sends: a value of the expected shape, or an error that says where it
// is not.

/** A value of a type, or a `TypeError`. */
export type Check<T> = (value: unknown, path: string) => T;

/** The type that a check makes sure of. */
export type Checked<C> = C extends Check<infer T> ? T : never;

function wrong(path: string, expected: string): never {
  throw new TypeError(`${path || "the message"} is not ${expected}`);
}

export const string: Check<string> = (value, path) =>
  typeof value === "string" ? value : wrong(path, "a string");

export const integer: Check<number> = (value, path) =>
  Number.isSafeInteger(value) ? (value as number) : wrong(path, "an integer");

export const boolean: Check<boolean> = (value, path) =>
  typeof value === "boolean" ? value : wrong(path, "a boolean");

export const anything: Check<unknown> = (value) => value;

export function literal<const T extends string>(...allowed: T[]): Check<T> {
  return (value, path) =>
    allowed.includes(value as T) ? (value as T) : wrong(path, allowed.join(" or "));
}

/** What may be missing or `null`. */
export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, path) => (value === undefined || value === null ? undefined : check(value, path));
}

export function list<T>(check: Check<T>): Check<T[]> {
  return (value, path) =>
    Array.isArray(value)
      ? value.map((item, index) => check(item, `${path}[${index}]`))
      : wrong(path, "a list");
}

function members(value: unknown, path: string): Record<string, unknown> {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : wrong(path, "an object");
}

/** An object of any keys. */
export function map<T>(check: Check<T>): Check<Map<string, T>> {
  return (value, path) =>
    new Map(
      Object.entries(members(value, path)).map(([key, member]) => [
        key,
        check(member, `${path}.${key.slice(0, 64)}`),
      ]),
    );
}

/** An object with these members; others are ignored. */
export function object<F extends Record<string, Check<unknown>>>(
  fields: F,
): Check<{ [K in keyof F]: Checked<F[K]> }> {
  return (value, path) => {
    const given = members(value, path);
    const made: Record<string, unknown> = {};
    for (const [name, check] of Object.entries(fields)) {
      const member = Object.hasOwn(given, name) ? given[name] : undefined;
      made[name] = check(member, path ? `${path}.${name}` : name);
    }
    return made as { [K in keyof F]: Checked<F[K]> };
  };
}

/** One of several objects, which a member tells apart. */
export function tagged<K extends Record<string, Check<unknown>>>(
  tag: string,
  kinds: K,
): Check<Checked<K[keyof K]>> {
  return (value, path) => {
    const given = members(value, path);
    const kind = Object.hasOwn(given, tag) ? given[tag] : undefined;
    if (typeof kind !== "string" || !Object.hasOwn(kinds, kind)) {
      return wrong(path ? `${path}.${tag}` : tag, Object.keys(kinds).join(" or "));
    }
    return (kinds[kind] as Check<Checked<K[keyof K]>>)(value, path);
  };
}
