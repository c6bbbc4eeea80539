// What models read: how to write a program, and what became of one.

import { spawnSync } from "node:child_process";
import { binary } from "./host.js";
import type { Result } from "./result.js";
import type { Definition, Toolbox } from "./tools.js";

/** Bytes of output that a model reads; about ten thousand tokens. */
const MAX_OUTPUT_BYTES = 40_000;

/** Sets of tools whose declarations are remembered. */
const CACHED = 64;

/** Milliseconds that the declarations may take. */
const PATIENCE_MS = 30_000;

const PROSE = `\
Runs a JavaScript program that calls tools, combines what they return, and returns only what matters.
- \`await\` and \`return\` work at the top level. The program's result is what it returns, or else its last expression, as JSON; \`text(value)\` prints besides, \`image(dataUrl)\` shows an image.
- Tools are methods of \`tools\`: each takes one object and returns a promise. When a call fails it rejects with an \`Error\`. Make independent calls together, with \`Promise.all\`.
- There is no Node, no file system, no network, no \`console\` and no \`import\`. TypeScript is allowed; types are not checked.
- Nothing is left for the next program but what \`store(key, value)\` keeps, which \`load(key)\` returns.
`;

const declarations = new Map<string, string>();

/** How to write a program that calls these tools, for the description of a tool. */
export function describe(tools: Toolbox): string {
  const key = JSON.stringify(tools.definitions);
  let declared = declarations.get(key);
  if (declared === undefined) {
    declared = declare(tools.definitions);
    declarations.set(key, declared);
    const [oldest] = declarations.keys();
    if (declarations.size > CACHED && oldest !== undefined) declarations.delete(oldest);
  }
  return `${PROSE}\n\`\`\`ts\n${declared}\n\`\`\``;
}

/** The declaration of `tools` in TypeScript, which the program of the sandbox makes. */
function declare(definitions: readonly Definition[]): string {
  const listed = definitions.map(({ name, description, input_schema, output_schema }) => ({
    name,
    description,
    input_schema,
    output_schema,
  }));
  try {
    const command = ["tools", "--tools", "-", "--format", "ts"];
    const options = { input: JSON.stringify({ tools: listed }), timeout: PATIENCE_MS };
    const { status, stdout } = spawnSync(binary(), command, options);
    const at = stdout?.indexOf("declare const tools") ?? -1;
    if (status === 0 && at >= 0) return stdout.toString("utf8", at).trim();
  } catch {
    // There is no program here.
  }
  // Where the sandbox is on another machine only: names and schemas say the same.
  return listed.map((each) => `// tools.${each.name}: ${JSON.stringify(each)}`).join("\n");
}

/** What a model reads of a result, images and audio aside. */
export function render(result: Result, maxOutputBytes = MAX_OUTPUT_BYTES): string {
  const parts: string[] = [];
  if (result.text) parts.push(result.text);
  if (result.valueKey !== undefined) {
    const key = JSON.stringify(result.valueKey);
    parts.push(`The result is long, and is stored: a later program gets it with load(${key}).`);
  } else if (result.value !== undefined) {
    parts.push(`Result:\n${JSON.stringify(result.value)}`);
  }
  if (result.valueError) {
    parts.push(`The program has a result that cannot be shown: ${result.valueError}.`);
  }
  const sections = [cut(parts.join("\n"), maxOutputBytes)];
  if (result.status === "terminated") sections.push("The program was terminated.");
  if (result.error !== undefined) {
    sections.push(`Script error:\n${result.error}`);
    if (result.calls.length > 0 && result.limit === undefined) {
      const ends = {
        succeeded: "succeeded",
        failed: "failed",
        cancelled: "had not ended and was cancelled; it may have taken effect",
      };
      const calls = result.calls.slice(-20).map((call) => {
        return `    ${call.id} ${call.tool} ${ends[call.end]}`;
      });
      sections.push(`Nested calls:\n${calls.join("\n")}`);
    }
  }
  if (result.hint) sections.push(`Hint: ${result.hint}`);
  return (
    sections.filter(Boolean).join("\n") ||
    "The program returned nothing and printed nothing. Only what is returned or passed to text() " +
      "or image() is output."
  );
}

/** The text, or its beginning and its end when it is longer than the limit. */
function cut(text: string, limit: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= limit) return text;
  const half = Math.floor(limit / 2);
  const decode = (part: Buffer) => part.toString("utf8").replaceAll("\ufffd", "");
  const left = `… ${bytes.length - 2 * half} bytes left out …`;
  return `${decode(bytes.subarray(0, half))}\n${left}\n${decode(bytes.subarray(-half))}`;
}
