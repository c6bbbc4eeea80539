// What the guide says first is true, and the example prints what it should.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const repository = `${process.env.CELLBLOCK_PACKAGES}/..`;
// Modules are looked up from where a program lies.
const folder = dirname(fileURLToPath(import.meta.url));

function run(name: string, source: string): string {
  writeFileSync(join(folder, name), source);
  const ran = spawnSync(process.execPath, [join(folder, name)], { encoding: "utf8" });
  assert.deepEqual([ran.stderr, ran.status], ["", 0]);
  return ran.stdout;
}

for (const page of ["docs/node.md", "packages/node/README.md"]) {
  test(`the first program prints what ${page} says`, () => {
    const text = readFileSync(join(repository, page), "utf8");
    const found = text.match(/```js\n(.*?)```.*?prints `([^`]*)`/s);
    assert.ok(found);
    const [, program = "", printed] = found;
    assert.ok(program.split("\n").filter(Boolean).length <= 10);
    assert.equal(run("first.mjs", program), `${printed}\n`);
  });
}

test("the example of the AI SDK", {
  skip: Number(process.versions.node.split(".")[0]) < 22,
}, () => {
  const source = readFileSync(join(repository, "examples/node/with-ai-sdk.js"), "utf8");
  assert.equal(run("example.mjs", source), 'code\n{"remaining":11}\n');
});
