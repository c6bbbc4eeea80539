// Functions as values: closures, currying, memoisation, rest and default parameters, bind.
const counter = () => { let n = 0; return { next: () => ++n, add: (by = 2) => (n += by), get value() { return n } } };
const compose = (...functions) => (value) => functions.reduceRight((result, f) => f(result), value);
const curry = (f) => function next(...given) {
  return given.length >= f.length ? f(...given) : (...more) => next(...given, ...more);
};
const memoise = (f, known = new Map()) => (n) => {
  if (!known.has(n)) known.set(n, f(n));
  return known.get(n);
};
const counters = Array.from({ length: 50 }, counter);
let total = 0;
for (let round = 0; round < 400; round++) {
  for (const one of counters) { total += one.next(); one.add(); total += one.add(round % 7) + one.value }
}
const increment = (n) => n + 1, double = (n) => n * 2, clip = (n) => n % 1009;
const all = compose(increment, double, clip, increment);
for (let i = 0; i < 12000; i++) total += all(i);
const volume = curry((a, b, c) => a * b + c);
for (let i = 0; i < 2500; i++) total += volume(i)(2)(3) + volume(i, 2)(3) + volume(1, 2, i);
const stairs = memoise((n) => (n < 2 ? 1 : stairs(n - 1) + stairs(n - 2)));
total += stairs(70) % 1000;
function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2) }
function ackermann(m, n) { return m === 0 ? n + 1 : n === 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1)) }
total += fibonacci(19) + ackermann(2, 60);
function scale(by, offset) { return this.base * by + offset }
const bound = scale.bind({ base: 3 }, 5);
for (let i = 0; i < 6000; i++) total += bound(i) + scale.call({ base: i }, 2, 1) + scale.apply({ base: 1 }, [i, 2]);
function sum() { let s = 0; for (let i = 0; i < arguments.length; i++) s += arguments[i]; return s }
for (let i = 0; i < 4000; i++) total += sum(i, 1, 2, 3) + Math.max(...[i, 7, 9]);
const listeners = {};
const on = (event, f) => (listeners[event] ??= []).push(f);
const emit = (event, ...values) => listeners[event]?.forEach((f) => f(...values));
on('tick', (n) => { total += n }); on('tick', (n, m) => { total -= m });
for (let i = 0; i < 3000; i++) emit('tick', i, i - 1);
text(total);
