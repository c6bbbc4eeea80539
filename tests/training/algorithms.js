// Graphs, dynamic programming, backtracking, and other textbook work.
const graph = new Map();
for (let i = 0; i < 250; i++) graph.set(i, [[(i * 7 + 1) % 250, 3 + (i % 5)], [(i * 3 + 2) % 250, 1 + (i % 9)], [(i + 1) % 250, 7]]);
const dijkstra = (from) => {
  const distance = Array(250).fill(Infinity), queue = [[0, from]];
  distance[from] = 0;
  while (queue.length) {
    queue.sort((a, b) => b[0] - a[0]);
    const [so, at] = queue.pop();
    if (so > distance[at]) continue;
    for (const [to, cost] of graph.get(at)) { const sum = so + cost; if (sum < distance[to]) { distance[to] = sum; queue.push([sum, to]) } }
  }
  return distance;
};
const breadth = (from) => { const seen = new Set([from]); let edge = [from], depth = 0; while (edge.length) { depth++; const next = []; for (const at of edge) for (const [to] of graph.get(at)) if (!seen.has(to)) { seen.add(to); next.push(to) } edge = next } return depth };
class Union { constructor(n) { this.parent = Array.from({ length: n }, (_, i) => i) } find(x) { while (this.parent[x] !== x) { this.parent[x] = this.parent[this.parent[x]]; x = this.parent[x] } return x } join(a, b) { this.parent[this.find(a)] = this.find(b) } }
const union = new Union(2000);
for (let i = 0; i < 3000; i++) union.join((i * 17) % 2000, (i * 31) % 2000);
const common = (a, b) => { const table = Array.from({ length: a.length + 1 }, () => new Array(b.length + 1).fill(0)); for (let i = 1; i <= a.length; i++) for (let j = 1; j <= b.length; j++) table[i][j] = a[i - 1] === b[j - 1] ? table[i - 1][j - 1] + 1 : Math.max(table[i - 1][j], table[i][j - 1]); return table[a.length][b.length] };
const knapsack = (items, room) => { const best = new Array(room + 1).fill(0); for (const { weight, value } of items) for (let w = room; w >= weight; w--) best[w] = Math.max(best[w], best[w - weight] + value); return best[room] };
const queens = (n, row = 0, columns = 0, left = 0, right = 0) => { if (row === n) return 1; let count = 0; for (let c = 0; c < n; c++) { const bit = 1 << c; if (columns & bit || left & (1 << (row + c)) || right & (1 << (row - c + n))) continue; count += queens(n, row + 1, columns | bit, left | (1 << (row + c)), right | (1 << (row - c + n))) } return count };
const hanoi = (n, from, to, by) => (n === 0 ? 0 : hanoi(n - 1, from, by, to) + 1 + hanoi(n - 1, by, to, from));
const subsets = (items) => items.reduce((all, item) => all.concat(all.map((one) => [...one, item])), [[]]);
const order = (edges) => { const degree = {}, out = []; for (const [a, b] of edges) { degree[a] ??= 0; degree[b] = (degree[b] ?? 0) + 1 } const ready = Object.keys(degree).filter((k) => degree[k] === 0); while (ready.length) { const at = ready.shift(); out.push(at); for (const [a, b] of edges) if (a === at && --degree[b] === 0) ready.push(b) } return out };
const trie = {};
for (let i = 0; i < 500; i++) { let at = trie; for (const c of 'word' + i.toString(7)) at = at[c] ??= {}; at.end = i }
const lookup = (word) => { let at = trie; for (const c of word) { at = at[c]; if (!at) return -1 } return at.end ?? -1 };
let found = 0;
for (let i = 0; i < 900; i++) if (lookup('word' + i.toString(7)) === i) found++;
const sudoku = '530070000600195000098000060800060003400803001700020006060000280000419005000080079'.split('').map(Number);
const fits = (cells, at, digit) => { const row = Math.floor(at / 9), column = at % 9; for (let i = 0; i < 9; i++) { if (cells[row * 9 + i] === digit || cells[i * 9 + column] === digit) return false; const box = (Math.floor(row / 3) * 3 + Math.floor(i / 3)) * 9 + Math.floor(column / 3) * 3 + (i % 3); if (cells[box] === digit) return false } return true };
let tried = 0;
const solve = (cells) => { const at = cells.indexOf(0); if (at < 0) return true; for (let digit = 1; digit <= 9; digit++) { if (++tried > 2500) return true; if (fits(cells, at, digit)) { cells[at] = digit; if (solve(cells)) return true; cells[at] = 0 } } return false };
solve(sudoku);
text([dijkstra(0).reduce((a, b) => a + b, 0), breadth(5), new Set(Array.from({ length: 2000 }, (_, i) => union.find(i))).size, common('abcbdabxyzzyabcbdabfoo'.repeat(3), 'bdcabaxyzbdcabbar'.repeat(3)), knapsack(Array.from({ length: 25 }, (_, i) => ({ weight: 3 + (i % 7), value: (i * 13) % 29 })), 300), queens(6), hanoi(10, 'a', 'b', 'c'), subsets([...'abcdefghij']).length, order(Array.from({ length: 80 }, (_, i) => [`n${i}`, `n${i + 1 + (i % 3)}`])).length, found, tried].join());
