// Numbers: integers, floats, bits, formatting and parsing, big integers, simulation.
let total = 0;
for (let i = 0; i < 60000; i++) { total += i % 7; total ^= i; total = (total + (i << 3)) | 0 }
let mean = 0, squares = 0;
for (let i = 1; i <= 20000; i++) { const value = Math.sin(i) * 10 + i / 3; const delta = value - mean; mean += delta / i; squares += delta * (value - mean) }
const gcd = (a, b) => { while (b) [a, b] = [b, a % b]; return a };
for (let i = 1; i < 1500; i++) total += gcd(i * 12, 360360);
const isPrime = (n) => { if (n < 2) return false; for (let d = 2; d * d <= n; d++) if (n % d === 0) return false; return true };
let primes = 0;
for (let i = 0; i < 4000; i++) if (isPrime(i)) primes++;
let inside = 0;
for (let y = -12; y < 12; y++) for (let x = -20; x < 10; x++) { let a = 0, b = 0, n = 0; while (a * a + b * b < 4 && n < 40) { const next = a * a - b * b + x / 12; b = 2 * a * b + y / 12; a = next; n++ } if (n === 40) inside++ }
const bodies = Array.from({ length: 5 }, (_, i) => ({ x: i, y: i * 0.5, vx: 0, vy: i * 0.1, mass: 1 + i }));
for (let step = 0; step < 250; step++) {
  for (const a of bodies) for (const b of bodies) { if (a === b) continue; const dx = b.x - a.x, dy = b.y - a.y, d = Math.sqrt(dx * dx + dy * dy + 0.01); a.vx += (b.mass * dx) / (d * d * d) * 0.001; a.vy += (b.mass * dy) / (d * d * d) * 0.001 }
  for (const body of bodies) { body.x += body.vx * 0.01; body.y += body.vy * 0.01 }
}
let characters = 0;
for (let i = 0; i < 2500; i++) characters += (i * 1.005).toFixed(2).length + String(i / 7).length + i.toString(2).length + (i * 255).toString(16).length + (i * 1e15).toPrecision(5).length + `${i}`.length;
let parsed = 0;
for (let i = 0; i < 2500; i++) parsed += parseInt('0' + i, 10) + parseFloat(i + '.25') + Number(i + 'e1') + +('' + i) + parseInt(i.toString(36), 36);
let power = 1n;
for (let i = 1n; i < 120n; i++) power *= i;
const digits = power.toString().length;
const modular = (base, exponent, modulus) => { let result = 1n; base %= modulus; while (exponent > 0n) { if (exponent & 1n) result = (result * base) % modulus; exponent >>= 1n; base = (base * base) % modulus } return result };
for (let i = 0n; i < 20n; i++) parsed += Number(modular(3n + i, 65537n, 1000000007n) % 100n);
const bits = (n) => { let count = 0; while (n) { n &= n - 1; count++ } return count };
for (let i = 0; i < 5000; i++) total += bits(i) + Math.clz32(i) + (i >>> 2) + ~~(i / 3) + Math.round(i / 4) + Math.floor(-i / 5) + Math.abs(-i) + Math.trunc(i / 6) + Math.min(i, 9, 3) + Math.max(i, 4);
const collatz = (n) => { let steps = 0; while (n !== 1) { n = n % 2 ? 3 * n + 1 : n / 2; steps++ } return steps };
let longest = 0;
for (let i = 1; i < 700; i++) longest = Math.max(longest, collatz(i));
const interest = (amount, rate, years) => { for (let i = 0; i < years; i++) amount = Math.round(amount * (1 + rate / 100) * 100) / 100; return amount };
for (let i = 0; i < 300; i++) mean += interest(i, 3.5, 20);
text([total, mean.toFixed(3), Math.sqrt(squares).toFixed(3), primes, inside, bodies[0].x.toFixed(6), characters, parsed, digits, longest, Number.isInteger(5.0), Number.MAX_SAFE_INTEGER, (0.1 + 0.2).toFixed(10), (1234567.891).toLocaleString()].join());
