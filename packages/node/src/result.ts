// What a program has answered.

import { LimitError, ProgramError, TerminatedError } from "./errors.js";
import type { Json } from "./json.js";
import type { ContentItem, Response } from "./messages.js";
import { withoutPrelude } from "./prelude.js";
import type { StoredValues } from "./stored.js";

/** What a program printed. */
export type Item =
  /** With `text`. */
  | { readonly type: "text"; readonly text: string }
  /** With `image`: a `data:` URL, and how closely a model should look. */
  | { readonly type: "image"; readonly url: string; readonly detail?: string }
  /** With `audio`: a `data:` URL. */
  | { readonly type: "audio"; readonly url: string };

/** How a program stands. */
export type Status = "completed" | "failed" | "limit" | "terminated" | "running";

/** A nested call that a program made. */
export interface Call {
  /** `tool-1`, `tool-2`, ... in the order of the program's calls. */
  readonly id: string;
  /** The tool, as the program knows it. */
  readonly tool: string;
  /** How it ended; `cancelled` when the program ended first. */
  readonly end: "succeeded" | "failed" | "cancelled";
}

/** What a program has used since it started. */
export interface Usage {
  /** About one unit for each WebAssembly instruction. */
  readonly fuel: number;
  /** The largest size of the sandbox's memory, its stack aside. */
  readonly peakMemoryBytes: number;
  /** Milliseconds spent running, without those spent waiting. */
  readonly runningTimeMs: number;
  /** Nested calls made. */
  readonly calls: number;
  /** Bytes of output and notifications, as JSON holds them. */
  readonly outputBytes: number;
}

/** What a program has answered, since its answer before. */
export class Result {
  /** `running` when it goes on: `Session.wait` gets the rest. */
  readonly status: Status;
  /** The program's name in its session. */
  readonly cellId: string;
  /** What it printed, in order. */
  readonly items: readonly Item[];
  /**
   * The value of a program that completed: that of its last expression, or of a `return`.
   * `undefined` also when it has no JSON, or was not wanted.
   */
  readonly value: Json | undefined;
  /** The key under which a long value is stored for later programs, which `load` it. */
  readonly valueKey: string | undefined;
  /** Why there is a value that cannot be had, for example because it is a function. */
  readonly valueError: string | undefined;
  /** Why the program failed, with its stack. */
  readonly error: string | undefined;
  /** What its author should change, where its end shows a common mistake. */
  readonly hint: string | undefined;
  /** The limit that it reached, such as `memory` or `running_time`. */
  readonly limit: string | undefined;
  /** The newest nested calls, at most 100, once it has ended. */
  readonly calls: readonly Call[];
  /** What it has used so far. */
  readonly usage: Usage;

  /** @internal */
  constructor(fields: Omit<Result, "text" | "check">) {
    this.status = fields.status;
    this.cellId = fields.cellId;
    this.items = fields.items;
    this.value = fields.value;
    this.valueKey = fields.valueKey;
    this.valueError = fields.valueError;
    this.error = fields.error;
    this.hint = fields.hint;
    this.limit = fields.limit;
    this.calls = fields.calls;
    this.usage = fields.usage;
  }

  /** The texts that it printed, a line each. */
  get text(): string {
    return this.items.flatMap((item) => (item.type === "text" ? [item.text] : [])).join("\n");
  }

  /**
   * The result itself, if the program has not failed.
   *
   * @throws {LimitError} It reached a limit.
   * @throws {TerminatedError} It was terminated.
   * @throws {ProgramError} It failed otherwise.
   */
  check(): this {
    switch (this.status) {
      case "limit":
        throw new LimitError(this.error ?? "");
      case "terminated":
        throw new TerminatedError("the program was terminated");
      case "failed":
        throw new ProgramError(this.error ?? "");
      default:
        return this;
    }
  }
}

/** What kind of response there is. */
export type Kind = "yielded" | "terminated" | "result";

/** The content of a response. */
export function itemsOf(response: Response): Item[] {
  return response.content_items.map(itemOf);
}

function itemOf(item: ContentItem): Item {
  switch (item.type) {
    case "input_text":
      return { type: "text", text: item.text };
    case "input_image":
      return item.detail === undefined
        ? { type: "image", url: item.image_url }
        : { type: "image", url: item.image_url, detail: item.detail };
    case "input_audio":
      return { type: "audio", url: item.audio_url };
  }
}

/**
 * A response as a result. `stored` has values that are too long for it; `prelude` is the length
 * of what stands in front of the program.
 *
 * @throws The host has sent a value that is not valid JSON, or no report.
 */
export function resultOf(
  kind: Kind,
  response: Response,
  cellId: string,
  items: readonly Item[],
  stored: StoredValues,
  prelude: number,
): Result {
  const report = response.seam?.report;
  if (!report) throw new TypeError("a response without a report");
  const { usage, value } = report;
  const ended = report.limit !== undefined ? "limit" : "failed";
  const status = { yielded: "running", terminated: "terminated", result: "completed" } as const;
  const key = value?.stored?.key;
  const text = key === undefined ? value?.json : stored.text(key);
  return new Result({
    status: kind === "result" && response.error_text !== undefined ? ended : status[kind],
    cellId,
    items,
    value: text === undefined ? undefined : (JSON.parse(text) as Json),
    valueKey: key,
    valueError: value?.refused,
    error:
      response.error_text === undefined ? undefined : withoutPrelude(response.error_text, prelude),
    hint: report.hint,
    limit: report.limit,
    calls: (report.calls ?? []).map((call) => ({
      id: call.runtime_tool_call_id,
      tool: call.tool,
      end: call.end,
    })),
    usage: {
      fuel: usage.fuel,
      peakMemoryBytes: usage.peak_memory_bytes,
      runningTimeMs: usage.running_time.secs * 1e3 + usage.running_time.nanos / 1e6,
      calls: usage.calls,
      outputBytes: usage.output_bytes,
    },
  });
}
