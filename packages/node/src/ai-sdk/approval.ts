// Programs whose calls wait for somebody's approval, beyond the end of the generation.

import { randomUUID } from "node:crypto";
import { CellNotFoundError } from "../errors.js";

/** Milliseconds that a program may wait for an approval. */
const APPROVAL_MS = 3_600_000;

/** Programs that may wait for an approval; above it the oldest is denied what it waits for. */
const MAX_WAITING = 64;

/** A call that needs approval. */
export interface CodeModeApprovalRequest {
  toolName: string;
  input: unknown;
  toolCallId: string;
}

/** What was decided. */
export type ApprovalDecision = "approved" | "denied" | { approved: boolean; reason?: string };

/** What the tool that runs programs returns when a call waits for an approval. */
export interface CodeModeInterrupt {
  type: "code-mode-interrupt";
  /** Names the program that waits. It cannot be guessed, and whoever has it can decide. */
  interruptId: string;
  toolName: string;
  toolCallId: string;
  /** The call of the tool that runs programs. */
  outerToolCallId: string;
  input: unknown;
  payload: { kind: "ai-sdk-code-mode/tool-approval" };
}

/** A program that waits. */
interface Waiting {
  decide(decision: ApprovalDecision): void;
  /** What the program does next. */
  next(): Promise<unknown>;
  expiry: NodeJS.Timeout;
}

const waiting = new Map<string, Waiting>();

/** Whether a tool's output says that a program waits for an approval. */
export function isCodeModeInterrupt(value: unknown): value is CodeModeInterrupt {
  return (
    typeof value === "object" &&
    value !== null &&
    "type" in value &&
    value.type === "code-mode-interrupt"
  );
}

/**
 * Brings a decision to the program that waits for it, and returns what the program returns, or
 * the next interrupt.
 *
 * @throws {CellNotFoundError} No program waits for it: it was decided before, an hour has gone by,
 * or its process has ended.
 */
export async function continueCodeModeApproval({
  interrupt,
  approvalResponse,
}: {
  interrupt: CodeModeInterrupt;
  approvalResponse: { approvalId?: string; approved: boolean; reason?: string };
}): Promise<unknown> {
  const program = waiting.get(interrupt.interruptId);
  if (!program) throw new CellNotFoundError("no program waits for this approval");
  waiting.delete(interrupt.interruptId);
  clearTimeout(program.expiry);
  const { approved, reason } = approvalResponse;
  program.decide(reason === undefined ? { approved } : { approved, reason });
  return program.next();
}

/**
 * Runs a program that may ask for approvals; returns what it returns, or an interrupt for the
 * first call that waits.
 */
export function interrupted(
  run: (asked: (request: CodeModeApprovalRequest) => Promise<ApprovalDecision>) => Promise<unknown>,
  outerToolCallId: string,
): Promise<unknown> {
  const requests: { request: CodeModeApprovalRequest; decide: Waiting["decide"] }[] = [];
  let wake: () => void = () => {};
  const ended = run(
    (request) =>
      new Promise((decide) => {
        requests.push({ request, decide });
        wake();
      }),
  );
  // Nobody may listen while it waits.
  ended.catch(() => {});

  const next = async (): Promise<unknown> => {
    const asked = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const done = {};
    if (requests.length === 0) {
      const first = await Promise.race([ended.then(() => done), asked]);
      if (first === done) return ended;
    }
    const [asking] = requests.splice(0, 1);
    if (!asking) return ended;
    const interruptId = randomUUID();
    const expire = () => {
      waiting.delete(interruptId);
      asking.decide("denied");
    };
    const expiry = setTimeout(expire, APPROVAL_MS);
    expiry.unref();
    waiting.set(interruptId, { decide: asking.decide, next, expiry });
    const [oldest] = waiting.keys();
    if (waiting.size > MAX_WAITING && oldest !== undefined) {
      const first = waiting.get(oldest);
      clearTimeout(first?.expiry);
      waiting.delete(oldest);
      first?.decide("denied");
    }
    return {
      type: "code-mode-interrupt",
      interruptId,
      outerToolCallId,
      ...asking.request,
      payload: { kind: "ai-sdk-code-mode/tool-approval" },
    } satisfies CodeModeInterrupt;
  };
  return next();
}
