// Arrays: every usual method, loops by index and by iterator, matrices, queues, chunks, holes.
const numbers = Array.from({ length: 4000 }, (_, i) => (i * 7919) % 1009);
let total = 0;
for (let round = 0; round < 5; round++) {
  total += numbers.map((n) => n * 2).filter((n) => n % 3 === 0).reduce((a, b) => a + b, 0);
  total += numbers.findIndex((n) => n === 500 + round) + numbers.indexOf(1008) + numbers.lastIndexOf(3) + +numbers.includes(77);
  total += +numbers.some((n) => n > 1007) + +numbers.every((n) => n < 1009) + numbers.find((n) => n > 900);
  numbers.forEach((n, at) => { if (n === at) total++ });
  for (let i = 0; i < numbers.length; i++) total += numbers[i] & 1;
  for (const n of numbers) total += n & 2;
}
const nested = Array.from({ length: 300 }, (_, i) => [i, [i + 1, [i + 2]]]);
total += nested.flat(Infinity).length + nested.flatMap(([first]) => [first, -first]).length;
const chunk = (items, size) => { const out = []; for (let i = 0; i < items.length; i += size) out.push(items.slice(i, i + size)); return out };
const zip = (...lists) => lists[0].map((_, i) => lists.map((list) => list[i]));
total += chunk(numbers, 7).length + zip(numbers.slice(0, 500), numbers.slice(500, 1000)).length;
const queue = [];
for (let i = 0; i < 4000; i++) { queue.push(i); if (i % 3 === 0) total += queue.shift(); if (i % 97 === 0) queue.unshift(i); if (i % 5 === 0) total -= queue.pop() }
const edited = numbers.slice(0, 600);
for (let i = 0; i < 200; i++) { edited.splice(i % 300, 2, i, i + 1, i + 2); edited.splice((i * 3) % 300, 1) }
const matrix = (rows, columns, f) => Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => f(r, c)));
const multiply = (a, b) => a.map((row) => b[0].map((_, c) => row.reduce((sum, value, k) => sum + value * b[k][c], 0)));
const m = multiply(matrix(18, 18, (r, c) => r + c), matrix(18, 18, (r, c) => r * c));
const transposed = m[0].map((_, c) => m.map((row) => row[c]));
total += transposed.flat().reduce((a, b) => a + b, 0) % 1000;
const unique = [...new Set(numbers)], counted = unique.map((n) => [n, 0]);
const [low, high] = numbers.reduce(([a, b], n) => [Math.min(a, n), Math.max(b, n)], [Infinity, -Infinity]);
const groups = numbers.reduce((all, n) => { (all[n % 10] ||= []).push(n); return all }, {});
const triangle = [[1]];
for (let i = 1; i < 60; i++) triangle.push([1, ...triangle[i - 1].slice(1).map((n, k) => (n + triangle[i - 1][k]) % 1000), 1]);
const holes = [1, , 3]; holes[10] = 11; holes.length = 8;
const filled = new Array(1000).fill(0).map((_, i) => i).reverse().concat([1, 2], 3).copyWithin(0, 5, 10).with(3, 9);
let running = 0;
const sums = numbers.map((n) => (running += n));
const two = (items, wanted) => { const seen = {}; for (let i = 0; i < items.length; i++) { const other = wanted - items[i]; if (seen[other] !== undefined) return [seen[other], i]; seen[items[i]] = i } };
for (let i = 0; i < 30; i++) total += two(numbers, 900 + i)?.[1] ?? 0;
const text1 = numbers.slice(0, 2000).join(',').split(',').map(Number).filter(Boolean).length;
total += numbers.at(-1) + Array.isArray(groups[1]) + filled.length + holes.length + numbers.entries().next().value[1];
const board = matrix(40, 40, () => '.');
for (let i = 0; i < 900; i++) board[(i * 17) % 40][(i * 5) % 40] = '#';
const flood = (r, c) => { if (board[r]?.[c] !== '.') return 0; board[r][c] = 'x'; return 1 + flood(r + 1, c) + flood(r - 1, c) + flood(r, c + 1) + flood(r, c - 1) };
text([total, edited.length, counted.length, low, high, triangle[59].length, sums.at(-1), text1, flood(0, 1), board.map((row) => row.join('')).join('\n').length].join());
