// Values of tools: what reaches a program is what was returned, or an error says why not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { withSession } from "./support.js";

const MAX_DEPTH = 123;

function nested(levels: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < levels; level++) value = [value];
  return value;
}

function circle(): unknown {
  const value: Record<string, unknown> = {};
  value.self = [value];
  return value;
}

class Point {
  constructor(
    readonly x: number,
    readonly y: number,
  ) {}
  get sum() {
    return this.x + this.y;
  }
}

const shared = [1];

test("a result arrives", () =>
  withSession({}, async (session) => {
    const cases: [unknown, unknown][] = [
      [null, null],
      [undefined, null],
      [true, true],
      [-0.5, -0.5],
      [1e300, 1e300],
      [2 ** 60, 2 ** 60],
      ["\0\u2028\u{1F600}", "\0\u2028\u{1F600}"],
      [
        [1, [2, []]],
        [1, [2, []]],
      ],
      [{ a: undefined, b: { "": 1 } }, { b: { "": 1 } }],
      [
        JSON.parse('{"__proto__":1,"constructor":2}'),
        JSON.parse('{"__proto__":1,"constructor":2}'),
      ],
      [new Date(0), "1970-01-01T00:00:00.000Z"],
      [new URL("https://example.org/a"), "https://example.org/a"],
      [new Point(1, 2), { x: 1, y: 2 }],
      [Object.create(null, { a: { value: 1, enumerable: true } }), { a: 1 }],
      [Object(5), 5],
      [
        [shared, shared],
        [[1], [1]],
      ],
      [nested(MAX_DEPTH), nested(MAX_DEPTH)],
    ];
    for (const [value, arrives] of cases) {
      let cameBack: unknown;
      const tools = {
        given: () => value,
        back: (input: unknown) => {
          cameBack = input;
        },
      };
      const result = await session.exec("await tools.back(await tools.given())", { tools });
      assert.equal(result.error, undefined);
      assert.deepEqual(cameBack, arrives);
    }
    // Calls cannot carry half of a surrogate pair, but a program can have it.
    const half = await session.exec("(await tools.half()).charCodeAt(5)", {
      tools: { half: () => "half \ud83d of a pair" },
    });
    assert.equal(half.value, 0xd83d);
  }));

test("a result that would be another rejects its call", () =>
  withSession({}, async (session) => {
    const cases: [unknown, RegExp][] = [
      [Number.NaN, /JSON has no NaN/],
      [{ a: [1, -Infinity] }, /at \$\.a\[1\]: JSON has no -Infinity/],
      [{ "a b": 1n }, /at \$\["a b"\]: JSON has no bigint/],
      [Buffer.from("x"), /JSON has no bytes/],
      [[new Uint8Array(1)], /at \$\[0\]: JSON has no bytes/],
      [new ArrayBuffer(1), /JSON has no bytes/],
      [new Map([[1, 2]]), /JSON has no Map/],
      [new Set([1]), /JSON has no Set/],
      [[undefined], /at \$\[0\]: JSON has no undefined/],
      [() => 1, /JSON has no function/],
      [{ f() {} }, /at \$\.f: JSON has no function/],
      [Symbol("x"), /JSON has no symbol/],
      [[Promise.resolve(1)], /JSON has no Promise/],
      [/x/, /JSON has no RegExp/],
      [new Error("x"), /JSON has no Error/],
      [new Date(Number.NaN), /invalid date/],
      [nested(MAX_DEPTH + 1), /nests more than/],
      [nested(100_000), /nests more than/],
      [circle(), /at \$\.self\[0\]: it contains itself/],
    ];
    for (const [value, why] of cases) {
      const program =
        "try { await tools.given() } catch (e) { text(e.message) } await tools.fine()";
      const tools = { given: () => value, fine: () => "fine" };
      const result = await session.exec(program, { tools });
      assert.equal(result.value, "fine", String(why));
      assert.match(result.text, why);
      assert.match(result.text, /^the result of given: /);
    }
  }));

test("a result that is too long rejects its call", () =>
  withSession({}, async (session) => {
    const tools = { long: () => "x".repeat(33 << 20), longer: () => "x".repeat(65 << 20) };
    const program = `
      for (const tool of ['long', 'longer']) {
        try { await tools[tool]() } catch (e) { text(e.message) }
      }
      1
    `;
    const result = await session.exec(program, { tools });
    assert.equal(result.value, 1);
    assert.deepEqual(
      result.text.split("\n").map((line) => line.includes("too large")),
      [true, true],
    );
  }));
