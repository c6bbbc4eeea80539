// Tools.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Session, ToolDefinitionError, type Tools, tool } from "@cellblock/client";
import { z } from "zod";
import { Signal, withSession } from "./support.js";

const forecast = tool({
  description: "The temperatures of the next days.",
  inputSchema: z.object({
    place: z.object({ city: z.string(), country: z.string().default("CH") }),
    days: z.number().int().min(1).max(7).default(1).describe("How many days."),
    unit: z.enum(["C", "F"]).optional(),
  }),
  outputSchema: z.array(z.number()),
  execute: ({ place, days }) => Array.from({ length: days }, () => place.city.length),
});

test("arguments are validated and made into what the tool takes", () =>
  withSession({ tools: { forecast } }, async (session) => {
    const result = await session.exec("await tools.forecast({ place: { city: 'Bern' }, days: 2 })");
    assert.equal(result.error, undefined);
    assert.deepEqual(result.value, [4, 4]);
    const cases: [string, RegExp][] = [
      ["", /^forecast: wrong arguments: place: Invalid input: expected object/],
      ["{ place: 'Bern' }", /place: Invalid input: expected object, received string/],
      ["{ place: {} }", /place\.city: Invalid input: expected string/],
      ["{ place: { city: 'Bern' }, days: 9 }", /days: Too big/],
      ["{ place: { city: 'Bern' }, unit: 'K' }", /unit: Invalid option/],
      ["[1]", /the input: Invalid input/],
    ];
    for (const [given, why] of cases) {
      const program = `try { await tools.forecast(${given}) } catch (e) { e.message }`;
      assert.match(String((await session.exec(program)).value), why);
    }
  }));

test("names and descriptions reach programs", () =>
  withSession({}, async (session) => {
    const tools: Tools = {
      "odd name-1": { description: "Described.", execute: (input: unknown) => [input] },
    };
    const program = "[await tools.odd_name_1('x'), await tools.odd_name_1(), ALL_TOOLS]";
    const listed = [{ name: "odd_name_1", description: "Described." }];
    const result = await session.exec(program, { tools });
    assert.deepEqual(result.value, [["x"], [null], listed]);
  }));

test("a tool with a JSON Schema gets the input as it is", () =>
  withSession({}, async (session) => {
    const inputSchema = { type: "object", properties: { a: { type: "number" } } };
    const tools: Tools = { add: { inputSchema, execute: ({ a }: { a: unknown }) => a } };
    assert.equal((await session.exec("await tools.add({ a: 'x' })", { tools })).value, "x");
  }));

test("what cannot be a tool", () => {
  const cases: [unknown, RegExp][] = [
    [{ "a-b": () => 1, a_b: () => 2 }, /would both be tools\.a_b/],
    [{ a: 5 }, /a tool is a function/],
    [{ a: {} }, /a tool is a function/],
    [{ a: { execute: () => 1, inputSchema: { x: Number.NaN } } }, /JSON has no NaN/],
    [{ a: { execute: () => 1, inputSchema: z.object({ x: z.custom() }) } }, /not one in JSON/],
  ];
  for (const [tools, why] of cases) {
    assert.throws(
      () => new Session({ tools: tools as Tools }),
      (error) => error instanceof ToolDefinitionError && why.test(error.message),
      String(why),
    );
  }
});

test("an error is its message and no more", () =>
  withSession({}, async (session) => {
    const kinds: Record<string, unknown> = {
      text: new TypeError("no such item"),
      empty: new RangeError(),
      thrown: "a string",
      nothing: undefined,
      half: new Error("\ud800"),
      long: new Error("x".repeat(1_000_000)),
      number: Object.assign(new Error(), { message: 5 }),
      symbol: Object.assign(new Error(), { message: Symbol("s") }),
      strange: {
        toString() {
          throw new Error("/home/secret/path");
        },
      },
    };
    const tools = {
      fails: ({ kind }: { kind: string }) => {
        throw kinds[kind];
      },
      failsLater: async ({ kind }: { kind: string }) => {
        throw kinds[kind];
      },
    };
    const program = `
      const caught = [];
      for (const tool of [tools.fails, tools.failsLater]) {
        for (const kind of ${JSON.stringify(Object.keys(kinds))}) {
          try { await tool({ kind }) } catch (e) { caught.push(e.message.slice(0, 20)) }
        }
      }
      caught
    `;
    const result = await session.exec(program, { tools });
    const each = [
      "no such item",
      "RangeError",
      "a string",
      "undefined",
      "\ufffd",
      "x".repeat(20),
      "5",
      "Symbol(s)",
      "the tool has failed",
    ];
    assert.deepEqual(result.value, [...each, ...each]);
    const uncaught = await session.exec("await tools.fails({ kind: 'text' })", { tools });
    assert.equal(uncaught.error, "Error: no such item\n    at exec_main.mjs:1:13");
    assert.deepEqual(
      uncaught.calls.map((call) => call.end),
      ["failed"],
    );
  }));

test("what a call rejects with is an error of the program's", () =>
  withSession({}, async (session) => {
    const tools = {
      fails: () => {
        throw new Error("no such item");
      },
    };
    const caught = await session.exec(
      `async function f() { await tools.fails() }
      try { await f() } catch (e) {
        [e instanceof Error, e.name, e.message, Object.keys(e), e.stack.split('\\n').length]
      }`,
      { tools },
    );
    assert.deepEqual(caught.value, [true, "Error", "no such item", [], 3]);
    for (const [program, error] of [
      [
        "null.x",
        "TypeError: Cannot read properties of null (reading 'x')\n    at exec_main.mjs:1:6",
      ],
      ["const x = (;", "SyntaxError: Unexpected token ';'\n    at exec_main.mjs:1:12"],
      ["\nawait tools.fails()", "Error: no such item\n    at exec_main.mjs:2:13"],
      ["const tools = 1; null.x", /exec_main\.mjs:1:23$/],
    ] as const) {
      const result = await session.exec(program, { tools });
      if (typeof error === "string") assert.equal(result.error, error);
      else assert.match(result.error ?? "", error);
    }
    assert.equal((await session.exec("")).value, undefined);
    assert.match((await session.exec("```js\n1\n```")).hint ?? "", /Markdown/);
  }));

test("a thousand calls at one time", () =>
  withSession({}, async (session) => {
    const all = new Signal();
    let running = 0;
    const tools = {
      slow: async ({ n }: { n: number }) => {
        running += 1;
        if (running === 1000) all.fire();
        await all.fired;
        return n;
      },
    };
    const program = `
      const all = await Promise.all(Array.from({ length: 1000 }, (_, n) => tools.slow({ n })));
      all.reduce((a, b) => a + b)
    `;
    const result = await session.exec(program, { tools });
    assert.equal(result.error, undefined);
    assert.equal(result.value, 499_500);
    assert.equal(result.usage.calls, 1000);
    assert.equal(result.calls.length, 100);
  }));
