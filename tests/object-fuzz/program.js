// Programs about objects, made from a seed: the same here and in Node. `cases(seed, count)`
// makes and runs `count` programs, and returns one line for each, with what it saw.
//
// A program works on a few variables, `o[0]` to `o[7]`: it makes objects of every kind, changes
// their properties, prototypes and extensibility, and looks at some of them after each step.
// The code is strict, as a cell's own. What the language leaves open, and texts of errors, are not looked at.
globalThis.cases = (seed, count) => {
  let state = seed >>> 0 || 1;
  const random = (n) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % n;
  };
  const pick = (list) => list[random(list.length)];
  const some = (most, make) => Array.from({ length: random(most + 1) }, make);

  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
  const odd = ['0', '1', '2', '7', '4294967294', '4294967295', '-1', '1.5', 'length', 'toString', 'constructor', ''];
  const name = () => (random(4) ? pick(names) : random(3) ? `k${random(40)}` : pick(odd));
  const key = () => (random(12) ? JSON.stringify(name()) : `S[${random(2)}]`);
  const variable = () => `o[${random(8)}]`;
  const scalar = () => pick(['0', '-0', '1', '-1', '1.5', 'NaN', '1e21', '2147483648', '5n', '"s"', '"0"', 'true', 'null', 'undefined', 'S[0]', 'S[1]']);
  const value = () => (random(4) ? (random(3) ? String(random(100)) : scalar()) : variable());
  const flag = () => pick(['true', 'false']);

  // A descriptor of a property: of a value, of accessors, or of part of either.
  function descriptor() {
    const parts = [];
    if (random(3)) {
      if (random(5)) parts.push(`value: ${value()}`);
      if (random(2)) parts.push(`writable: ${flag()}`);
    } else {
      if (random(4)) parts.push(`get: G[${random(2)}]`);
      if (random(2)) parts.push(`set: T[${random(2)}]`);
    }
    if (random(2)) parts.push(`enumerable: ${flag()}`);
    if (random(2)) parts.push(`configurable: ${flag()}`);
    return `{ ${parts.join(', ')} }`;
  }

  // Accessors have names that are computed: Node puts others behind all data.
  const member = () => {
    switch (random(9)) {
      case 0: return `get [${key()}]() { note('get'); return ${scalar()} }`;
      case 1: return `[${key()}]: ${value()}`;
      case 2: return `...${variable()}`;
      case 3: return `__proto__: ${variable()}`;
      case 4: return `set [${key()}](x) { note('set') }`;
      default: return `${pick(names)}: ${value()}`;
    }
  };
  // A name stands once: Node orders repeated ones by the last, and two prototypes are an error.
  const literal = () => {
    const members = new Map(some(6, member).map((text) => [text.startsWith('[') ? text : text.split(':')[0], text]));
    return `({ ${[...members.values()].join(', ')} })`;
  };

  function constructed() {
    const parent = random(3) ? '' : ` extends ${pick(['Array', 'Map', 'Object', 'Error', 'P'])}`;
    const fields = some(4, () => (random(5) ? `${pick(names)} = ${value()};` : `[${key()}] = ${value()};`));
    if (!random(4)) fields.push('#own = 1; has(x) { return #own in x }');
    const body = some(4, () => `${random(3) ? '' : `if (i % ${1 + random(3)}) `}this.${pick(names)} = ${random(2) ? 'i' : value()};`);
    const start = parent ? 'super();' : '';
    return `(() => { class C${parent} { ${fields.join(' ')} constructor(i) { ${start} ${body.join(' ')} } get z() { return 'z' } } return new C(${random(9)}) })()`;
  }

  function made() {
    switch (random(16)) {
      case 0: case 1: case 2: return literal();
      case 3: case 4: return constructed();
      case 5: return `Object.create(${random(4) ? variable() : 'null'})`;
      case 6: return `[${some(5, () => (random(5) ? value() : '')).join(', ')}]`;
      case 7: return `(function (${pick(['', 'x', 'x, y', 'x = 1'])}) { return arguments })(${some(4, value).join(', ')})`;
      case 8: return pick(['new Date(0)', '/x/g.exec("axb")', '/(?<n>x)/.exec("ax")', 'new Error("e")', 'Object("text")', 'Object(1)', 'new Map()', 'new Set()']);
      case 9: return `proxy(${literal()}, ${pick(['{}', 'H'])})`;
      case 10: return `Object.fromEntries([${some(5, () => `[${key()}, ${value()}]`).join(', ')}])`;
      case 11: return `JSON.parse(${JSON.stringify(`{${some(5, () => `${JSON.stringify(name())}:${random(50)}`).join()}}`)})`;
      case 12: return `({ ...${variable()} })`;
      // Of a copy, as Node also calls an accessor that is left out.
      case 13: return `(({ ${pick(names)}: x, ...rest }) => rest)({ ...${variable()} })`;
      case 14: return `(() => { const w = {}; for (let i = 0; i < ${pick([7, 31, 32, 33, 34, 70])}; i++) w['k' + i] = i; return w })()`;
      default: return `Object.assign(${random(2) ? '{}' : variable()}, ${variable()})`;
    }
  }

  function step() {
    const v = variable();
    switch (random(32)) {
      case 0: case 1: case 2: case 3: return `${v} = ${made()}`;
      case 4: case 5: case 6: return `${v}.${pick(names)} = ${value()}`;
      case 7: case 8: return `${v}[${key()}] = ${value()}`;
      case 9: case 10: case 11: return `delete ${v}[${key()}]`;
      case 12: case 13: case 14: return `Object.defineProperty(${v}, ${key()}, ${descriptor()})`;
      case 15: return `Object.setPrototypeOf(${v}, ${random(5) ? variable() : 'null'})`;
      case 16: return `Object.${pick(['preventExtensions', 'seal', 'freeze'])}(${v})`;
      case 17: return `note(Reflect.set(${v}, ${key()}, ${value()}, ${variable()}))`;
      case 18: return `note(Reflect.defineProperty(${v}, ${key()}, ${descriptor()}))`;
      case 19: return `for (let i = 0; i < 40; i++) delete ${v}['k' + i]`;
      case 20: return `for (let i = 0; i < ${pick([5, 40])}; i++) ${v}['k' + i] = i`;
      case 21: return `for (let i = 0; i < ${pick([2, 20])}; i++) { ${variable()} = ${made()}; ${variable()}.${pick(names)} = i }`;
      case 22: return `if (!proxies.has(${v})) { const keys = []; for (const k in ${v}) { keys.push(k); if (keys.length > 90) break; delete ${variable()}[${key()}] } note(keys.join()) }`;
      case 23: return `Array.prototype.${pick(['push', 'unshift'])}.call(${v}, ${value()})`;
      case 24: return `note(Array.prototype.${pick(['pop', 'shift'])}.call(${v}))`;
      case 25: return `if (Array.isArray(${v})) ${v}.length = ${random(6)}`;
      case 26: return `if (Array.isArray(${v})) ${v}.splice(${random(3)}, ${random(3)}, ${value()})`;
      case 27: return `note(Object.entries(${v}).length); note(JSON.stringify(Object.keys(${v})))`;
      case 28: return `collect()`;
      case 29: return `const held = ${literal()}; held.${pick(names)} = 1; ${v} = Object.create(held)`;
      case 30: return `note(${pick(names.map((n) => `'${n}'`))} in ${v}, ${v}.${pick(names)}, Object.hasOwn(${v}, ${key()}))`;
      default: return `Object.defineProperties(${v}, { ${some(4, () => `${pick(names)}: ${descriptor()}`).join(', ')} })`;
    }
  }

  // Keys of maps and sets: of every kind, and many that differ in few bits.
  const mapKey = () => pick([scalar(), scalar(), variable(), `${random(40)}`, `${random(40)} * 1024`, `${random(40)} / 8`, `BigInt(${random(20)})`, `'k' + ${random(20)}`, `-${random(20)}`]);
  function collection() {
    const [m, s] = ['m', 's'];
    switch (random(12)) {
      case 0: case 1: case 2: return `${m}.set(${mapKey()}, ${random(99)})`;
      case 3: case 4: return `${s}.add(${mapKey()})`;
      case 5: return `note(${m}.delete(${mapKey()}), ${s}.delete(${mapKey()}))`;
      case 6: return `note(${m}.has(${mapKey()}), ${m}.get(${mapKey()}), ${s}.has(${mapKey()}))`;
      case 7: return `for (let i = 0; i < ${pick([9, 100, 700])}; i++) ${pick([`m.set(i ${pick(['', '* 1024', '/ 8', '- 50', '* 1e9'])}, i)`, 's.add(i)', 's.delete(i)', 'm.delete(i)'])}`;
      case 8: return `{ let n = 0; for (const [k] of m) { if (++n > 60) break; note(show(k)); if (n % ${2 + random(3)} == 0) m.delete(k); if (n < 9) m.set(k, n) } }`;
      case 9: return `{ let n = 0; s.forEach((k) => { if (++n < 40) { note(show(k)); s.delete(k); if (n % 3) s.add(k) } }) }`;
      case 10: return random(3) ? `note(m.size, s.size)` : pick(['m.clear()', 's.clear()']);
      default: return `note([...new Set([...s, ...m.keys()])].length)`;
    }
  }

  const head = `'use strict';
    const lines = [];
    let at = 0; // The number of the step.
    const note = (...all) => { if (lines.length < 400) lines.push(at + ': ' + all.map(show).join(' ')) };
    const S = [Symbol('p'), Symbol('q')];
    const G = [function () { note('G0'); return this === undefined }, () => 'G1'];
    const T = [function (x) { note('T0', x) }, (x) => note('T1')];
    const P = class { p = 1 };
    const H = {
      get(t, k, r) { note('pget', k); return Reflect.get(t, k, r) },
      set(t, k, x, r) { note('pset', k); return Reflect.set(t, k, x, r) },
      defineProperty(t, k, d) { note('pdef', k); return Reflect.defineProperty(t, k, d) },
      deleteProperty(t, k) { note('pdel', k); return Reflect.deleteProperty(t, k) },
    };
    const proxies = new WeakSet(); // The engine does not look whether one has lost a key.
    const proxy = (t, h) => { const p = new Proxy(t, h); proxies.add(p); return p };
    const o = Array.from({ length: 8 }, () => ({}));
    const m = new Map(), s = new Set();
    const collect = () => { for (let i = 0; i < 3000; i++) { const a = { i }, b = { a }; a.b = b } };
    function show(x) {
      if (typeof x === 'object' && x !== null) { const i = o.indexOf(x); return i < 0 ? Object.prototype.toString.call(x) : 'o' + i }
      if (typeof x === 'function') return 'function';
      if (Object.is(x, -0)) return '-0';
      return typeof x === 'string' ? x : typeof x === 'bigint' ? x + 'n' : String(x);
    }
    function look(x) {
      const parts = Reflect.ownKeys(x).filter((k) => k !== 'stack').map((k) => {
        const d = Reflect.getOwnPropertyDescriptor(x, k);
        const flags = (d.writable ? 'w' : '') + (d.enumerable ? 'e' : '') + (d.configurable ? 'c' : '');
        return show(k) + ':' + flags + ('value' in d ? '=' + show(d.value) : d.get ? 'G' + G.indexOf(d.get) : 'set');
      });
      return '{' + parts.join(' ') + '}' + show(Object.getPrototypeOf(x)) + Object.isExtensible(x);
    }`;

  function program() {
    const steps = Array.from({ length: 12 + random(30) }, (_, at) => {
      const text = random(4) ? step() : collection();
      return `at = ${at}; try { ${text} } catch (e) { note(e instanceof Error ? e.name : 'thrown') }\n` +
        (random(3) ? '' : `try { note(look(${variable()})) } catch (e) { note(e.name) }\n`);
    });
    return `${head}\n${steps.join('')}\nfor (const x of o) { try { lines.push(look(x)) } catch (e) { lines.push(e.name) } }\nreturn lines.join(' | ');`;
  }

  const indirect = Function;
  return Array.from({ length: count }, () => {
    const text = program();
    try {
      return indirect(text)().replaceAll('\n', ' ');
    } catch (e) {
      return `${e.name}: ${e.message} in ${text.replaceAll('\n', ' ').slice(head.length)}`;
    }
  }).join('\n');
};
