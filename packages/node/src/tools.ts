// Tools that programs may call.

import { ToolDefinitionError } from "./errors.js";
import { encode } from "./json.js";
import { MAX_FRAME_BYTES } from "./messages.js";

/** Characters of an error's text that reach a program. */
const MAX_ERROR_LENGTH = 64 << 10;

/** Wrong arguments that an error lists. */
const SHOWN_ISSUES = 5;

/** A JSON Schema. */
export interface JsonSchema {
  readonly [key: string]: unknown;
}

/** What validates an input, of any library that follows https://standardschema.dev: zod, valibot, arktype. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
    readonly jsonSchema?: {
      readonly input: (options: { readonly target: "draft-2020-12" }) => Record<string, unknown>;
      readonly output: (options: { readonly target: "draft-2020-12" }) => Record<string, unknown>;
    };
  };
}

type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What a tool is called with besides its input. */
export interface CallOptions {
  /** Aborted when the program ends first, or was terminated. */
  readonly signal: AbortSignal;
  /** The program's name in its session. */
  readonly cellId: string;
  /** `tool-1`, `tool-2`, ... in the order of the program's calls. */
  readonly callId: string;
}

/** A tool that programs may call, as `tools.NAME(input)`; without an input it is `null`. */
export interface Tool {
  /** What models read about it, and programs find in `ALL_TOOLS`. */
  readonly description?: string;
  /**
   * The input. A schema of zod or another library of Standard Schema also validates it before
   * the tool is called; a JSON Schema is for descriptions only.
   */
  readonly inputSchema?: StandardSchema | JsonSchema;
  /** The result, for descriptions. */
  readonly outputSchema?: StandardSchema | JsonSchema;
  /** Returns the result, or a promise of it. The message of an error is what the program catches. */
  readonly execute: (input: never, options: CallOptions) => unknown;
}

/** What a session takes as a tool: one with a description, or a function alone. */
export type ToolLike = Tool | Tool["execute"];

/** Tools by what programs call them; characters that no identifier has become `_`. */
export type Tools = Readonly<Record<string, ToolLike>>;

/** A tool whose input has the type that its schema says. */
export function tool<Input>(
  definition: Omit<Tool, "inputSchema" | "execute"> & {
    readonly inputSchema: StandardSchema<unknown, Input>;
    readonly execute: (input: Input, options: CallOptions) => unknown;
  },
): Tool {
  return definition;
}

/** A tool as it is called: what it takes is not known here. */
type AnyTool = Omit<Tool, "execute"> & {
  readonly execute: (input: unknown, options: CallOptions) => unknown;
};

/** A tool as hosts know it. */
export interface Definition {
  readonly name: string;
  readonly tool_name: { readonly name: string; readonly namespace: null };
  readonly description: string;
  readonly kind: "function";
  readonly input_schema: unknown;
  readonly output_schema: unknown;
}

/** The tools of a program. */
export class Toolbox {
  /** The tools as hosts know them. */
  readonly definitions: readonly Definition[];
  readonly #tools = new Map<string, AnyTool>();

  /** @throws {ToolDefinitionError} */
  constructor(tools: Tools) {
    const identifiers = new Map<string, string>();
    for (const [name, given] of Object.entries(tools)) {
      const identifier = identifierOf(name);
      const other = identifiers.get(identifier);
      if (other !== undefined) {
        throw new ToolDefinitionError(
          `the tools ${other} and ${name} would both be tools.${identifier}`,
        );
      }
      identifiers.set(identifier, name);
      this.#tools.set(name, checked(name, given));
    }
    this.definitions = [...this.#tools].map(([name, tool]) => definition(name, tool));
  }

  /** Whether it is one of them. */
  has(name: string): boolean {
    return this.#tools.has(name);
  }

  /** Calls a tool; returns its result as JSON text. */
  async call(name: string, input: unknown, options: CallOptions): Promise<string> {
    const tool = this.#tools.get(name);
    if (!tool) throw new ReferenceError(`there is no tool ${name}`);
    const valid = await validated(name, tool.inputSchema, input);
    options.signal.throwIfAborted();
    const text = encode(await tool.execute(valid, options), `the result of ${name}`);
    if (text.length > MAX_FRAME_BYTES) throw new RangeError(`the result of ${name} is too large`);
    return text;
  }
}

/** What a program is sent of what a tool has thrown: its message, and nothing of this process. */
export function messageOf(thrown: unknown): string {
  let text: string;
  try {
    text = String(thrown instanceof Error ? thrown.message || thrown.name : thrown);
  } catch {
    text = "the tool has failed";
  }
  text = text.toWellFormed();
  return text.length > MAX_ERROR_LENGTH ? `${text.slice(0, MAX_ERROR_LENGTH)} ... [cut]` : text;
}

function identifierOf(name: string): string {
  return name.replace(/^[0-9]|[^A-Za-z0-9_$]/gu, "_") || "_";
}

function checked(name: string, given: ToolLike): AnyTool {
  if (typeof given === "function") return { execute: given as AnyTool["execute"] };
  if (typeof given === "object" && given !== null && typeof given.execute === "function") {
    return given as AnyTool;
  }
  throw new ToolDefinitionError(`${name}: a tool is a function, or has one as \`execute\``);
}

function definition(name: string, tool: AnyTool): Definition {
  const schemas = {
    input_schema: jsonSchema(name, tool.inputSchema, "input"),
    output_schema: jsonSchema(name, tool.outputSchema, "output"),
  };
  try {
    encode(schemas);
  } catch (error) {
    throw new ToolDefinitionError(`${name}: a schema that is not JSON: ${messageOf(error)}`);
  }
  return {
    name: name.toWellFormed(),
    tool_name: { name: name.toWellFormed(), namespace: null },
    description: (tool.description ?? "").toWellFormed(),
    kind: "function",
    ...schemas,
  };
}

function isStandard(schema: object): schema is StandardSchema {
  return "~standard" in schema;
}

function jsonSchema(
  name: string,
  schema: StandardSchema | JsonSchema | undefined,
  side: "input" | "output",
): unknown {
  if (schema === undefined) return null;
  if (!isStandard(schema)) return schema;
  try {
    const made = schema["~standard"].jsonSchema?.[side]({ target: "draft-2020-12" });
    if (made === undefined) return null;
    // The dialect says nothing to a model.
    const { $schema: _, ...rest } = made;
    return rest;
  } catch (error) {
    throw new ToolDefinitionError(`${name}: its schema is not one in JSON: ${messageOf(error)}`);
  }
}

async function validated(
  name: string,
  schema: Tool["inputSchema"],
  input: unknown,
): Promise<unknown> {
  if (schema === undefined || !isStandard(schema)) return input;
  const result = await schema["~standard"].validate(input ?? {});
  if (result.issues === undefined) return result.value;
  const shown = result.issues.slice(0, SHOWN_ISSUES).map(({ path, message }) => {
    const keys = (path ?? []).map((part) => String(typeof part === "object" ? part.key : part));
    return `${keys.join(".") || "the input"}: ${message}`;
  });
  const more = result.issues.length - shown.length;
  if (more > 0) shown.push(`and ${more} more`);
  throw new TypeError(`${name}: wrong arguments: ${shown.join("; ")}`);
}
