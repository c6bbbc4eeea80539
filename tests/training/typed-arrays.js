// Bytes and numbers in typed arrays: sieve, matrices, checksums, base64, views, sorting.
const sieve = new Uint8Array(40000).fill(1);
for (let i = 2; i * i < sieve.length; i++) if (sieve[i]) for (let j = i * i; j < sieve.length; j += i) sieve[j] = 0;
let primes = 0;
for (let i = 2; i < sieve.length; i++) primes += sieve[i];
const size = 28, left = new Float64Array(size * size), right = new Float64Array(size * size), product = new Float64Array(size * size);
for (let i = 0; i < left.length; i++) { left[i] = i % 7; right[i] = (i * 3) % 5 }
for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
  let sum = 0;
  for (let k = 0; k < size; k++) sum += left[i * size + k] * right[k * size + j];
  product[i * size + j] = sum;
}
const table = new Uint32Array(256).map((_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n });
const crc = (bytes) => { let c = -1; for (const byte of bytes) c = table[(c ^ byte) & 255] ^ (c >>> 8); return (c ^ -1) >>> 0 };
const bytes = new Uint8Array(12000);
for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31) ^ (i >> 3);
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const base64 = (data) => {
  let out = '';
  for (let i = 0; i < data.length; i += 3) {
    const n = (data[i] << 16) | ((data[i + 1] ?? 0) << 8) | (data[i + 2] ?? 0);
    out += alphabet[n >> 18] + alphabet[(n >> 12) & 63] + alphabet[(n >> 6) & 63] + alphabet[n & 63];
  }
  return out;
};
const utf8 = (text) => { const out = []; for (const c of text) { const p = c.codePointAt(0); if (p < 128) out.push(p); else if (p < 2048) out.push(192 | (p >> 6), 128 | (p & 63)); else out.push(224 | (p >> 12), 128 | ((p >> 6) & 63), 128 | (p & 63)) } return Uint8Array.from(out) };
const rotate = (x, n) => (x >>> n) | (x << (32 - n));
const mix = (data) => {
  let a = 0x6a09e667, b = 0xbb67ae85, c = 0x3c6ef372, d = 0xa54ff53a;
  for (let i = 0; i < data.length; i++) {
    const t = (rotate(a, 6) ^ rotate(b, 11) ^ rotate(c, 25)) + ((a & b) ^ (~a & c)) + data[i] + d;
    d = c; c = b; b = a; a = (t + Math.imul(d, 0x9e3779b1)) | 0;
  }
  return (a ^ b ^ c ^ d) >>> 0;
};
const view = new DataView(new ArrayBuffer(4096));
let read = 0;
for (let i = 0; i + 8 <= 4096; i += 8) { view.setUint16(i, i, true); view.setInt32(i + 4, -i); read += view.getUint16(i, true) + view.getInt32(i + 4) + view.getUint8(i + 1) }
const samples = Float32Array.from({ length: 3000 }, (_, i) => Math.sin(i) * 100).sort();
const histogram = new Int32Array(16);
for (const sample of samples) histogram[Math.min(15, Math.max(0, Math.floor((sample + 100) / 12.5)))]++;
const grid = Array.from({ length: 48 }, (_, y) => Uint8Array.from({ length: 48 }, (_, x) => (x * y + x) % 3 === 0));
const life = (cells) => cells.map((row, y) => row.map((alive, x) => { let n = 0; for (let dy = -1; dy < 2; dy++) for (let dx = -1; dx < 2; dx++) if (dx || dy) n += cells[y + dy]?.[x + dx] ?? 0; return n === 3 || (alive && n === 2) ? 1 : 0 }));
const next = life(life(grid)).reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0);
text([primes, product.reduce((a, b) => a + b, 0), crc(bytes), base64(bytes).length, crc(utf8('héllo wörld € '.repeat(80))), mix(bytes), read, histogram.join(':'), next, bytes.subarray(10, 90).slice().set.length].join());
