// Patterns, defaults, rest and spread, optional chaining, computed and shorthand properties.
const people = Array.from({ length: 800 }, (_, id) => ({
  id, name: { first: `first${id}`, last: `last${id % 40}` }, tags: ['a', 'b', `t${id % 9}`],
  ...(id % 2 ? { address: { city: `city${id % 12}`, geo: { lat: id / 3, lon: -id / 7 } } } : {}), score: id % 5 ? id * 1.25 : null,
}));
const summary = ({ id, name: { first, last = 'none' }, tags: [kind, , ...rest], address: { city = 'nowhere' } = {}, score, ...others }) =>
  ({ id, full: `${first} ${last}`, kind, rest, city, score: score ?? -1, extra: Object.keys(others).length });
let total = 0;
for (let round = 0; round < 8; round++) {
  for (const person of people) {
    const { full, city, score, rest: [tag = '?'], ...others } = summary(person);
    total += full.length + city.length + score + tag.length + others.extra;
    total += person.address?.geo?.lat ?? 1;
    total += person?.missing?.deep?.deeper?.length ?? 2;
    total += person.toString?.().length;
  }
}
let [a, b, c] = [1, 2, 3];
for (let i = 0; i < 20000; i++) { [a, b, c] = [b, c, (a + b) % 1000]; total += a }
const merge = (left, right) => ({ ...left, ...right, [`key${left.id % 10}`]: right.score, sum: left.id + right.id });
for (let i = 1; i < people.length; i++) total += Object.keys(merge(people[i - 1], people[i])).length;
const options = ({ limit = 10, offset = 0, order: { by = 'id', descending = false } = {} } = {}) => limit + offset + by.length + +descending;
for (let i = 0; i < 5000; i++) total += options() + options({ limit: i }) + options({ order: { by: 'name' } });
for (const { id, name: { first } } of people) total += id % 3 + first.length;
for (const [key, value] of Object.entries({ x: 1, y: 2, z: 3 })) total += key.length + value;
const list = [...people.slice(0, 100), ...people.slice(200, 300)].map(({ id }, at) => [id, at]);
const swapped = Object.fromEntries(list.map(([id, at]) => [at, id]));
let config = {};
config.retries ??= 3; config.verbose ||= true; config.retries &&= config.retries + 1;
text(Math.round(total), Object.keys(swapped).length, JSON.stringify(config));
