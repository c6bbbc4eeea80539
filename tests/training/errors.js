// Errors: thrown, caught, wrapped, with causes and stacks; finally, validation, early returns.
class AppError extends Error {
  constructor(message, options) { super(message, options); this.name = this.constructor.name; this.code = options?.code ?? 0 }
}
class NotFound extends AppError {}
class Invalid extends AppError { constructor(field, value) { super(`invalid ${field}: ${value}`, { code: 422 }); this.field = field } }
const validate = (record) => {
  if (typeof record !== 'object' || record === null) throw new TypeError('no record');
  if (!Number.isInteger(record.id)) throw new Invalid('id', record.id);
  if (!record.name?.length) throw new Invalid('name', record.name);
  return record;
};
const results = { ok: 0, invalid: 0, type: 0, other: 0, final: 0 };
const inputs = Array.from({ length: 900 }, (_, i) => (i % 9 === 0 ? null : i % 7 === 0 ? { id: i + 0.5 } : i % 5 === 0 ? { id: i, name: '' } : { id: i, name: 'n' + i }));
for (const input of inputs) {
  try { validate(input); results.ok++ }
  catch (error) { if (error instanceof Invalid) results.invalid += error.field.length; else if (error instanceof TypeError) results.type++; else results.other++ }
  finally { results.final++ }
}
const nested = (depth) => { if (depth === 0) throw new NotFound('deep', { code: 404 }); try { return nested(depth - 1) } catch (error) { if (depth % 3 === 0) throw new AppError(`at ${depth}`, { cause: error }); throw error } };
let causes = 0;
for (let i = 0; i < 60; i++) { try { nested(12) } catch (error) { for (let at = error; at; at = at.cause) causes++ } }
const early = (n) => { for (const m of [1, 2, 3]) { try { if (m === n) return m; continue } finally { results.final++ } } return -1 };
let returned = 0;
for (let i = 0; i < 3000; i++) returned += early(i % 5);
let caught = 0;
for (let i = 0; i < 400; i++) {
  try { switch (i % 5) { case 0: null.x; break; case 1: undefinedName; break; case 2: (void 0)(); break; case 3: new Array(-1); break; default: BigInt('x') } }
  catch ({ name, message }) { caught += name.length + message.length }
}
let lines = 0;
for (let i = 0; i < 60; i++) { try { validate({}) } catch (error) { lines += error.stack.split('\n').length } }
const attempt = (f) => { try { return { ok: true, value: f() } } catch (error) { return { ok: false, error: String(error) } } };
for (let i = 0; i < 500; i++) { const { ok, value, error } = attempt(() => (i % 4 ? i : JSON.parse('{bad'))); lines += ok ? value % 3 : error.length }
let failures = 0;
for (let i = 0; i < 300; i++) { try { await (async () => { if (i % 2) throw new AppError('async'); return i })() } catch { failures++ } }
label: for (let i = 0; i < 200; i++) { for (let j = 0; j < 20; j++) { if (j > i % 10) continue label; if (i > 190) break label; returned++ } }
text([...Object.values(results), causes, returned, caught, lines, failures].join());
