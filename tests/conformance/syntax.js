import { assert } from "./assert.js";
const same = (a, b) => { const x = JSON.stringify(a), y = JSON.stringify(b); if (x !== y) throw new Error(`${x} is not ${y}`); };
const throws = (kind, f) => { try { f(); } catch (e) { if (e instanceof kind) return; throw e; } throw new Error("nothing was thrown"); };
run("classes", () => {
  class A { #p = 1; static s = 2; static #q = 3; get p() { return this.#p; } set p(v) { this.#p = v; } static q() { return A.#q; } static { this.t = 4; } has(o) { return #p in o; } }
  class B extends A { constructor() { super(); this.b = super.p + 1; } toString() { return `B${this.b}`; } }
  const b = new B(); b.p = 7;
  same([b.p, A.s, A.q(), A.t, b.b, `${b}`, b.has({}), b.has(b)], [7, 2, 3, 4, 2, "B2", false, true]);
});
run("accessors and computed members", () => {
  const k = "x"; const o = { [k + 1]: 1, get y() { return 2; }, ["m"]() { return 3; }, __proto__: { z: 4 } };
  same([o.x1, o.y, o.m(), o.z], [1, 2, 3, 4]);
});
run("destructuring", () => {
  const { a = 1, b: { c, ...d }, ...e } = { b: { c: 2, f: 3 }, g: 4 }; const [x, , y = 5, ...z] = [1, 2, undefined, 6, 7];
  same([a, c, d, e, x, y, z], [1, 2, { f: 3 }, { g: 4 }, 1, 5, [6, 7]]);
});
run("spread, optional chaining, nullish", () => {
  const f = (...a) => a.length; const o = { a: { b: [1] }, f: null };
  same([f(...[1, 2], ..."ab"), o?.a?.b?.[0], o.x?.y.z, o.f?.(), 0 ?? 1, null ?? 2], [4, 1, undefined, undefined, 0, 2]);
  let n = null; n ??= 3; n ||= 4; n &&= 5; same(n, 5);
});
run("generators", () => {
  function* g() { try { const x = yield 1; yield* [x, 3]; return 4; } finally { yield 5; } }
  const i = g(); same([i.next(), i.next(2), i.return(9), i.next(), i.next()], [{ value: 1, done: false }, { value: 2, done: false }, { value: 5, done: false }, { value: 9, done: true }, { done: true }]);
});
await run("async iteration", async () => {
  async function* g() { for (let i = 0; i < 3; i++) { await null; yield i; } }
  const seen = []; for await (const x of g()) seen.push(x); for await (const x of [Promise.resolve(7), 8]) seen.push(x);
  same(seen, [0, 1, 2, 7, 8]); same(await Array.fromAsync(g(), (x) => x * 2), [0, 2, 4]);
});
await run("promises", async () => {
  same(await Promise.allSettled([1, Promise.reject("no")]), [{ status: "fulfilled", value: 1 }, { status: "rejected", reason: "no" }]);
  same([await Promise.any([Promise.reject(1), 2]), await Promise.race([3, new Promise(() => {})])], [2, 3]);
  const { promise, resolve } = Promise.withResolvers(); resolve(4); same([await promise, await Promise.try((x) => x, 5)], [4, 5]);
});
run("labels, switch, loops", () => {
  let s = ""; outer: for (let i = 0; i < 3; i++) { for (const j of "ab") { if (i === 1) continue outer; s += i + j; } } switch (3) { case 1: s += "x"; default: s += "d"; case 2: s += "2"; } same(s, "0a0b2a2bd2");
});
run("closures per iteration", () => { const f = []; for (let i = 0; i < 3; i++) f.push(() => i); same(f.map((g) => g()), [0, 1, 2]); });
run("tagged templates", () => { const t = (s, ...v) => [s.raw.join("|"), ...v]; same(t`a\n${1}b${2}`, ["a\\n|b|", 1, 2]); same(String.raw`\u00${1}`, "\\u001"); });
run("temporal dead zone and strictness", () => { throws(ReferenceError, () => { x; let x; }); throws(TypeError, () => { Object.freeze([]).push(1); }); throws(ReferenceError, () => { undeclared = 1; }); });
run("symbols and iterators", () => {
  const o = { *[Symbol.iterator]() { yield* [1, 2]; }, [Symbol.toPrimitive]: (h) => h };
  same([[...o], `${o}`, Symbol("d").description, Symbol.for("a") === Symbol.for("a")], [[1, 2], "string", "d", true]);
});
run("error cause and aggregate", () => { const e = new Error("a", { cause: 1 }); same([e.cause, new AggregateError([1], "m").errors, Error.isError(e)], [1, [1], true]); });
run("using", () => { const s = []; new Function("s", `{ using a = { [Symbol.dispose]() { s.push("a"); } }; using b = { [Symbol.dispose]() { s.push("b"); } }; s.push("in"); }`)(s); same(s, ["in", "b", "a"]); });
run("eval and Function", () => { same([eval("1 + 1"), new Function("a", "return a * 2")(4), (0, eval)("typeof this")], [2, 8, "object"]); });
