// The AI SDK, with a model that says what a test wants. It needs Node 22, as the AI SDK does.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CodeModeOptions,
  codeModeTool,
  continueCodeModeApproval,
  createCodeModeTool,
  isCodeModeInterrupt,
  runCodeMode,
} from "@cellblock/client/ai-sdk";
import { generateText, isStepCount, jsonSchema, type ToolSet, tool } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { z } from "zod";

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};

/** Runs an agent whose model writes these programs; returns what it was sent of each. */
async function generate(tools: ToolSet, programs: string[], more: object = {}) {
  const offered: { name: string; description?: string }[][] = [];
  const outputs: unknown[] = [];
  const model = new MockLanguageModelV4({
    doGenerate: async ({ prompt, tools }) => {
      offered.push((tools ?? []) as { name: string; description?: string }[]);
      const last = prompt.at(-1);
      if (last?.role === "tool") {
        const [part] = last.content;
        if (part?.type === "tool-result") outputs.push(part.output);
      }
      const js = programs.shift();
      const said =
        js === undefined
          ? { content: [{ type: "text" as const, text: "done" }], unified: "stop" as const }
          : {
              content: [
                {
                  type: "tool-call" as const,
                  toolCallId: `call-${offered.length}`,
                  toolName: "code",
                  input: JSON.stringify({ js }),
                },
              ],
              unified: "tool-calls" as const,
            };
      const finishReason = { unified: said.unified, raw: said.unified };
      return { content: said.content, finishReason, usage, warnings: [] };
    },
  });
  const stopWhen = isStepCount(10);
  const result = await generateText({ model, tools, stopWhen, prompt: "x", ...more });
  assert.equal(result.text, "done");
  return { offered, outputs };
}

const getPrice = tool({
  description: "The price of an item.",
  inputSchema: z.object({ item: z.string() }),
  outputSchema: z.object({ price: z.number() }),
  execute: async ({ item }) => ({ price: item.length }),
});

test("tools are bound by the generation and are not the model's", async () => {
  const tools = { code: codeModeTool(), getPrice };
  const program = `
    const all = await Promise.all(['apple', 'fig'].map((item) => tools.getPrice({ item })));
    return { total: all.reduce((sum, { price }) => sum + price, 0) };
  `;
  const { offered, outputs } = await generate(tools, [program, "text('a'); 5", "text('a')"], {
    experimental_toolCallers: { getPrice: ["code"] },
  });
  assert.deepEqual(
    offered[0]?.map((each) => each.name),
    ["code"],
  );
  assert.match(
    offered[0]?.[0]?.description ?? "",
    /getPrice\(args: \{ item: string; \}\): Promise<\{ price: number; \}>/,
  );
  assert.deepEqual(outputs, [
    { type: "json", value: { total: 8 } },
    { type: "json", value: { output: "a", result: 5 } },
    { type: "text", value: "a" },
  ]);
});

test("a program that fails says why", async () => {
  const tools = { code: createCodeModeTool({ getPrice }, { executionPolicy: { timeoutMs: 100 } }) };
  const programs = ["await tools.getPrice({})", "for (;;);", "return () => 1"];
  const { outputs } = await generate(tools, programs);
  const texts = outputs.map((output) => JSON.stringify(output));
  assert.match(texts[0] ?? "", /error-text.*getPrice: wrong arguments.*expected string/s);
  assert.match(texts[1] ?? "", /error-text.*running time limit of 100 ms/);
  assert.match(texts[2] ?? "", /error-text.*functions/);
});

test("tools get their own call, and the signal of their program", async () => {
  const calls: { toolCallId: string; aborted: boolean; context: unknown }[] = [];
  const noted = tool({
    inputSchema: jsonSchema<{ n: number }>({ type: "object" }),
    execute: async (input, { toolCallId, abortSignal }) => {
      calls.push({ toolCallId, aborted: abortSignal?.aborted ?? true, context: input });
      return input.n;
    },
  });
  const value = await runCodeMode({
    js: "return [await tools.noted({ n: 1 }), await tools.noted({ n: 2 })]",
    tools: { noted },
    toolExecutionOptions: { toolCallId: "outer" },
  });
  assert.deepEqual(value, [1, 2]);
  assert.deepEqual(
    calls.map((call) => call.toolCallId),
    ["outer__1", "outer__2"],
  );
  assert.ok(calls.every((call) => !call.aborted));

  const controller = new AbortController();
  const running = runCodeMode({
    js: "return await tools.wait()",
    tools: {
      wait: tool({
        inputSchema: z.object({}),
        execute: (_, { abortSignal }) =>
          new Promise((_, reject) => {
            abortSignal?.addEventListener("abort", () => reject(abortSignal.reason));
            controller.abort(new Error("enough"));
          }),
      }),
    },
    toolExecutionOptions: { abortSignal: controller.signal },
  });
  await assert.rejects(running, /enough/);
});

test("the last output of a tool that streams is its result", async () => {
  const streams = tool({
    inputSchema: z.object({}),
    async *execute() {
      yield "preliminary";
      yield "final";
    },
  });
  assert.equal(await runCodeMode({ js: "tools.streams()", tools: { streams } }), "final");
});

test("limits", async () => {
  const cases: [CodeModeOptions["executionPolicy"], string, RegExp][] = [
    [{ maxResultBytes: 10 }, "return 'x'.repeat(20)", /longer than 10 bytes/],
    [
      { maxBridgeRequests: 1 },
      "await tools.getPrice({ item: 'a' }); await tools.getPrice({ item: 'a' })",
      /nested calls limit/,
    ],
    [{ memoryLimitBytes: 4 << 20 }, "const a = []; for (;;) a.push({})", /memory limit/],
    [{ maxSourceBytes: 5 }, "return 12345678", /./],
  ];
  for (const [executionPolicy, js, why] of cases) {
    const running = runCodeMode({
      js,
      tools: { getPrice },
      options: { executionPolicy: executionPolicy ?? {} },
    });
    await assert.rejects(running, why);
  }
});

let removed: number[] = [];
let read = 0;
const guarded = {
  read: tool({
    inputSchema: z.object({}),
    execute: () => {
      read += 1;
      return 7;
    },
  }),
  remove: tool({
    inputSchema: z.object({ n: z.number() }),
    needsApproval: ({ n }) => n > 0,
    execute: ({ n }) => {
      removed.push(n);
      return n;
    },
  }),
};

const PROGRAM = `
  const first = await tools.read();
  const free = await tools.remove({ n: 0 });
  const both = await Promise.all([tools.remove({ n: 1 }), tools.remove({ n: 2 })]);
  try { await tools.remove({ n: 3 }) } catch (e) { return [first, free, both, e.message] }
`;

test("approvals by callback", async () => {
  removed = [];
  const options: CodeModeOptions = {
    approval: {
      onApprovalRequired: ({ toolName, input }) => {
        assert.equal(toolName, "remove");
        const { n } = input as { n: number };
        return n < 3 ? "approved" : { approved: false, reason: "too many" };
      },
    },
  };
  const value = await runCodeMode({ js: PROGRAM, tools: guarded, options });
  assert.deepEqual(value, [7, 0, [1, 2], "remove: the call was denied: too many"]);
  const without = runCodeMode({ js: "return await tools.remove({ n: 9 })", tools: guarded });
  await assert.rejects(without, /needs an approval/);
  // Calls that are made together come in any order.
  assert.deepEqual(removed.sort(), [0, 1, 2]);
});

test("a program waits for approvals and goes on", async () => {
  removed = [];
  read = 0;
  const options: CodeModeOptions = { approval: { mode: "interrupt" } };
  let value = await runCodeMode({ js: PROGRAM, tools: guarded, options });
  const asked: number[] = [];
  let decided: unknown;
  while (isCodeModeInterrupt(value)) {
    const { n } = value.input as { n: number };
    assert.equal(value.toolName, "remove");
    assert.ok(!removed.includes(n));
    asked.push(n);
    decided = value;
    value = await continueCodeModeApproval({
      interrupt: value,
      approvalResponse: { approved: n < 3 },
    });
  }
  assert.deepEqual(value, [7, 0, [1, 2], "remove: the call was denied"]);
  assert.deepEqual(asked.sort(), [1, 2, 3]);
  // Calls that are made together come in any order.
  assert.deepEqual(removed.sort(), [0, 1, 2]);
  // It went on from where it was: what came before did not happen again.
  assert.equal(read, 1);
  assert.ok(isCodeModeInterrupt(decided));
  const again = { interrupt: decided, approvalResponse: { approved: true } };
  await assert.rejects(continueCodeModeApproval(again), { code: "cell_not_found" });
});
