// The messages of framed JSON, version 1, with `cellblock-seam-v1`: docs/protocol.md of the
// project has them.

import {
  anything,
  boolean,
  type Check,
  type Checked,
  integer,
  list,
  literal,
  map,
  object,
  optional,
  string,
  tagged,
} from "./check.js";
import { InvalidRequestError } from "./errors.js";

export const VERSION = 1;
export const LIMITS_CAPABILITY = "session-cell-execution-resource-limits";
export const SEAM_CAPABILITY = "cellblock-seam-v1";

/** Longest payload of a frame. */
export const MAX_FRAME_BYTES = 64 << 20;

/** Bytes of a frame before its payload: the payload's length, little-endian. */
export const HEADER_BYTES = 4;

/** Bytes of stored values, keys included, that a session may have on a host. */
export const MAX_STORED_BYTES = 64 << 20;

const contentItem = tagged("type", {
  input_text: object({ type: literal("input_text"), text: string }),
  input_image: object({
    type: literal("input_image"),
    image_url: string,
    detail: optional(string),
  }),
  input_audio: object({ type: literal("input_audio"), audio_url: string }),
});

export type ContentItem = Checked<typeof contentItem>;

const report = object({
  usage: object({
    fuel: integer,
    peak_memory_bytes: integer,
    running_time: object({ secs: integer, nanos: integer }),
    calls: integer,
    output_bytes: integer,
  }),
  limit: optional(string),
  hint: optional(string),
  calls: optional(
    list(
      object({
        runtime_tool_call_id: string,
        tool: string,
        end: literal("succeeded", "failed", "cancelled"),
      }),
    ),
  ),
  value: optional(
    object({
      json: optional(string),
      stored: optional(object({ key: string, bytes: integer })),
      refused: optional(string),
    }),
  ),
});

const response = object({
  cell_id: string,
  content_items: list(contentItem),
  error_text: optional(string),
  seam: optional(
    object({
      report,
      stored: optional(map(string)),
      parked: optional(
        object({
          cell: string,
          ends: optional(map(object({ Ok: optional(string), Err: optional(string) }))),
        }),
      ),
    }),
  ),
});

export type Response = Checked<typeof response>;

const taggedResponse = object({
  Yielded: optional(response),
  Terminated: optional(response),
  Result: optional(response),
});

export type TaggedResponse = Checked<typeof taggedResponse>;

const operationValue = tagged("type", {
  "session/ready": object({ type: literal("session/ready") }),
  "session/closed": object({ type: literal("session/closed") }),
  "execution/started": object({
    type: literal("execution/started"),
    cellId: string,
  }),
  "wait/completed": object({
    type: literal("wait/completed"),
    outcome: object({
      LiveCell: optional(taggedResponse),
      MissingCell: optional(taggedResponse),
    }),
  }),
});

export type OperationValue = Checked<typeof operationValue>;

function outcome<T>(value: Check<T>) {
  return tagged("status", {
    ok: object({ status: literal("ok"), value }),
    error: object({ status: literal("error"), message: string }),
  });
}

const delegateRequest = tagged("type", {
  "tool/invoke": object({
    type: literal("tool/invoke"),
    invocation: object({
      cell_id: string,
      runtime_tool_call_id: string,
      tool_name: object({ name: string }),
      input: anything,
    }),
    resumed: optional(boolean),
  }),
  "notification/send": object({
    type: literal("notification/send"),
    cellId: string,
    text: string,
  }),
});

export type DelegateRequest = Checked<typeof delegateRequest>;

const hostMessage = tagged("type", {
  "connection/ready": object({
    type: literal("connection/ready"),
    selectedVersion: integer,
    capabilities: list(string),
  }),
  "connection/rejected": object({ type: literal("connection/rejected"), reason: anything }),
  "operation/response": object({
    type: literal("operation/response"),
    id: integer,
    result: outcome(operationValue),
  }),
  "execute/initialResponse": object({
    type: literal("execute/initialResponse"),
    id: integer,
    result: outcome(taggedResponse),
  }),
  "delegate/request": object({
    type: literal("delegate/request"),
    id: integer,
    sessionId: string,
    request: delegateRequest,
  }),
  "delegate/cancel": object({ type: literal("delegate/cancel"), id: integer }),
  "cell/ended": object({ type: literal("cell/ended"), sessionId: string, cellId: string }),
  "cell/kept": object({
    type: literal("cell/kept"),
    sessionId: string,
    cellId: string,
    name: optional(string),
  }),
  "cell/closed": object({ type: literal("cell/closed"), sessionId: string, cellId: string }),
});

export type HostMessage = Checked<typeof hostMessage>;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * A message of a host.
 *
 * @throws It is not one; the text says where.
 */
export function parse(payload: Uint8Array): HostMessage {
  return hostMessage(JSON.parse(utf8.decode(payload)), "");
}

/** A message as a whole frame, for messages without values of tools. */
export function frame(message: unknown): Buffer {
  return frameText(JSON.stringify(message));
}

/**
 * JSON text as a whole frame.
 *
 * @throws {InvalidRequestError} It is longer than a frame may be.
 */
export function frameText(text: string): Buffer {
  const length = Buffer.byteLength(text);
  if (length > MAX_FRAME_BYTES) {
    throw new InvalidRequestError(
      `the message is ${length} bytes long, and at most ${MAX_FRAME_BYTES} fit`,
    );
  }
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + length);
  bytes.writeUInt32LE(length);
  bytes.write(text, HEADER_BYTES);
  return bytes;
}

const CENTURY_MS = 100 * 365 * 24 * 60 * 60 * 1000;

/** A time to wait as hosts know it; `undefined` is without end. */
export function yieldMs(ms: number | undefined): number {
  if (ms === undefined || Number.isNaN(ms)) return CENTURY_MS;
  return Math.max(0, Math.min(CENTURY_MS, Math.round(ms)));
}

/** The first message of a client. */
export function hello(): Buffer {
  return frame({
    type: "connection/hello",
    supportedVersions: [VERSION],
    requiredCapabilities: [SEAM_CAPABILITY],
    optionalCapabilities: [LIMITS_CAPABILITY],
  });
}
