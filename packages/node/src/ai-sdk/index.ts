// Code mode for the AI SDK: the model writes programs that call other tools. In the shape of
// `@ai-sdk/code-mode`, so that one import is all that changes.

import {
  asSchema,
  type Experimental_ToolCallerTool,
  experimental_toolCaller,
  jsonSchema,
  type ModelMessage,
  type Tool,
  tool,
} from "ai";
import { CellblockError } from "../errors.js";
import type { Host } from "../host.js";
import type { Limits } from "../limits.js";
import { describe, render } from "../model.js";
import type { Result } from "../result.js";
import { Session } from "../session.js";
import { type CallOptions, Toolbox, type Tools } from "../tools.js";
import {
  type ApprovalDecision,
  type CodeModeApprovalRequest,
  type CodeModeInterrupt,
  interrupted,
} from "./approval.js";

export {
  type ApprovalDecision,
  type CodeModeApprovalRequest,
  type CodeModeInterrupt,
  continueCodeModeApproval,
  isCodeModeInterrupt,
} from "./approval.js";

/** Tools by their names. */
// biome-ignore lint/suspicious/noExplicitAny: tools take inputs of any type.
export type CodeModeToolSet = Record<string, Tool<any, any>>;

/** What the tool that runs programs takes. */
export interface CodeModeToolInput {
  /** JavaScript or TypeScript; `await` and `return` work at the top level. */
  js: string;
}

/** Limits of a program, by the names of `@ai-sdk/code-mode`; those left out are Cellblock's. */
export interface CodeModeExecutionPolicy {
  /** Milliseconds of running. Waiting for tools and for approvals is free. */
  timeoutMs?: number;
  /** Bytes of memory. */
  memoryLimitBytes?: number;
  /** Bytes of stack. */
  maxStackSizeBytes?: number;
  /** Bytes of the result as JSON; a longer one is an error. 1 MiB, unless it is given. */
  maxResultBytes?: number;
  /** Bytes of what programs print. */
  maxConsoleOutputBytes?: number;
  /** Bytes of the program. */
  maxSourceBytes?: number;
  /** Bytes of a call's input. */
  maxToolInputBytes?: number;
  /** Bytes of a call's result. */
  maxToolOutputBytes?: number;
  /** Calls in all. */
  maxBridgeRequests?: number;
  /** Calls at one time. */
  maxInFlightBridgeRequests?: number;
}

export interface CodeModeOptions {
  executionPolicy?: CodeModeExecutionPolicy;
  /** What happens when a program calls a tool that needs approval. */
  approval?: {
    /**
     * `callback`: `onApprovalRequired` is asked. `interrupt`: the tool returns a
     * `CodeModeInterrupt`, and the program waits where it is, in its sandbox, until
     * `continueCodeModeApproval` brings the decision; nothing of it is run again.
     */
    mode?: "callback" | "interrupt";
    onApprovalRequired?: (
      request: CodeModeApprovalRequest,
    ) => Promise<ApprovalDecision> | ApprovalDecision;
  };
  /** Where programs run; a process that this one starts, unless it is given. */
  host?: Host;
}

/** What a tool's `execute` is given besides its input. */
export interface CodeModeToolExecutionOptions {
  toolCallId: string;
  messages: ModelMessage[];
  abortSignal?: AbortSignal | undefined;
  context?: unknown;
}

/** The tool that runs programs. */
export type CodeModeTool = Tool<CodeModeToolInput, unknown> & { description: string };

/** A tool that runs programs, whose own tools are bound by `experimental_toolCallers`. */
export function codeModeTool(
  options: CodeModeOptions = {},
): Experimental_ToolCallerTool<CodeModeTool> {
  return experimental_toolCaller(createCodeModeTool({}, options), {
    type: "local",
    bind: (tools) => createCodeModeTool(tools as unknown as CodeModeToolSet, options),
  });
}

/** A tool that runs programs, which call these tools. */
export function createCodeModeTool(
  tools: CodeModeToolSet,
  options: CodeModeOptions = {},
): CodeModeTool {
  const described = Object.fromEntries(
    Object.entries(tools).map(([name, each]) => [name, { ...modelView(each), execute: () => {} }]),
  );
  return tool<CodeModeToolInput, unknown, Record<string, unknown>>({
    description: describe(new Toolbox(described)),
    inputSchema: jsonSchema<CodeModeToolInput>({
      type: "object",
      properties: { js: { type: "string", description: "The program." } },
      required: ["js"],
      additionalProperties: false,
    }),
    execute: ({ js }, toolExecutionOptions) =>
      runCodeMode({ js, tools, toolExecutionOptions, options }),
  }) as CodeModeTool;
}

/**
 * Runs one program; returns its value, or what it printed if it has none, or both as
 * `{ output, result }`.
 *
 * @throws {CellblockError} The program failed; the message is for the model.
 */
export async function runCodeMode(run: {
  js: string;
  tools: CodeModeToolSet;
  toolExecutionOptions?: Partial<CodeModeToolExecutionOptions>;
  options?: CodeModeOptions;
}): Promise<unknown> {
  const { js, tools, toolExecutionOptions = {}, options = {} } = run;
  const policy = options.executionPolicy ?? {};
  const session = new Session({
    limits: limitsOf(policy),
    ...(options.host ? { host: options.host } : {}),
  });
  return interrupted(async (asked) => {
    const calls = new Calls(tools, toolExecutionOptions, options, asked);
    const { abortSignal } = toolExecutionOptions;
    try {
      const result = await session.exec(js, {
        tools: calls.tools(),
        ...(abortSignal ? { signal: abortSignal } : {}),
      });
      return outputOf(result, policy.maxResultBytes ?? 1 << 20);
    } finally {
      await session.close();
    }
  }, toolExecutionOptions.toolCallId ?? "");
}

function limitsOf(policy: CodeModeExecutionPolicy): Limits {
  const limits = {
    runningTimeMs: policy.timeoutMs,
    memoryBytes: policy.memoryLimitBytes,
    stackBytes: policy.maxStackSizeBytes,
    outputBytes: policy.maxConsoleOutputBytes,
    sourceBytes: policy.maxSourceBytes,
    inputBytes: policy.maxToolInputBytes,
    resultBytes: policy.maxToolOutputBytes,
    calls: policy.maxBridgeRequests,
    callsInFlight: policy.maxInFlightBridgeRequests,
  };
  const given = Object.entries(limits).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

function outputOf(result: Result, maxBytes: number): unknown {
  if (result.status !== "completed" || result.valueError) throw new CellblockError(render(result));
  const { value, text } = result;
  if (value !== undefined && Buffer.byteLength(JSON.stringify(value)) > maxBytes) {
    throw new CellblockError(`the program's result is longer than ${maxBytes} bytes; return less`);
  }
  if (text === "") return value ?? null;
  return value === undefined ? text : { output: text, result: value };
}

/** What models read about a tool. */
function modelView(each: CodeModeToolSet[string]) {
  const schema = (given: unknown) => {
    if (given === undefined) return undefined;
    const json = asSchema(given as Parameters<typeof asSchema>[0]).jsonSchema;
    return json instanceof Promise ? undefined : (json as Record<string, unknown>);
  };
  const [inputSchema, outputSchema] = [schema(each.inputSchema), schema(each.outputSchema)];
  return {
    ...(typeof each.description === "string" ? { description: each.description } : {}),
    ...(inputSchema ? { inputSchema } : {}),
    ...(outputSchema ? { outputSchema } : {}),
  };
}

/** The calls of a program. */
class Calls {
  #count = 0;

  constructor(
    readonly set: CodeModeToolSet,
    readonly outer: Partial<CodeModeToolExecutionOptions>,
    readonly options: CodeModeOptions,
    readonly asked: (request: CodeModeApprovalRequest) => Promise<ApprovalDecision>,
  ) {}

  tools(): Tools {
    const names = Object.entries(this.set);
    return Object.fromEntries(
      names.map(([name, each]) => [
        name,
        {
          ...modelView(each),
          execute: (input: unknown, call: CallOptions) => this.#call(name, each, input, call),
        },
      ]),
    );
  }

  async #call(
    name: string,
    each: CodeModeToolSet[string],
    given: unknown,
    { signal }: CallOptions,
  ): Promise<unknown> {
    if (typeof each.execute !== "function") throw new TypeError(`${name} is not run here`);
    const checked = await asSchema(each.inputSchema).validate?.(given ?? {});
    if (checked && !checked.success) {
      throw new TypeError(`${name}: wrong arguments: ${checked.error.message}`);
    }
    const input = checked ? checked.value : given;
    this.#count += 1;
    const options = {
      messages: [],
      ...this.outer,
      toolCallId: `${this.outer.toolCallId ?? "code"}__${this.#count}`,
      abortSignal: this.outer.abortSignal
        ? AbortSignal.any([signal, this.outer.abortSignal])
        : signal,
    };
    await this.#approve(name, each, input, options);
    const output = each.execute(input, options as never);
    return isAsyncIterable(output) ? last(output) : output;
  }

  /** Asks for an approval, where the tool needs one; throws when there is none. */
  async #approve(
    name: string,
    each: CodeModeToolSet[string],
    input: unknown,
    options: CodeModeToolExecutionOptions,
  ): Promise<void> {
    const needs = each.needsApproval;
    const needed = typeof needs === "function" ? await needs(input, options as never) : needs;
    if (!needed) return;
    const request = { toolName: name, input, toolCallId: options.toolCallId };
    const { mode = "callback", onApprovalRequired } = this.options.approval ?? {};
    const decision =
      mode === "interrupt" ? await this.asked(request) : await onApprovalRequired?.(request);
    const approved = typeof decision === "object" ? decision.approved : decision === "approved";
    if (approved === true) return;
    const reason = typeof decision === "object" ? decision.reason : undefined;
    const why = decision === undefined ? "it needs an approval" : "the call was denied";
    throw new Error(`${name}: ${why}${reason ? `: ${reason}` : ""}`);
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

/** The last of several outputs: those before are preliminary. */
async function last(outputs: AsyncIterable<unknown>): Promise<unknown> {
  let final: unknown;
  for await (const output of outputs) final = output;
  return final;
}

export type { CodeModeInterrupt as CodeModeApprovalInterrupt };
