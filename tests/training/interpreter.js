// A small language: tokens, a recursive parser, an evaluator, a compiler to a stack machine.
const tokenise = (source) => {
  const tokens = [];
  for (let i = 0; i < source.length; ) {
    const c = source[i];
    if (c === ' ' || c === '\n') { i++; continue }
    if (c >= '0' && c <= '9') { let end = i; while (end < source.length && ((source[end] >= '0' && source[end] <= '9') || source[end] === '.')) end++; tokens.push({ type: 'number', value: +source.slice(i, end) }); i = end; continue }
    if (/[a-z_]/i.test(c)) { let end = i; while (end < source.length && /\w/.test(source[end])) end++; tokens.push({ type: 'name', value: source.substring(i, end) }); i = end; continue }
    const two = source.substr(i, 2);
    if (['==', '<=', '>=', '&&', '||'].includes(two)) { tokens.push({ type: 'mark', value: two }); i += 2; continue }
    tokens.push({ type: 'mark', value: c }); i++;
  }
  tokens.push({ type: 'end', value: '' });
  return tokens;
};
const strength = { '||': 1, '&&': 2, '==': 3, '<': 4, '>': 4, '<=': 4, '>=': 4, '+': 5, '-': 5, '*': 6, '/': 6, '%': 6 };
class Parser {
  constructor(tokens) { this.tokens = tokens; this.at = 0 }
  peek() { return this.tokens[this.at] }
  next() { return this.tokens[this.at++] }
  expect(value) { const token = this.next(); if (token.value !== value) throw new SyntaxError(`expected ${value}, found ${token.value}`); return token }
  program() { const body = []; while (this.peek().type !== 'end') body.push(this.statement()); return { type: 'block', body } }
  statement() {
    const { value } = this.peek();
    switch (value) {
      case 'while': { this.next(); this.expect('('); const test = this.expression(); this.expect(')'); return { type: 'while', test, body: this.statement() } }
      case 'if': { this.next(); this.expect('('); const test = this.expression(); this.expect(')'); const then = this.statement(); let other = null; if (this.peek().value === 'else') { this.next(); other = this.statement() } return { type: 'if', test, then, other } }
      case '{': { this.next(); const body = []; while (this.peek().value !== '}') body.push(this.statement()); this.next(); return { type: 'block', body } }
      default: { const name = this.next().value; this.expect('='); const expression = this.expression(); this.expect(';'); return { type: 'assign', name, expression } }
    }
  }
  expression(least = 0) {
    let left = this.primary();
    for (let s; (s = strength[this.peek().value]) > least; ) { const { value: operator } = this.next(); left = { type: 'binary', operator, left, right: this.expression(s) } }
    return left;
  }
  primary() {
    const token = this.next();
    if (token.type === 'number') return { type: 'number', value: token.value };
    if (token.type === 'name') return { type: 'variable', name: token.value };
    if (token.value === '(') { const inner = this.expression(); this.expect(')'); return inner }
    if (token.value === '-') return { type: 'binary', operator: '-', left: { type: 'number', value: 0 }, right: this.primary() };
    throw new SyntaxError('unexpected ' + token.value);
  }
}
const operators = { '+': (a, b) => a + b, '-': (a, b) => a - b, '*': (a, b) => a * b, '/': (a, b) => a / b, '%': (a, b) => a % b, '<': (a, b) => a < b, '>': (a, b) => a > b, '<=': (a, b) => a <= b, '>=': (a, b) => a >= b, '==': (a, b) => a === b, '&&': (a, b) => a && b, '||': (a, b) => a || b };
const evaluate = (node, scope) => {
  switch (node.type) {
    case 'number': return node.value;
    case 'variable': if (!(node.name in scope)) throw new ReferenceError(node.name); return scope[node.name];
    case 'binary': return operators[node.operator](evaluate(node.left, scope), evaluate(node.right, scope));
    case 'assign': return (scope[node.name] = evaluate(node.expression, scope));
    case 'if': return evaluate(node.test, scope) ? evaluate(node.then, scope) : node.other && evaluate(node.other, scope);
    case 'while': while (evaluate(node.test, scope)) evaluate(node.body, scope); return;
    case 'block': for (const statement of node.body) evaluate(statement, scope);
  }
};
const compile = (node, code = []) => {
  if (node.type === 'number') code.push(['push', node.value]);
  else if (node.type === 'variable') code.push(['load', node.name]);
  else { compile(node.left, code); compile(node.right, code); code.push(['apply', node.operator]) }
  return code;
};
const run = (code, scope) => { const stack = []; for (const [action, value] of code) { if (action === 'push') stack.push(value); else if (action === 'load') stack.push(scope[value]); else { const right = stack.pop(), left = stack.pop(); stack.push(operators[value](left, right)) } } return stack.pop() };
const source = 'n = 27; steps = 0; while (n > 1) { if (n % 2 == 0) n = n / 2; else n = 3 * n + 1; steps = steps + 1; } i = 0; sum = 0; while (i < 300) { sum = sum + (i * 7 - i / 2) % 5; i = i + 1; }';
let total = 0;
for (let i = 0; i < 4; i++) { const scope = {}; evaluate(new Parser(tokenise(source)).program(), scope); total += scope.steps + Math.round(scope.sum) }
for (let i = 0; i < 20; i++) total += tokenise(source).length;
const code = compile(new Parser(tokenise('a * (b + 3) - c / 2 + a * a - (b - c) * (a + 1)')).expression());
for (let i = 0; i < 900; i++) total += run(code, { a: i, b: 2, c: 4 });
const machine = (program, limit) => { const registers = [0, 0, 0]; let at = 0; while (at < program.length && limit-- > 0) { const [op, a, b] = program[at++]; switch (op) { case 0: registers[a] = b; break; case 1: registers[a] += registers[b]; break; case 2: registers[a]--; break; case 3: if (registers[a] > 0) at = b; break; default: at = program.length } } return registers };
total += machine([[0, 0, 0], [0, 1, 3], [0, 2, 4000], [1, 0, 1], [2, 2], [3, 2, 3], [9]], 50000)[0];
text(total);
