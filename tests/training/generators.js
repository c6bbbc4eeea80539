// Generators and iterators, synchronous and asynchronous, and what reads them.
function* range(from, to, step = 1) { for (let i = from; i < to; i += step) yield i }
function* map(values, f) { for (const value of values) yield f(value) }
function* filter(values, keep) { for (const value of values) if (keep(value)) yield value }
function* take(values, count) { if (count <= 0) return; for (const value of values) { yield value; if (--count <= 0) return } }
function* fibonacci() { let [a, b] = [0, 1]; for (;;) { yield a; [a, b] = [b, (a + b) % 1000007] } }
function* walk(tree) { if (!tree) return; yield* walk(tree.left); yield tree.value; yield* walk(tree.right) }
function* permutations(items) {
  if (items.length < 2) { yield items; return }
  for (let i = 0; i < items.length; i++) {
    for (const rest of permutations([...items.slice(0, i), ...items.slice(i + 1)])) yield [items[i], ...rest];
  }
}
function* averager() { let sum = 0, n = 0, value; for (;;) { value = yield n ? sum / n : 0; sum += value; n++ } }
const build = (from, to) => {
  if (from >= to) return null;
  const middle = (from + to) >> 1;
  return { left: build(from, middle), value: middle, right: build(middle + 1, to) };
};
let total = 0;
for (let round = 0; round < 12; round++) {
  for (const value of take(filter(map(range(0, 5000), (n) => n * 3), (n) => n % 2 === 0), 600)) total += value;
}
for (const value of take(fibonacci(), 5000)) total = (total + value) % 1000003;
for (const value of walk(build(0, 1500))) total += value & 3;
for (const [first] of permutations([1, 2, 3, 4, 5, 6])) total += first;
const average = averager();
average.next();
for (let i = 0; i < 4000; i++) total += average.next(i).value % 2;
const [head, second, ...others] = take(range(0, 100), 50);
total += head + second + others.length + [...range(0, 2000)].length + new Set(range(0, 900, 3)).size + Math.max(...range(0, 300));
class Pages {
  constructor(count) { this.count = count }
  async *[Symbol.asyncIterator]() { for (let page = 0; page < this.count; page++) { await null; yield { page, items: [page, page + 1] } } }
}
async function* flatten(pages) { for await (const { items } of pages) yield* items }
for await (const item of flatten(new Pages(400))) total += item;
for (const [at, value] of ['a', 'b', 'c'].entries()) total += at + value.length;
const countdown = { from: 300, [Symbol.iterator]() { let n = this.from; return { next: () => (n > 0 ? { done: false, value: n-- } : { done: true, value: undefined }), return: () => ({ done: true }) } } };
for (let i = 0; i < 10; i++) for (const value of countdown) { if (value < 20) break; total += value }
text(total, Iterator.from([1, 2, 3]).map((n) => n * 2).toArray().length);
