// Text: building, templates, cutting, searching, replacing, cases, padding, code units.
let log = '';
for (let i = 0; i < 9000; i++) log += 'line ' + i + (i % 3 ? ' ok' : ' failed') + '\n';
const lines = log.split('\n');
const failed = lines.filter((line) => line.endsWith('failed')).map((line) => line.slice(5, line.indexOf(' ', 5)));
const parts = [];
for (let i = 0; i < 6000; i++) parts.push(`${i}:${i * 2}/${(i / 3).toFixed(1)}`);
const joined = parts.join('|');
let hash = 5381;
for (let i = 0; i < joined.length; i += 3) hash = ((hash << 5) + hash + joined.charCodeAt(i)) | 0;
const titles = lines.slice(0, 2500).map((line) => line.split(' ').map((word) => word.charAt(0).toUpperCase() + word.slice(1).toLowerCase()).join(' '));
const slug = (title) => title.toLowerCase().trim().replaceAll(' ', '-').replace('--', '-');
const table = titles.slice(0, 800).map((title, at) => `| ${String(at).padStart(5, '0')} | ${title.padEnd(24)} | ${slug(title)} |`).join('\n');
let palindromes = 0;
for (let i = 0; i < 4000; i++) { const digits = String(i); if (digits === [...digits].reverse().join('')) palindromes++ }
const caesar = (plain, by) => { let out = ''; for (const c of plain) { const code = c.charCodeAt(0); out += code >= 97 && code <= 122 ? String.fromCharCode(((code - 97 + by) % 26) + 97) : c } return out };
const secret = caesar(log.slice(0, 9000), 7);
const distance = (a, b) => {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
};
const far = distance('the quick brown fox jumps over', 'a quack brawn fax jumped under it');
const wide = 'naïve café — 日本語 🦀 '.repeat(150);
let points = 0;
for (const c of wide) points += c.codePointAt(0) & 15;
const csv = 'id,name,note\n' + Array.from({ length: 700 }, (_, i) => `${i},"name, ${i}","said ""${i}"""`).join('\n');
const rows = [];
for (const line of csv.split('\n')) {
  const fields = []; let field = '', quoted = false;
  for (let i = 0; i < line.length; i++) {
    const c = line[i];
    if (quoted) { if (c === '"') { if (line[i + 1] === '"') { field += '"'; i++ } else quoted = false } else field += c }
    else if (c === '"') quoted = true; else if (c === ',') { fields.push(field); field = '' } else field += c;
  }
  fields.push(field); rows.push(fields);
}
const escape = (value) => value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
const html = rows.slice(0, 300).map((row) => `<tr>${row.map((cell) => `<td>${escape(cell)}</td>`).join('')}</tr>`).join('');
let common = 0;
for (let i = 1; i < 2000; i++) { if (lines[i] > lines[i - 1]) common++; if (lines[i].includes('99') || lines[i].startsWith('line 1')) common++; if (lines[i].localeCompare(lines[i - 1]) < 0) common-- }
let reversed = '';
for (let i = 1200; i--; ) reversed += log[i];
const bytes = encodeURIComponent(wide.slice(0, 600)).length + decodeURIComponent('%C3%A9%20'.repeat(100)).length;
text([failed.length, hash, table.length, palindromes, secret.length, far, points, rows.length, html.length, common, reversed.length, bytes, wide.toUpperCase().normalize('NFD').length, 'ab'.repeat(5000).lastIndexOf('a'), lines.concat().join(',').substring(5, 900).length].join());
