// Runs JavaScript that models write, in a sandbox with limits that hold. docs/node.md of the
// project is the guide.

export * from "./errors.js";
export { Host, type HostOptions, type Tls } from "./host.js";
export type { Json } from "./json.js";
export type { Limits } from "./limits.js";
export { type Call, type Item, Result, type Status, type Usage } from "./result.js";
export {
  type ExecOptions,
  type Language,
  type ParkOptions,
  Session,
  type SessionOptions,
  type WaitOptions,
  type WakeOptions,
} from "./session.js";
export { StoredValues } from "./stored.js";
export {
  type CallOptions,
  type JsonSchema,
  type StandardSchema,
  type Tool,
  type ToolLike,
  type Tools,
  tool,
} from "./tools.js";
