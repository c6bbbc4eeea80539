// Map, Set and their weak kinds: grouping, counting, joins, caches, set algebra.
const words = [];
for (let i = 0, seed = 3; i < 6000; i++) { seed = (seed * 48271) % 2147483647; words.push('w' + (seed % 700)) }
const counts = new Map();
for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
const top = [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).slice(0, 20);
const groups = new Map();
words.forEach((word, at) => { const key = word.length; if (!groups.has(key)) groups.set(key, []); groups.get(key).push(at) });
const plain = {};
for (const word of words) plain[word] = (plain[word] || 0) + 1;
const grouped = Object.groupBy(words, (word) => word.at(-1));
const users = new Map(Array.from({ length: 900 }, (_, id) => [id, { id, name: 'u' + id, team: id % 30 }]));
const orders = Array.from({ length: 3000 }, (_, n) => ({ n, user: (n * 7) % 1000, price: (n * 13) % 97 }));
const byTeam = new Map();
for (const { user, price } of orders) {
  const found = users.get(user);
  if (!found) continue;
  const team = byTeam.get(found.team) ?? { sum: 0, members: new Set() };
  team.sum += price;
  team.members.add(found.name);
  byTeam.set(found.team, team);
}
const evens = new Set(), threes = new Set();
for (let i = 0; i < 6000; i++) { if (i % 2 === 0) evens.add(i); if (i % 3 === 0) threes.add(i) }
const both = new Set([...evens].filter((n) => threes.has(n)));
const either = evens.union(threes), without = evens.difference(threes);
const cache = new WeakMap();
let hits = 0;
for (let round = 0; round < 4; round++) for (const [, user] of users) { if (cache.has(user)) hits++; else cache.set(user, round) }
class Lru {
  constructor(size) { this.size = size; this.map = new Map() }
  get(key) { if (!this.map.has(key)) return; const value = this.map.get(key); this.map.delete(key); this.map.set(key, value); return value }
  set(key, value) { this.map.delete(key); this.map.set(key, value); if (this.map.size > this.size) this.map.delete(this.map.keys().next().value) }
}
const recent = new Lru(100);
let missed = 0;
for (const word of words) { if (recent.get(word) === undefined) { missed++; recent.set(word, word.length) } }
const unique = [...new Set(words)].sort();
const sums = new Map(); // numbers, texts, objects and doubles as keys
for (let i = 0; i < 4000; i++) { const key = i % 4 === 0 ? i % 50 : i % 4 === 1 ? 'k' + (i % 60) : i % 4 === 2 ? orders[i % 70] : (i % 80) / 8; sums.set(key, (sums.get(key) ?? 0) + i) }
let folded = 0;
sums.forEach((value) => { folded = (folded + value) % 65521 });
for (const value of byTeam.values()) folded += value.members.size;
text([top[0], groups.size, Object.keys(plain).length, Object.keys(grouped).length, byTeam.size, both.size, either.size, without.size, hits, missed, unique.length, sums.size, folded].join());
