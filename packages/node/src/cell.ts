// A program on the host, as it is seen from here, and the session that it belongs to there.

import {
  CancelledRequestError,
  type Connection,
  failure,
  type Pending,
  type Recipient,
  TRANSPORT_MS,
} from "./connection.js";
import { BusyError, CellblockError, CellNotFoundError, HostLostError } from "./errors.js";
import type { DelegateRequest, OperationValue, Response, TaggedResponse } from "./messages.js";
import { type Item, itemsOf, Result, resultOf } from "./result.js";
import type { StoredValues } from "./stored.js";
import { messageOf, type Toolbox } from "./tools.js";

const CENTURY_MS = 100 * 365 * 24 * 60 * 60 * 1000;

const DELIVERED = '{"status":"ok","value":{"type":"notification/delivered"}}';

export type OnNotify = (text: string) => unknown;

/** A time to wait as hosts know it; `undefined` is without end. */
export function yieldMs(ms: number | undefined): number {
  if (ms === undefined || Number.isNaN(ms)) return CENTURY_MS;
  return Math.max(0, Math.min(CENTURY_MS, Math.round(ms)));
}

/** A session on one connection: which of its messages is for which cell. */
export class RemoteSession implements Recipient {
  readonly id: string;
  /** The stored values that the host has, as JSON texts; undefined before the first program. */
  known: Map<string, string> | undefined;
  readonly #cells = new Map<string, Cell>();

  constructor(readonly connection: Connection) {
    this.id = `session-${connection.nextId()}`;
  }

  /** Opens it on the host. */
  async open(limits: unknown): Promise<this> {
    this.connection.addSession(this.id, this);
    const seam = limits === undefined ? {} : { seam: { cellLimits: limits } };
    const operation = { method: "session/open", sessionId: this.id, ...seam };
    await this.connection.ask(operation, "the opening of a session");
    return this;
  }

  /** Ends it and its cells. */
  async close(reason: CellblockError): Promise<void> {
    const operation = { method: "session/shutdown", sessionId: this.id };
    try {
      await this.connection.ask(operation, "the end of a session");
    } catch (error) {
      // It has ended with its host.
      if (!(error instanceof CellblockError)) throw error;
    }
    this.connection.removeSession(this.id);
    this.lost(reason);
  }

  admit(hostId: string, cell: Cell): void {
    if (this.#cells.has(hostId)) throw new TypeError(`the cell ${hostId} was started twice`);
    this.#cells.set(hostId, cell);
    cell.admitted(hostId);
  }

  /** Nothing more is expected for a cell. */
  forget(cell: Cell): void {
    this.#cells.delete(cell.hostId);
  }

  delegated(cellId: string, delegate: number, request: DelegateRequest): boolean {
    const cell = this.#cells.get(cellId);
    cell?.delegated(delegate, request);
    return cell !== undefined;
  }

  cancelled(cellId: string, delegate: number): void {
    this.#cells.get(cellId)?.cancelled(delegate);
  }

  ended(cellId: string): void {
    this.#cells.get(cellId)?.ended();
  }

  lost(error: CellblockError): void {
    for (const cell of [...this.#cells.values()]) cell.lost(error);
  }
}

/** Who waits for an answer. */
interface Caller {
  resolve(result: Result): void;
  reject(error: Error): void;
}

/** One program, from its request to its end. */
export class Cell implements Pending {
  /** Its name in the session, once it was admitted. */
  id = "";
  /** Its name on the host, once it was admitted. */
  hostId = "";
  readonly #remote: RemoteSession;
  readonly #connection: Connection;
  readonly #tools: Toolbox;
  readonly #stored: StoredValues;
  readonly #onNotify: OnNotify | undefined;
  readonly #prelude: number;
  // The answer on its way, whom it was asked for, and what is kept of answers that nobody had
  // asked for.
  #asked: number | undefined;
  #asker: Caller | undefined;
  #kept: Item[] = [];
  #lastYield: Response | undefined;
  // Who waits for the next answer, until when, and who waits for the end.
  #caller: Caller | undefined;
  #until: number | undefined;
  readonly #enders: Caller[] = [];
  #release: (() => void) | undefined;
  #late: NodeJS.Timeout | undefined;
  // The end: announced by the host, and known.
  #announced = false;
  #terminating = false;
  #end: Result | CellblockError | undefined;
  // Nested calls and notifications that are served.
  readonly #calls = new Map<number, AbortController>();

  constructor(
    remote: RemoteSession,
    tools: Toolbox,
    stored: StoredValues,
    onNotify: OnNotify | undefined,
    prelude: number,
  ) {
    this.#remote = remote;
    this.#connection = remote.connection;
    this.#tools = tools;
    this.#stored = stored;
    this.#onNotify = onNotify;
    this.#prelude = prelude;
  }

  // Callers

  /** Sends its request, and returns the first answer. Aborted, it ends the program. */
  first(
    send: (cell: Cell) => number,
    ms: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Result> {
    const answer = this.#call(ms, signal, () => {
      this.#terminate();
      this.#abortCalls("the program was terminated");
    });
    this.#asker = this.#caller;
    this.#expect("an execute", TRANSPORT_MS);
    try {
      this.#asked = send(this);
    } catch (error) {
      const caller = this.#takeCaller();
      caller?.reject(error as Error);
    }
    return answer;
  }

  /** The next answer. Aborted, it leaves the answer to the next caller. */
  wait(ms: number | undefined, signal: AbortSignal | undefined): Promise<Result> {
    if (this.#end) return this.#outcome();
    if (this.#caller) {
      return Promise.reject(new BusyError(`somebody else waits for the cell ${this.id}`));
    }
    const answer = this.#call(ms, signal, (caller) => {
      if (this.#asker === caller && this.#asked !== undefined) {
        this.#connection.cancel(this.#asked);
      }
    });
    if (this.#kept.length > 0 && this.#asked === undefined && this.#lastYield) {
      this.#yield(this.#lastYield);
    } else {
      this.#ask();
    }
    return answer;
  }

  /** Ends the program, and returns its last answer. */
  terminate(): Promise<Result> {
    if (this.#end) return this.#outcome();
    return new Promise((resolve, reject) => {
      this.#enders.push({ resolve, reject });
      this.#hold();
      this.#terminate();
    });
  }

  /** Whether it has ended. */
  get isOver(): boolean {
    return this.#end !== undefined;
  }

  async #outcome(): Promise<Result> {
    if (this.#end instanceof Result) return this.#end;
    throw this.#end ?? new CellNotFoundError(`there is no cell ${this.id}`);
  }

  /** Somebody waits for the next answer; `left` is called when the signal is aborted. */
  #call(
    ms: number | undefined,
    signal: AbortSignal | undefined,
    left: (caller: Caller) => void,
  ): Promise<Result> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        if (this.#caller !== caller) return;
        this.#takeCaller();
        left(caller);
        reject(signal?.reason);
      };
      const done = () => signal?.removeEventListener("abort", abort);
      const caller: Caller = {
        resolve: (result) => {
          done();
          resolve(result);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      this.#caller = caller;
      this.#until = ms === undefined ? undefined : performance.now() + ms;
      this.#hold();
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  #takeCaller(): Caller | undefined {
    const caller = this.#caller;
    this.#caller = undefined;
    this.#unexpect();
    if (this.#enders.length === 0) this.#letGo();
    return caller;
  }

  #hold(): void {
    this.#release ??= this.#connection.hold();
  }

  #letGo(): void {
    this.#release?.();
    this.#release = undefined;
  }

  #terminate(): void {
    if (this.#terminating || this.#end) return;
    this.#terminating = true;
    if (this.hostId) this.#sendTermination();
  }

  // What the host says

  /** Takes an answer to its execute: that it was admitted, and then the first response. */
  answered(value: OperationValue | TaggedResponse): boolean {
    if ("type" in value) {
      if (value.type !== "execution/started" || this.hostId) {
        throw new TypeError("an answer to an execute that is not one");
      }
      this.#remote.admit(value.cellId, this);
      return false;
    }
    if (!this.hostId) throw new TypeError("an answer to an execute that is not one");
    this.#respond(value);
    return true;
  }

  /** Its execute was refused, or the connection was lost. */
  failed(error: CellblockError): void {
    this.#conclude(error);
  }

  admitted(hostId: string): void {
    const { generation } = this.#connection;
    this.hostId = hostId;
    this.id = generation === 1 ? hostId : `g${generation}:${hostId}`;
    this.#unexpect();
    if (this.#terminating) this.#sendTermination();
    else if (this.#until !== undefined) this.#expectUntil(this.#until);
  }

  /** The program has ended, and its last answer waits on the host. */
  ended(): void {
    this.#announced = true;
    this.#ask();
  }

  /** The connection is gone, or the session was closed. */
  lost(error: CellblockError): void {
    this.#conclude(error);
  }

  #respond(tagged: TaggedResponse): void {
    this.#asked = undefined;
    if (tagged.Yielded) {
      this.#lastYield = tagged.Yielded;
      this.#kept.push(...itemsOf(tagged.Yielded));
      const isWanted = this.#asker === this.#caller || this.#kept.length > 0;
      if (this.#caller && isWanted) this.#yield(tagged.Yielded);
      this.#ask();
      return;
    }
    const last = tagged.Result ?? tagged.Terminated;
    if (!last) throw new TypeError("a response of no kind");
    if (tagged.Result) this.#stored.merge(last.seam?.stored ?? new Map());
    const items = [...this.#kept, ...itemsOf(last)];
    const kind = tagged.Result ? "result" : "terminated";
    this.#conclude(resultOf(kind, last, this.id, items, this.#stored, this.#prelude));
  }

  /** Answers the caller that the program goes on. */
  #yield(response: Response): void {
    const items = this.#kept;
    const result = resultOf("yielded", response, this.id, items, this.#stored, this.#prelude);
    this.#kept = [];
    this.#takeCaller()?.resolve(result);
  }

  /** It has ended: what it has called is aborted, and the end is delivered. */
  #conclude(end: Result | CellblockError): void {
    if (this.#end) return;
    this.#end = end;
    this.#remote.forget(this);
    this.#abortCalls("the program has ended");
    const callers = [this.#takeCaller(), ...this.#enders.splice(0)];
    this.#letGo();
    for (const caller of callers) {
      if (end instanceof Result) caller?.resolve(end);
      else caller?.reject(end);
    }
  }

  // What is asked of the host

  /** Asks for the next answer, if somebody wants it and none is on its way. */
  #ask(): void {
    const isWanted = this.#caller || this.#announced;
    if (!isWanted || this.#asked !== undefined || this.#terminating || this.#end) return;
    let ms: number | undefined = 0;
    if (this.#caller) {
      ms = this.#until === undefined ? undefined : Math.max(0, this.#until - performance.now());
      if (this.#until !== undefined) this.#expectUntil(this.#until);
    }
    this.#asker = this.#caller;
    const request = { cell_id: this.hostId, yield_time_ms: yieldMs(ms) };
    const operation = { method: "session/wait", sessionId: this.#remote.id, request };
    this.#asked = this.#request(operation, (error) => {
      if (error instanceof CancelledRequestError) {
        this.#asked = undefined;
        this.#ask();
      } else if (error instanceof HostLostError || !this.#caller) {
        this.#conclude(error);
      } else {
        this.#asked = undefined;
        this.#takeCaller()?.reject(error);
      }
    });
  }

  #sendTermination(): void {
    this.#expect("a termination", TRANSPORT_MS);
    const operation = {
      method: "session/terminate",
      sessionId: this.#remote.id,
      cellId: this.hostId,
    };
    this.#request(operation, (error) => this.#conclude(error));
  }

  #request(operation: unknown, failed: (error: CellblockError) => void): number | undefined {
    const answered = (value: OperationValue | TaggedResponse) => {
      if (!("type" in value) || value.type !== "wait/completed") {
        throw new TypeError("an answer to a wait that is not one");
      }
      if (value.outcome.LiveCell) this.#respond(value.outcome.LiveCell);
      else {
        this.#conclude(new CellNotFoundError(`the host knows no cell ${this.id}, or not any more`));
      }
      return true;
    };
    try {
      return this.#connection.request(operation, { answered, failed });
    } catch (error) {
      this.#conclude(error as CellblockError);
      return undefined;
    }
  }

  #expectUntil(until: number): void {
    this.#expect("a wait", until - performance.now() + TRANSPORT_MS);
  }

  #expect(what: string, ms: number): void {
    this.#unexpect();
    this.#late = this.#connection.expect(`${what} in time`, ms);
  }

  #unexpect(): void {
    clearTimeout(this.#late);
    this.#late = undefined;
  }

  // Nested calls and notifications

  /** The program calls a tool, or sends a notification. */
  delegated(delegate: number, request: DelegateRequest): void {
    const controller = new AbortController();
    this.#calls.set(delegate, controller);
    void this.#serve(delegate, request, controller.signal).finally(() => {
      this.#calls.delete(delegate);
    });
  }

  /** The host gives one up. */
  cancelled(delegate: number): void {
    this.#calls.get(delegate)?.abort(new Error("the program gives up the call"));
  }

  #abortCalls(why: string): void {
    for (const controller of this.#calls.values()) controller.abort(new Error(why));
  }

  /** Runs a tool or delivers a notification, and answers. */
  async #serve(delegate: number, request: DelegateRequest, signal: AbortSignal): Promise<void> {
    let outcome: string;
    try {
      if (request.type === "tool/invoke") {
        const { tool_name, input, runtime_tool_call_id } = request.invocation;
        const options = { signal, cellId: this.id, callId: runtime_tool_call_id };
        const text = await this.#tools.call(tool_name.name, input, options);
        outcome = `{"status":"ok","value":{"type":"tool/result","result":${text}}}`;
      } else {
        await this.#onNotify?.(request.text);
        outcome = DELIVERED;
      }
      while (this.#connection.isFull) await this.#connection.emptied();
    } catch (error) {
      outcome = failure(messageOf(error));
    }
    // One that the host has given up gets no answer: `reply` knows.
    this.#connection.reply(delegate, outcome);
  }
}
