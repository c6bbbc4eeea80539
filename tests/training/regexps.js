// Regular expressions: tokenisers, captures, names, replacement functions, splitting, flags.
let page = '';
for (let i = 0; i < 700; i++) page += `<a href="https://site${i % 20}.example.org/p/${i}?q=${i * 3}">Item #${i}</a> costs $${(i * 1.37).toFixed(2)} since ${2000 + (i % 25)}-${String(1 + (i % 12)).padStart(2, '0')}-${String(1 + (i % 28)).padStart(2, '0')}; mail user.${i}@mail${i % 9}.net\n`;
let total = 0;
for (const { groups: { host, path } } of page.matchAll(/https?:\/\/(?<host>[\w.-]+)(?<path>\/[^\s"?]*)/g)) total += host.length + path.length;
const dates = page.match(/\b\d{4}-\d{2}-\d{2}\b/g) ?? [];
const mails = page.match(/[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}/gi) ?? [];
const text1 = page.replace(/<[^>]+>/g, '').replace(/\s+/g, ' ').replace(/&(lt|gt|amp);/g, (_, name) => ({ lt: '<', gt: '>', amp: '&' })[name]);
const priced = page.replace(/\$(\d+)\.(\d{2})/g, (_, whole, cents) => `${whole},${cents} EUR`);
const turned = page.replace(/(\d{4})-(\d{2})-(\d{2})/g, '$3.$2.$1');
const fields = page.split(/\s*;\s*|\n/);
const token = /\s*(?:(\d+\.?\d*)|([A-Za-z_]\w*)|(==|<=|>=|&&|\|\||[-+*\/()<>=,;{}]))/y;
const source = 'let total = price * (1 + rate) - discount; if (total >= 100 && member == 1) { total = total * 0.95; } '.repeat(40);
let numbers = 0, names = 0, marks = 0;
for (token.lastIndex = 0; token.lastIndex < source.length; ) {
  const match = token.exec(source);
  if (!match) break;
  if (match[1] !== undefined) numbers++; else if (match[2] !== undefined) names++; else marks++;
}
const camel = (name) => name.replace(/[-_](\w)/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => '_' + letter.toLowerCase()).replace(/^_/, '');
for (let i = 0; i < 700; i++) total += camel(`some-long_name-${i}`).length + snake(`someLongName${i}`).length;
const strong = /^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)(?!.*\s).{8,}$/;
for (let i = 0; i < 700; i++) if (strong.test(`Pass${i % 3 ? 'word' : ' word'}${i}`)) total++;
const log = /^\[(?<level>INFO|WARN|ERROR)\]\s+(?<at>\d+:\d+)\s+(?<said>.*)$/gm;
const logs = Array.from({ length: 500 }, (_, i) => `[${['INFO', 'WARN', 'ERROR'][i % 3]}] ${i % 24}:${i % 60} something happened ${i}`).join('\n');
const levels = {};
for (let match; (match = log.exec(logs)); ) levels[match.groups.level] = (levels[match.groups.level] ?? 0) + match.groups.said.length;
const markdown = '# Title\n\nSome **bold** and *slanted* text with `code` and [a link](http://x.y/z).\n\n- one\n- two\n'.repeat(40)
  .replace(/^# (.*)$/gm, '<h1>$1</h1>').replace(/\*\*(.+?)\*\*/g, '<b>$1</b>').replace(/\*(.+?)\*/g, '<i>$1</i>').replace(/`([^`]+)`/g, '<code>$1</code>').replace(/\[([^\]]+)\]\(([^)]+)\)/g, '<a href="$2">$1</a>').replace(/^- (.*)$/gm, '<li>$1</li>');
const unicode = ('Ünïcödé слова 日本語 42 '.repeat(60).match(/\p{L}+/gu) ?? []).length;
const nested = (page.match(/(?<=#)\d+(?=<)/g) ?? []).length + (/(\w)\1/.exec(page)?.index ?? 0) + page.search(/zzz|costs/);
text([total, dates.length, mails.length, text1.length, priced.length, turned.length, fields.length, numbers, names, marks, Object.values(levels).join(':'), markdown.length, unicode, nested].join());
