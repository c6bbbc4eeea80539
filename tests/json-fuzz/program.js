// Cases of JSON.stringify and JSON.parse, made from a seed: the same here and in Node.
// `cases(seed, count)` returns one line for each, with what was asked of the program's own
// functions on the way.
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
  const strings = ['', 'a', 'key', '"', '\\', '\n', '\u0007', '\ud800', '\udfff', '\u{1f600}', 'é', '\u2028', 'toJSON', '0', '12', '-1', '__proto__', 'x'.repeat(300), '\0'];
  const numbers = [0, -0, 1, -1, 1.5, 1e21, 1e-7, NaN, Infinity, 2 ** 53, 123456789.125, 5e-324, 0xffffffff];
  let trace, open;
  const log = (what) => {
    if (trace.length < 60) trace.push(what);
  };
  const key = (k) => (typeof k === 'symbol' ? '@' : k.length > 20 ? k.length : k);

  function value(depth) {
    switch (depth <= 0 ? random(6) : random(24)) {
      case 0: return pick(strings);
      case 1: return pick(numbers);
      case 2: return pick([true, false, null]);
      case 3: return undefined;
      case 4: return pick([() => 1, Symbol('s'), Symbol.iterator]);
      case 5: return random(8) ? random(1000) : BigInt(random(100));
      case 6: return Array.from({ length: random(4) }, () => value(depth - 1));
      case 7: { const a = []; a[random(4)] = value(depth - 1); a.extra = 1; return a; }
      case 8: return Object(pick([pick(strings), pick(numbers), true, Symbol('b'), 5n]));
      case 9: { const boxed = Object(pick(['s', 3])); boxed.toString = () => { log('str'); return pick(['own', 7]); }; boxed.valueOf = () => { log('val'); return 8; }; return boxed; }
      case 10: return pick([new Date(0), new Date(NaN), new Map([[1, 2]]), /r/g, new Error('e'), new Uint8Array(2), new (class P { x = 1; get y() { return 2; } })()]);
      case 11: { const inner = value(depth - 1); return { a: 1, toJSON(k) { log(`toJSON ${key(k)} ${typeof k}`); return inner; } }; }
      case 12: { const inner = value(depth - 1); const f = () => 1; f.toJSON = (k) => { log(`f ${key(k)}`); return inner; }; return f; }
      case 13: return { get g() { log('get'); if (!random(4)) throw new RangeError('got'); return value(depth - 2); }, z: 1 };
      case 14: { const o = Object.create(pick([null, { inherited: 1 }, Array.prototype])); o.own = value(depth - 1); Object.defineProperty(o, 'hidden', { value: 1 }); o[Symbol('k')] = 1; return o; }
      case 15: return new Proxy(pick([[value(depth - 1), 2], { p: value(depth - 1), q: 1 }, () => 1]), {
        get(t, k, r) { log(`pget ${key(k)}`); return Reflect.get(t, k, r); },
        ownKeys(t) { log('keys'); return Reflect.ownKeys(t); },
        getOwnPropertyDescriptor(t, k) { log(`desc ${key(k)}`); return Reflect.getOwnPropertyDescriptor(t, k); },
        has(t, k) { log('has'); return Reflect.has(t, k); },
      });
      case 16: return open.length && !random(3) ? pick(open) : {};
      default: {
        const o = {};
        open.push(o);
        // A member, also of the name `__proto__`: with a prototype among typed arrays, Node 20
        // asks what is assigned for a number, which the language does not have any more.
        for (let n = random(5); n > 0; n--) {
          Object.defineProperty(o, pick(strings), { value: value(depth - 1), writable: true, enumerable: true, configurable: true });
        }
        open.pop();
        return o;
      }
    }
  }

  const replacers = [
    () => undefined, () => undefined, () => undefined,
    () => ['a', 'key', 1, 'key', Object('0'), Object(12), {}, null, 'p', 'g'],
    () => { let calls = 0; return function (k, v) { log(`r ${key(k)} ${typeof v} ${Array.isArray(this)}`); return ++calls > 200 ? 1 : pick([v, v, v, v, undefined, 5, { n: v }]); }; },
    () => function (k, v) { return typeof v === 'object' && v ? v : typeof v === 'function' ? 'f' : String(v); },
    () => new Proxy(['a', 'key'], {}),
    () => pick([null, 5, 'a', {}]),
  ];
  const spaces = [undefined, undefined, 0, 1, 2, 10, 11, -1, 1.9, '\t', 'ab', '0123456789ab', Object(3), Object('x'), null, true, { valueOf: () => 3 }];

  function text(depth) {
    const gap = () => pick(['', '', ' ', '\n', '\t']);
    switch (depth <= 0 ? random(4) : random(7)) {
      case 0: return JSON.stringify(pick(strings));
      case 1: return pick(['0', '-0', '1', '1.5', '1e5', '1E-2', '-1', '12345678901234567890', '1e400']);
      case 2: return pick(['true', 'false', 'null']);
      case 3: return pick(['"\\u00e9"', '"\\ud800"', '"\\/"', '{}', '[]']);
      case 4: return `[${gap()}${Array.from({ length: random(4) }, () => text(depth - 1)).join(`${gap()},`)}${gap()}]`;
      default: return `{${gap()}${Array.from({ length: random(4) }, () => `${JSON.stringify(pick(strings))}${gap()}:${gap()}${text(depth - 1)}`).join(`${gap()},`)}${gap()}}`;
    }
  }
  const broken = (json) => {
    const at = random(json.length + 1);
    return pick([() => json, () => json.slice(0, at), () => json.slice(0, at) + pick([',', ']', '}', 'x', '"', '\\', '\u0001', '01', '-', '.', 'é']) + json.slice(at), () => json.slice(0, at) + json.slice(at + 1)])();
  };
  const revivers = [undefined, undefined, undefined, () => { let calls = 0; return function (k, v) { log(`v ${key(k)} ${typeof v}`); return ++calls > 200 ? v : pick([v, v, v, undefined, 7]); }; }];

  const lines = [];
  for (let n = 0; n < count; n++) {
    trace = [];
    open = [];
    let line;
    try {
      if (random(3)) {
        const v = value(5);
        const replacer = pick(replacers)();
        line = `s ${JSON.stringify(v, replacer, pick(spaces))}`;
      } else {
        const reviver = pick(revivers)?.();
        line = `p ${JSON.stringify(JSON.parse(broken(text(4)), reviver))}`;
      }
    } catch (error) {
      // Messages differ between versions of V8; tests/vectors has those that are compared.
      line = `! ${error?.name}`;
    }
    lines.push(JSON.stringify(`${line} | ${trace.join(',')}`));
  }
  return lines.join('\n');
};
