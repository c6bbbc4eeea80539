// Objects: literals of many forms, properties made and deleted, prototypes, descriptors, copies.
const points = [];
for (let i = 0; i < 4000; i++) points.push({ x: i, y: i * 2, z: i % 7, label: 'p' + (i % 50) });
let total = 0;
for (let round = 0; round < 4; round++) for (const p of points) { p.x += p.y; p.y -= p.z; total += p.x & 255 }
for (const p of points) { const copy = { ...p, w: 1 }; copy.extra = copy.w + p.z; delete copy.label; total += 'label' in copy ? 0 : copy.extra }
const forms = [(i) => ({ kind: 'a', i }), (i) => ({ i, kind: 'b', more: [] }), (i) => ({ kind: 'c', deep: { i } }), (i) => Object.assign(Object.create({ inherited: 1 }), { kind: 'd', i })];
for (let i = 0; i < 6000; i++) { const it = forms[i % 4](i); total += it.kind.length + (it.inherited ?? 0) + (it.i ?? it.deep.i) % 3 }
const index = {};
for (let i = 0; i < 3000; i++) { const key = 'key' + ((i * 37) % 900); index[key] = (index[key] ?? 0) + i; if (i % 11 === 0) delete index['key' + (i % 900)] }
for (const key in index) if (Object.hasOwn(index, key)) total += index[key] % 5;
for (const [key, value] of Object.entries(index)) total += key.length + (value & 1);
const numbered = {};
for (let i = 0; i < 1200; i++) numbered[(i * 7) % 500] = i;
total += Object.keys(numbered).length + Object.values(numbered).reduce((a, b) => a + b, 0);
const inverted = Object.fromEntries(Object.entries(index).map(([key, value]) => [value, key]));
const picked = points.slice(0, 1500).map(({ x, label }) => ({ x, label }));
const pick = (from, ...keys) => keys.reduce((to, key) => { if (key in from) to[key] = from[key]; return to }, {});
for (let i = 0; i < 1200; i++) total += Object.keys(pick(points[i], 'x', 'label', 'none')).length;
const freeze = (value) => { Object.values(value).forEach((one) => { if (typeof one === 'object' && one) freeze(one) }); return Object.freeze(value) };
for (let i = 0; i < 300; i++) total += Object.isFrozen(freeze({ a: { b: { c: i } }, d: [1, { e: 2 }] })) ? 1 : 0;
const clone = (value) => (Array.isArray(value) ? value.map(clone) : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, clone(v)])) : value);
for (let i = 0; i < 250; i++) total += clone({ id: i, list: [1, 2, { three: 3 }], nested: { a: { b: 'c' } } }).list.length;
const account = { balance: 10, get double() { return this.balance * 2 }, set double(value) { this.balance = value / 2 }, deposit(n) { this.balance += n; return this } };
for (let i = 0; i < 3000; i++) { account.deposit(1).double = account.double - 1; total += account.balance & 1 }
for (let i = 0; i < 400; i++) { const made = Object.defineProperty({}, 'hidden', { value: i, enumerable: false, writable: true }); total += made.hidden + Object.keys(made).length + Object.getOwnPropertyNames(made).length }
const diff = (a, b) => { const out = {}; for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) if (a[key] !== b[key]) out[key] = [a[key], b[key]]; return out };
for (let i = 1; i < 900; i++) total += Object.keys(diff(picked[i - 1], picked[i])).length;
const symbol = Symbol('mark');
const traced = new Proxy({}, { get: (target, key) => (key in target ? target[key] : 1), set: (target, key, value) => { target[key] = value; return true }, has: () => true });
for (let i = 0; i < 800; i++) { traced['k' + (i % 20)] = i; total += traced.k3 + traced.none + ('x' in traced ? 1 : 0) + ({ [symbol]: i })[symbol] % 2 + Reflect.ownKeys(account).length }
const path = (value, keys) => keys.split('.').reduce((at, key) => at?.[key], value);
for (let i = 0; i < 1500; i++) total += path({ a: { b: [{ c: i }] } }, 'a.b.0.c');
text([total, Object.keys(inverted).length, picked.length].join());
