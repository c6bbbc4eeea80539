// AI SDK: a model writes a program that calls other tools.
//
// The model is a script, so that this runs without a network: `node with-ai-sdk.js`, in a folder
// with `@cellblock/client`, `ai` and `zod`.

import { codeModeTool } from "@cellblock/client/ai-sdk";
import { generateText, isStepCount, tool } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { z } from "zod";

const product = z.object({ productId: z.string() });

const getInventory = tool({
  description: "Units of a product that are available.",
  inputSchema: product,
  outputSchema: z.object({ available: z.number() }),
  execute: async () => ({ available: 42 }),
});

const getDemand = tool({
  description: "Units of a product that are asked for.",
  inputSchema: product,
  outputSchema: z.object({ requested: z.number() }),
  execute: async () => ({ requested: 31 }),
});

const program = `
  const [inventory, demand] = await Promise.all([
    tools.getInventory({ productId: "sku_123" }),
    tools.getDemand({ productId: "sku_123" }),
  ]);
  return { remaining: inventory.available - demand.requested };
`;

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};
const says = (content, reason) => ({
  content,
  finishReason: { unified: reason, raw: reason },
  usage,
  warnings: [],
});

const model = new MockLanguageModelV4({
  doGenerate: async ({ prompt, tools }) => {
    const last = prompt.at(-1);
    if (last.role === "tool") {
      const text = JSON.stringify(last.content[0].output.value);
      return says([{ type: "text", text }], "stop");
    }
    // The model sees one tool, whose description declares the others.
    console.log(tools.map((each) => each.name).join(" "));
    const input = JSON.stringify({ js: program });
    return says([{ type: "tool-call", toolCallId: "1", toolName: "code", input }], "tool-calls");
  },
});

const { text } = await generateText({
  model,
  tools: { code: codeModeTool(), getInventory, getDemand },
  experimental_toolCallers: { getInventory: ["code"], getDemand: ["code"] },
  stopWhen: isStepCount(5),
  prompt: "How much is left of sku_123?",
});
console.log(text);
