// Sorting by the engine and by hand, with comparators of all kinds; searching what is sorted.
let seed = 11;
const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff);
const numbers = Array.from({ length: 6000 }, () => random() % 100000);
const people = Array.from({ length: 2500 }, (_, id) => ({ id, team: random() % 12, age: random() % 70, name: 'p' + (random() % 5000) }));
const sorted = [...numbers].sort((a, b) => a - b);
const descending = numbers.toSorted((a, b) => b - a);
const asText = numbers.slice(0, 2000).sort();
const names = people.map(({ name }) => name).sort();
const byTeam = people.toSorted((a, b) => a.team - b.team || b.age - a.age || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
const by = (...keys) => (a, b) => { for (const key of keys) { if (a[key] < b[key]) return -1; if (a[key] > b[key]) return 1 } return 0 };
const again = [...people].sort(by('age', 'name', 'id'));
const quick = (items, from = 0, to = items.length - 1) => {
  while (from < to) {
    const pivot = items[(from + to) >> 1];
    let i = from, j = to;
    while (i <= j) { while (items[i] < pivot) i++; while (items[j] > pivot) j--; if (i <= j) { const kept = items[i]; items[i++] = items[j]; items[j--] = kept } }
    if (j - from < to - i) { quick(items, from, j); from = i } else { quick(items, i, to); to = j }
  }
  return items;
};
const merge = (items) => {
  if (items.length < 2) return items;
  const middle = items.length >> 1, left = merge(items.slice(0, middle)), right = merge(items.slice(middle)), out = [];
  let i = 0, j = 0;
  while (i < left.length && j < right.length) out.push(left[i] <= right[j] ? left[i++] : right[j++]);
  return out.concat(left.slice(i), right.slice(j));
};
class Heap {
  constructor(before) { this.items = []; this.before = before }
  push(item) {
    const { items, before } = this;
    let at = items.push(item) - 1;
    while (at > 0) { const up = (at - 1) >> 1; if (!before(items[at], items[up])) break; [items[at], items[up]] = [items[up], items[at]]; at = up }
  }
  pop() {
    const { items, before } = this, top = items[0], last = items.pop();
    if (items.length) {
      items[0] = last;
      for (let at = 0; ; ) { let child = 2 * at + 1; if (child >= items.length) break; if (child + 1 < items.length && before(items[child + 1], items[child])) child++; if (!before(items[child], items[at])) break; [items[at], items[child]] = [items[child], items[at]]; at = child }
    }
    return top;
  }
}
const heap = new Heap((a, b) => a < b);
for (const number of numbers.slice(0, 1500)) heap.push(number);
const drawn = [];
while (heap.items.length) drawn.push(heap.pop());
const find = (items, wanted) => { let low = 0, high = items.length; while (low < high) { const middle = (low + high) >>> 1; if (items[middle] < wanted) low = middle + 1; else high = middle } return low };
let found = 0;
for (let i = 0; i < 4000; i++) if (sorted[find(sorted, i * 25)] === i * 25) found++;
const bubble = numbers.slice(0, 120);
for (let i = 0; i < bubble.length; i++) for (let j = 0; j + 1 < bubble.length - i; j++) if (bubble[j] > bubble[j + 1]) { const kept = bubble[j]; bubble[j] = bubble[j + 1]; bubble[j + 1] = kept }
const same = (a, b) => a.length === b.length && a.every((item, at) => item === b[at]);
text([same(quick([...numbers]), sorted), same(merge(numbers), sorted), same(descending.reverse(), sorted), asText[7], names[7], byTeam[9].id, again[9].id, drawn.length, found, bubble[5]].join());
