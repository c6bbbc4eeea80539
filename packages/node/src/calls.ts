// Nested calls and notifications of a program, which are served here.
//
// A call outlives its program's cell: while the program is parked, what its calls end with is
// kept, for the cell that it is woken as.

import { type Connection, failure } from "./connection.js";
import type { DelegateRequest } from "./messages.js";
import { messageOf, type Toolbox } from "./tools.js";

const DELIVERED = '{"status":"ok","value":{"type":"notification/delivered"}}';

export type OnNotify = (text: string) => unknown;

type Reply = (outcome: string) => void;

/** A nested call or a notification, and what it has ended with. */
export class Call {
  readonly controller = new AbortController();
  #outcome: string | undefined;
  #reply: Reply | undefined;

  /** Whether it has ended. */
  get isOver(): boolean {
    return this.#outcome !== undefined;
  }

  /** It has ended; `outcome` is JSON text. */
  finish(outcome: string): void {
    this.#outcome = outcome;
    this.#reply?.(outcome);
  }

  /** Where its outcome goes, if it is wanted now. */
  answerWith(reply: Reply | undefined): void {
    this.#reply = reply;
    if (this.#outcome !== undefined) reply?.(this.#outcome);
  }

  cancel(why: string): void {
    this.controller.abort(new Error(why));
  }
}

/** What the calls of a cell are served with. */
export interface Serving {
  readonly tools: Toolbox;
  readonly onNotify: OnNotify | undefined;
  /** Tools for calls that were pending when the program was parked. */
  readonly resume: Toolbox;
}

/** The calls of one cell, by what its host calls them. */
export class Calls {
  readonly #calls = new Map<number, { call: Call; name: string | undefined }>();
  // Those of a program that was parked, and which its new cell has not asked for yet.
  readonly #pending: Map<string, Call>;
  #areHeld = false;

  constructor(
    readonly connection: Connection,
    readonly serving: Serving,
    pending: ReadonlyMap<string, Call>,
  ) {
    this.#pending = new Map(pending);
  }

  /** The program, which is `cellId` in its session, calls a tool or sends a notification. */
  serve(delegate: number, request: DelegateRequest, cellId: string): void {
    const isCall = request.type === "tool/invoke";
    const name = isCall ? request.invocation.runtime_tool_call_id : undefined;
    const resumed = isCall && request.resumed ? this.#pending.get(name ?? "") : undefined;
    const call = resumed ?? new Call();
    if (resumed && name !== undefined) this.#pending.delete(name);
    else void this.#run(call, request, cellId);
    this.#calls.set(delegate, { call, name });
    if (!this.#areHeld) call.answerWith(this.#replyTo(delegate));
  }

  /** The host gives one up. */
  cancelled(delegate: number): void {
    this.#calls.get(delegate)?.call.cancel("the program gives up the call");
  }

  /** Aborts all. */
  cancel(why: string, { withPending = true } = {}): void {
    for (const { call } of this.#calls.values()) call.cancel(why);
    if (!withPending) return;
    for (const call of this.#pending.values()) call.cancel(why);
  }

  // While the program is being parked

  /** Keeps what calls end with from now on. */
  hold(): void {
    this.#areHeld = true;
    for (const { call } of this.#calls.values()) call.answerWith(undefined);
  }

  /** Sends what was kept: the program was not parked. */
  deliver(): void {
    this.#areHeld = false;
    for (const [delegate, { call }] of [...this.#calls]) call.answerWith(this.#replyTo(delegate));
  }

  /**
   * Leaves the cell, which was parked; returns its calls by their names. `ends` are outcomes that
   * the host had received, and its program not.
   */
  leave(ends: ReadonlyMap<string, string>): Map<string, Call> {
    const left = new Map(this.#pending);
    for (const [delegate, { call, name }] of this.#calls) {
      this.connection.forget(delegate);
      if (name === undefined) call.cancel("the program was parked");
      else left.set(name, call);
    }
    for (const [name, outcome] of ends) {
      const call = new Call();
      call.finish(outcome);
      left.set(name, call);
    }
    this.#calls.clear();
    this.#pending.clear();
    return left;
  }

  // One call

  #replyTo(delegate: number): Reply {
    return (outcome) => {
      this.#calls.delete(delegate);
      // One that the host has given up gets no answer: `reply` knows.
      this.connection.reply(delegate, outcome);
    };
  }

  /** Runs a tool or delivers a notification. */
  async #run(call: Call, request: DelegateRequest, cellId: string): Promise<void> {
    let outcome: string;
    try {
      if (request.type === "tool/invoke") {
        const { tool_name, input, runtime_tool_call_id } = request.invocation;
        const { signal } = call.controller;
        const tools = request.resumed ? this.serving.resume : this.serving.tools;
        if (request.resumed && !tools.has(tool_name.name)) {
          throw new Error(
            `${tool_name.name}: the program was parked while this call ran. It may have taken ` +
              "effect, and is not made again",
          );
        }
        const options = { signal, cellId, callId: runtime_tool_call_id };
        const text = await tools.call(tool_name.name, input, options);
        outcome = `{"status":"ok","value":{"type":"tool/result","result":${text}}}`;
      } else {
        await this.serving.onNotify?.(request.text);
        outcome = DELIVERED;
      }
      while (this.connection.isFull) await this.connection.emptied();
    } catch (error) {
      outcome = failure(messageOf(error));
    }
    call.finish(outcome);
  }
}
