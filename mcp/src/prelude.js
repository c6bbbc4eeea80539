(servers => {
const bare = () => Object.create(null), flat = tools, all = bare(), parse = JSON.parse, NewError = Error;
const fail = (error, reason) => {
let message = reason, result;
try { const told = parse(reason); if (told && typeof told.message === "string") ({ message, result } = told); } catch {}
error.message = message;
error.stack = ["Error: " + message, ...String(error.stack).split("\n").slice(2)].join("\n");
if (result !== undefined) error.result = result;
throw error;
};
for (const name of Object.keys(flat)) {
const raw = flat[name];
const call = (...input) => { const error = new NewError(); return raw(...input).then(undefined, reason => fail(error, reason)); };
all[name] = call;
}
for (const name of Object.keys(flat)) {
const server = servers.find(each => name.startsWith(each + "__"));
if (server !== undefined) (all[server] ??= bare())[name.slice(server.length + 2)] = all[name];
}
all.search = (words, limit = 20) => {
const wanted = String(words).toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
const score = ({ name, description }) => { const [n, d] = [name.toLowerCase(), description.toLowerCase()]; return wanted.reduce((sum, word) => sum + (n.includes(word) ? 3 : d.includes(word) ? 1 : 0), 0); };
return ALL_TOOLS.map(tool => [score(tool), tool]).filter(([points]) => points > 0).sort((a, b) => b[0] - a[0]).slice(0, limit).map(([, tool]) => tool);
};
globalThis.tools = all;
if (all.scripts) globalThis.scripts = all.scripts;
})
