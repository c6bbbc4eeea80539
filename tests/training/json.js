// JSON both ways: records, trees, numbers, texts with escapes; revivers, replacers, indentation.
const records = Array.from({ length: 500 }, (_, id) => ({
  id, title: `Record ${id}`, done: id % 3 === 0, price: id * 1.1, due: id % 7 ? null : '2024-01-0' + (1 + (id % 9)), labels: ['x' + (id % 5), 'y'],
  author: { login: 'user' + (id % 20), url: 'https://example.com/u/' + id, roles: [] }, body: 'line one\n\t"quoted" \\ and é ' + id, counts: { up: id, down: -id, big: id * 1e9 },
}));
let n = 0;
for (let round = 0; round < 5; round++) {
  const written = JSON.stringify(records);
  const read = JSON.parse(written);
  n += written.length + read.length;
  for (const record of read) { n += record.labels.length + record.author.login.length; record.seen = round; delete record.body }
  n += JSON.stringify(read.filter(({ done }) => !done).map(({ id, title, author: { login } }) => ({ id, title, login }))).length;
}
const tree = (depth) => (depth === 0 ? { leaf: true, value: depth } : { depth, children: [tree(depth - 1), tree(depth - 1)] });
const text1 = JSON.stringify(tree(9));
n += text1.length;
const count = (node) => (node.leaf ? 1 : node.children.reduce((sum, child) => sum + count(child), 0));
n += count(JSON.parse(text1));
n += JSON.stringify(records.slice(0, 150), null, 2).length + JSON.stringify(records.slice(0, 150), ['id', 'title']).length;
n += JSON.stringify(records.slice(0, 150), (key, value) => (key === 'author' ? undefined : value)).length;
n += JSON.parse(JSON.stringify(records.slice(0, 150)), (key, value) => (key === 'price' ? Math.round(value) : value)).length;
n += JSON.stringify({ at: new Date(0), map: [...new Map([[1, 2]])], toJSON() { return { custom: 1 } } }).length;
const copies = records.map((record) => ({ ...record, author: { ...record.author } }));
const same = (a, b) => {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || !a || !b) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => same(a[key], b[key]));
};
n += copies.filter((copy, at) => same(copy, records[at])).length;
const ndjson = records.slice(0, 300).map((record) => JSON.stringify(record)).join('\n');
for (const line of ndjson.split('\n')) n += JSON.parse(line).id;
const numbers = JSON.parse(JSON.stringify(Array.from({ length: 4000 }, (_, i) => (i % 2 ? i : i / 7))));
for (const number of numbers) n += number;
for (const bad of ['{', '[1,]', '{"a":}', 'nul']) { try { JSON.parse(bad) } catch (error) { n += error.name.length } }
text(Math.round(n));
