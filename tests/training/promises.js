// Asynchronous programs: tools, chains, all kinds of joins, limits, retries, timers.
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let total = 0;
for (let i = 0; i < 150; i++) { const rows = await tools.first({ page: i, limit: 20, filter: { active: true } }); total += rows.length; for (const row of rows) total += row.score }
const many = await Promise.all(Array.from({ length: 150 }, (_, i) => tools.first({ i }).then((rows) => rows.map(({ name }) => name).join())));
total += many.join().length;
const limited = async (tasks, limit) => {
  const results = new Array(tasks.length);
  let next = 0;
  const worker = async () => { while (next < tasks.length) { const at = next++; results[at] = await tasks[at]() } };
  await Promise.all(Array.from({ length: limit }, worker));
  return results;
};
const done = await limited(Array.from({ length: 120 }, (_, i) => async () => (await tools.second({ i }))[0].id + i), 5);
total += done.reduce((a, b) => a + b, 0);
const settled = await Promise.allSettled(Array.from({ length: 300 }, (_, i) => (i % 3 ? Promise.resolve(i) : Promise.reject(new Error('no ' + i)))));
total += settled.filter(({ status }) => status === 'rejected').length;
const retry = async (f, times) => { for (let i = 0; ; i++) { try { return await f(i) } catch (error) { if (i >= times) throw error } } };
for (let i = 0; i < 150; i++) total += await retry(async (n) => { if (n < 2) throw new TypeError('again'); return n }, 3);
let chain = Promise.resolve(0);
for (let i = 0; i < 2000; i++) chain = chain.then((n) => n + 1).finally(() => {});
total += await chain;
const step = async (n) => (n <= 0 ? 0 : 1 + (await step(n - 1)));
for (let i = 0; i < 15; i++) total += await step(50);
total += await Promise.race([sleep(50).then(() => 1), sleep(5).then(() => 2)]) + (await Promise.any([Promise.reject(1), 7]));
for (let i = 0; i < 5; i++) await sleep(1);
const { promise, resolve } = Promise.withResolvers();
queue(() => resolve(3));
function queue(f) { Promise.resolve().then(f) }
total += await promise;
const pipeline = async (value, ...stages) => { for (const stage of stages) value = await stage(value); return value };
for (let i = 0; i < 300; i++) total += await pipeline(i, (n) => n + 1, async (n) => n * 2, (n) => Promise.resolve(n % 100));
await Promise.reject(new Error('expected')).catch((error) => { total += error.message.length });
store('total', { total, at: [1, 2, 3] });
text(load('total'));
