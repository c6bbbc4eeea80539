import { assert } from "./assert.js";
const same = (a, b) => { const x = JSON.stringify(a), y = JSON.stringify(b); if (x !== y) throw new Error(`${x} is not ${y}`); };
const throws = (kind, f) => { try { f(); } catch (e) { if (e instanceof kind) return; throw e; } throw new Error("nothing was thrown"); };
run("arrays", () => {
  same([[3, 1, 2].toSorted(), [1, 2, 3].toReversed(), [1, 2, 3].with(1, 9), [1, 2, 3, 4].toSpliced(1, 2, 7)], [[1, 2, 3], [3, 2, 1], [1, 9, 3], [1, 7, 4]]);
  same([[1, [2, [3]]].flat(Infinity), [1, 2].at(-1), [1, 2, 3].findLast((x) => x < 3), [1, 2, 3].includes(NaN), [NaN].includes(NaN), Array.from({ length: 2 }, (_, i) => i)], [[1, 2, 3], 2, 2, false, true, [0, 1]]);
  same([[5, 1, 10].sort(), [..."banana"].sort((a, b) => (a < b ? 1 : -1)).join(""), [1, 2, 3].copyWithin(0, 1), [1, 2, 3].fill(0, 1), [1, 2, 3].indexOf(3, -1)], [[1, 10, 5], "nnbaaa", [2, 3, 3], [1, 0, 0], 2]);
});
run("grouping", () => { same([Object.groupBy([1, 2, 3], (x) => (x % 2 ? "odd" : "even")), [...Map.groupBy([1, 2, 3], (x) => x % 2)]], [{ odd: [1, 3], even: [2] }, [[1, [1, 3]], [0, [2]]]]); });
run("sets", () => {
  const a = new Set([1, 2, 3]), b = new Set([3, 4]);
  same([[...a.union(b)], [...a.intersection(b)], [...a.difference(b)], [...a.symmetricDifference(b)], a.isSubsetOf(b), new Set([3]).isSubsetOf(a), a.isSupersetOf(new Set([1])), a.isDisjointFrom(new Set([9]))], [[1, 2, 3, 4], [3], [1, 2], [1, 2, 4], false, true, true, true]);
});
run("maps", () => { const m = new Map([[NaN, 1], [0, 2]]); m.set(-0, 3); same([m.get(NaN), [...m.keys()].map((k) => Object.is(k, -0)), m.size, m.delete(NaN), [...m]], [1, [false, false], 2, true, [[0, 3]]]); const w = new WeakMap(); const k = {}; w.set(k, 1); same([w.get(k), w.has({})], [1, false]); });
run("iterator helpers", () => {
  const it = () => [1, 2, 3, 4].values();
  same([it().map((x) => x * 2).toArray(), it().filter((x) => x % 2).toArray(), [...it().take(2)], [...it().drop(3)], it().flatMap((x) => [x, x]).take(3).toArray(), it().reduce((a, b) => a + b), it().some((x) => x > 3), it().every((x) => x > 0), it().find((x) => x > 2), [...Iterator.from({ next: () => ({ done: true }) })]], [[2, 4, 6, 8], [1, 3], [1, 2], [4], [1, 1, 2], 10, true, true, 3, []]);
});
run("strings", () => {
  same(["abc".padStart(5, "12"), "a-b-c".replaceAll("-", "+"), " x ".trimEnd(), "abc".at(-1), "😀".codePointAt(0), "a\ud800".isWellFormed(), "a\ud800".toWellFormed().charCodeAt(1), "x".repeat(3), "İ".toLowerCase().length, "ß".toUpperCase(), "e\u0301".normalize("NFC").length, [..."👩‍🚀"].length], ["12abc", "a+b+c", " x", "c", 128512, false, 65533, "xxx", 2, "SS", 1, 3]);
  same(["a,b".split(","), "abc".substring(2, 0), "abc".slice(-2), "aXbX".lastIndexOf("X"), "abc".startsWith("b", 1), String.fromCodePoint(128512)], [["a", "b"], "ab", "bc", 3, true, "😀"]);
});
run("regular expressions", () => {
  same(["2024-01-02".replace(/(?<y>\d+)-(?<m>\d+)-(?<d>\d+)/, "$<d>.$<m>.$<y>"), "price: $5".match(/(?<=\$)\d/)[0], "abab".match(/(?<!a)b/), /^\p{Lu}\p{Script=Greek}$/u.test("AΩ"), "aBc".match(new RegExp("(?i:b)c"))?.[0], [..."a1b2".matchAll(/[a-z](\d)/g)].map((m) => [m[1], m.index]), /a.c/s.test("a\nc"), "x".match(/y?/d).indices[0]], ["02.01.2024", "5", null, true, "Bc", [["1", 0], ["2", 2]], true, [0, 0]]);
  const r = /a/y; r.lastIndex = 1; same([r.test("ba"), r.lastIndex, RegExp.escape("a.b")], [true, 2, "\\x61\\.b"]);
});
run("regular expressions with v", () => { same([/^[\p{L}--[a-z]]$/v.test("a"), /^[\p{L}--[a-z]]$/v.test("A"), /^[[a-z]&&[aeiou]]$/v.test("e"), /^\p{RGI_Emoji}$/v.test("👩‍🚀"), /^[\q{ab|c}]$/v.test("ab")], [false, true, true, true, true]); });
run("dates", () => {
  same([new Date(0).toISOString(), new Date("2024-02-29T12:00:00Z").getTime(), new Date(2024, 1, 30).getMonth(), Date.UTC(2000, 0), new Date("2024-01-01").getUTCDay(), JSON.stringify(new Date(1e12)), new Date(NaN).getTime()], ["1970-01-01T00:00:00.000Z", 1709208000000, 2, 946684800000, 1, '"2001-09-09T01:46:40.000Z"', null]);
  throws(RangeError, () => new Date(NaN).toISOString());
});
run("numbers and Math", () => {
  same([(0.1).toFixed(20), (1e21).toString(), (255).toString(16), (0.000001234).toString(), (123.456).toPrecision(4), (1234.5678).toExponential(2), parseFloat("1e-7x"), Number("0b11"), 1_000, Math.hypot(3, 4), Math.clz32(1), Math.fround(5.5), Math.sign(-0) === 0, Math.trunc(-1.5), Math.cbrt(27), Math.log2(8)], ["0.10000000000000000555", "1e+21", "ff", "0.000001234", "123.5", "1.23e+3", 1e-7, 3, 1000, 5, 31, 5.5, true, -1, 3, 3]);
  same([Number.MAX_SAFE_INTEGER, 0.1 + 0.2, 5 % -3, -5 % 3, 2 ** 53 + 1, (25).toString(36), Number.parseInt("08"), isNaN("x")], [9007199254740991, 0.30000000000000004, 2, -2, 9007199254740992, "p", 8, true]);
});
run("BigInt", () => { same([(2n ** 64n).toString(), BigInt.asIntN(8, 255n).toString(), (-7n / 2n).toString(), (-7n % 3n).toString(), (10n > 9), 1n == 1, typeof 1n, BigInt("0xff").toString(), (5n << 70n).toString(16)], ["18446744073709551616", "-1", "-3", "-1", true, true, "bigint", "255", "1400000000000000000"]); throws(TypeError, () => 1n + 1); throws(RangeError, () => BigInt(1.5)); });
run("typed arrays", () => {
  const b = new ArrayBuffer(8, { maxByteLength: 16 }); const v = new DataView(b); v.setFloat32(0, 1.5); v.setBigInt64(0, -1n); const u = new Uint8Array(b); b.resize(12);
  same([u.length, [...u.subarray(0, 2)], [...new Uint8ClampedArray([300, -5])], [...new Int16Array([1, 2, 3]).toSorted((a, c) => c - a)], [...Float64Array.of(1, 2).with(0, 9)], b.transfer().byteLength, new Float16Array([1.337])[0].toFixed(3), Uint8Array.from([3, 1]).at(-1)], [12, [255, 255], [255, 0], [3, 2, 1], [9, 2], 12, "1.337", 1]);
});
run("Proxy and Reflect", () => {
  const log = []; const p = new Proxy({ a: 1 }, { get: (t, k, r) => (log.push(String(k)), Reflect.get(t, k, r)), has: () => true, ownKeys: () => ["a", "b"], getOwnPropertyDescriptor: () => ({ value: 1, configurable: true, enumerable: true }), deleteProperty: () => false });
  same([p.a, "zz" in p, Object.keys(p), log], [1, true, ["a", "b"], ["a"]]); throws(TypeError, () => { delete p.a; }); const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); throws(TypeError, () => proxy.x); same(Reflect.ownKeys({ b: 1, 2: 1, a: 1, 1: 1 }), ["1", "2", "b", "a"]);
});
run("JSON", () => {
  same([JSON.stringify({ u: undefined, f() {}, n: NaN, d: new Date(0), a: [undefined], "\u2028": "\ud800" }), JSON.stringify([1, { a: 2 }], null, 2), JSON.stringify({ a: 1, b: 2 }, ["b"]), JSON.parse('{"a":[1,{"b":2}]}', (k, v) => (k === "b" ? 3 : v)), JSON.parse('{"__proto__":1,"a":1,"a":2}'), JSON.parse(" 1e3 ")], ['{"n":null,"d":"1970-01-01T00:00:00.000Z","a":[null],"\u2028":"\\ud800"}', '[\n  1,\n  {\n    "a": 2\n  }\n]', '{"b":2}', { a: [1, { b: 3 }] }, JSON.parse('{"__proto__":1,"a":2}'), 1000]);
  for (const bad of ["", "{", "[1,]", "01", "'a'", "{a:1}", "\u00a01", "1 2", '"\n"', "+1", ".5", "NaN"]) throws(SyntaxError, () => JSON.parse(bad)); same(JSON.stringify({ t: JSON.rawJSON("1e1000") }), '{"t":1e1000}');
});
run("objects", () => { same([Object.entries({ a: 1, b: 2 }), Object.fromEntries(new Map([["a", 1]])), Object.is(-0, 0), Object.hasOwn({ a: 1 }, "a"), { ...null, ..."ab" }, Object.getOwnPropertyNames("ab")], [[["a", 1], ["b", 2]], { a: 1 }, false, true, { 0: "a", 1: "b" }, ["0", "1", "length"]]); const o = Object.defineProperty({}, "x", { value: 1 }); throws(TypeError, () => { o.x = 2; }); });
run("URI and escapes", () => { same([encodeURIComponent("a b&ü/😀"), decodeURIComponent("%F0%9F%98%80"), encodeURI("a b/?"), escape("ü"), unescape("%u263A")], ["a%20b%26%C3%BC%2F%F0%9F%98%80", "😀", "a%20b/?", "%FC", "☺"]); throws(URIError, () => decodeURIComponent("%")); });
