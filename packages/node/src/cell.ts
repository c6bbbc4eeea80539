// A program on the host, as it is seen from here.

import { Calls, type Serving } from "./calls.js";
import {
  CancelledRequestError,
  type Connection,
  failure,
  type Pending,
  TRANSPORT_MS,
} from "./connection.js";
import {
  BusyError,
  type CellblockError,
  CellNotFoundError,
  HostLostError,
  ParkError,
} from "./errors.js";
import {
  type DelegateRequest,
  type OperationValue,
  type Response,
  type TaggedResponse,
  yieldMs,
} from "./messages.js";
import type { Parked } from "./parked.js";
import type { RemoteSession } from "./remote.js";
import { type Item, itemsOf, type Kind, Result, resultOf } from "./result.js";
import type { StoredValues } from "./stored.js";

const HAS_ENDED = "the program has ended: wait for its result";

/** Who waits for something. */
interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

type Caller = Waiter<Result>;

/** What a program runs with on this side. */
export interface Setting extends Serving {
  readonly stored: StoredValues;
  /** The length of what stands in front of it. */
  readonly prelude: number;
  /** What it was parked as, for one that is woken. */
  readonly parked: Parked;
}

/** One program, from its request to its end. */
export class Cell implements Pending {
  /** Its name in the session, once it was admitted. */
  id = "";
  /** Its name on the host, once it was admitted. */
  hostId = "";
  readonly #remote: RemoteSession;
  readonly #connection: Connection;
  readonly #setting: Setting;
  // Has the host wake it in its place; returns the request's id.
  readonly #wake: (cell: Cell, parked: Uint8Array) => number;
  // The answer on its way, whom it was asked for, and what is kept of answers that nobody had
  // asked for.
  #asked: number | undefined;
  #asker: Caller | undefined;
  #kept: Item[];
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
  #asksToEnd = false;
  #end: Result | CellblockError | undefined;
  // Who parks it, and whether the answer on its way is to that.
  #parker: Waiter<Parked> | undefined;
  #asksToPark = false;
  // Nested calls and notifications that are served.
  #calls: Calls;

  constructor(
    remote: RemoteSession,
    setting: Setting,
    wake: (cell: Cell, parked: Uint8Array) => number,
  ) {
    this.#remote = remote;
    this.#connection = remote.connection;
    this.#setting = setting;
    this.#wake = wake;
    this.#kept = [...setting.parked.items];
    this.#calls = new Calls(this.#connection, setting, setting.parked.calls);
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
      this.#calls.cancel("the program was terminated");
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
    if (this.#caller || this.#parker) return Promise.reject(this.#busy());
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

  /** Parks it, once it waits. Aborted, it leaves the program alone. */
  park(signal: AbortSignal | undefined): Promise<Parked> {
    if (this.#end) return Promise.reject(new ParkError(HAS_ENDED));
    if (this.#caller || this.#parker) return Promise.reject(this.#busy());
    return new Promise((resolve, reject) => {
      const abort = () => {
        if (this.#parker !== parker) return;
        this.#takeParker();
        if (this.#asksToPark && this.#asked !== undefined) this.#connection.cancel(this.#asked);
        else this.#calls.deliver();
        reject(signal?.reason);
      };
      const done = () => signal?.removeEventListener("abort", abort);
      const parker: Waiter<Parked> = {
        resolve: (parked) => {
          done();
          resolve(parked);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      this.#parker = parker;
      this.#hold();
      signal?.addEventListener("abort", abort, { once: true });
      // What the host is sent from now on might be lost between two cells.
      this.#calls.hold();
      this.#ask();
    });
  }

  #takeParker(): Waiter<Parked> | undefined {
    const parker = this.#parker;
    this.#parker = undefined;
    if (!this.#caller && this.#enders.length === 0) this.#letGo();
    return parker;
  }

  #busy(): BusyError {
    return new BusyError(`somebody else waits for the cell ${this.id}`);
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
    // One that was parked and is woken in its place keeps its name.
    this.id ||= generation === 1 ? hostId : `g${generation}:${hostId}`;
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
    this.#asksToPark = false;
    const parked = tagged.Yielded?.seam?.parked;
    if (tagged.Yielded && parked) {
      this.#left(tagged.Yielded, parked);
      return;
    }
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
    if (tagged.Result) this.#setting.stored.merge(last.seam?.stored ?? new Map());
    const items = [...this.#kept, ...itemsOf(last)];
    const kind = tagged.Result ? "result" : "terminated";
    this.#conclude(this.#result(kind, last, items));
  }

  /** Answers the caller that the program goes on. */
  #yield(response: Response): void {
    const result = this.#result("yielded", response, this.#kept);
    this.#kept = [];
    this.#takeCaller()?.resolve(result);
  }

  #result(kind: Kind, response: Response, items: readonly Item[]): Result {
    const { stored, prelude } = this.#setting;
    return resultOf(kind, response, this.id, items, stored, prelude);
  }

  /** It has ended: what it has called is aborted, and the end is delivered. */
  #conclude(end: Result | CellblockError): void {
    if (this.#end) return;
    this.#end = end;
    this.#remote.forget(this);
    // One that was never there leaves what it would have gone on with.
    this.#calls.cancel("the program has ended", { withPending: this.hostId !== "" });
    this.#takeParker()?.reject(end instanceof Result ? new ParkError(HAS_ENDED) : end);
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
    const isWanted = this.#caller || this.#parker || this.#announced;
    if (!isWanted || this.#asked !== undefined || this.#terminating || this.#end) return;
    let ms: number | undefined = 0;
    if (this.#caller) {
      ms = this.#until === undefined ? undefined : Math.max(0, this.#until - performance.now());
      if (this.#until !== undefined) this.#expectUntil(this.#until);
    }
    this.#asker = this.#caller;
    this.#asksToPark = !this.#caller && !this.#announced;
    const request = { cell_id: this.hostId, yield_time_ms: yieldMs(ms) };
    const operation = {
      method: "session/wait",
      sessionId: this.#remote.id,
      request,
      ...(this.#asksToPark ? { park: true } : {}),
    };
    this.#asked = this.#request(operation, (error) => {
      if (error instanceof CellNotFoundError) {
        this.#asked = undefined;
        this.#asksToPark = false;
        this.#missed(error);
      } else if (this.#asksToPark) this.#notParked(error);
      else if (error instanceof CancelledRequestError) {
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
    this.#asksToEnd = true;
    this.#request(operation, (error) => {
      this.#asksToEnd = false;
      if (error instanceof CellNotFoundError) this.#missed(error);
      else this.#conclude(error);
    });
  }

  /** The host does not know it; an answer that is on its way may say how it has ended. */
  #missed(error: CellNotFoundError): void {
    if (this.#asked === undefined && !this.#asksToEnd) this.#conclude(error);
  }

  #request(operation: unknown, failed: (error: CellblockError) => void): number | undefined {
    const answered = (value: OperationValue | TaggedResponse) => {
      if (!("type" in value) || value.type !== "wait/completed") {
        throw new TypeError("an answer to a wait that is not one");
      }
      if (value.outcome.LiveCell) this.#respond(value.outcome.LiveCell);
      else failed(new CellNotFoundError(`the host knows no cell ${this.id}, or not any more`));
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

  // Parked

  /** The host has parked it. */
  #left(response: Response, parked: NonNullable<NonNullable<Response["seam"]>["parked"]>): void {
    this.#remote.forget(this);
    const ends = new Map<string, string>();
    for (const [name, { Ok, Err }] of parked.ends ?? []) {
      const value = `{"status":"ok","value":{"type":"tool/result","result":${Ok}}}`;
      ends.set(name, Ok === undefined ? failure(Err ?? "") : value);
    }
    const left = {
      cell: new Uint8Array(Buffer.from(parked.cell, "base64")),
      calls: this.#calls.leave(ends),
      items: [...this.#kept, ...itemsOf(response)],
    };
    const parker = this.#takeParker();
    if (!parker) {
      // Nobody takes it any more.
      this.#wakeAgain(left);
      return;
    }
    this.#conclude(new CellNotFoundError(`the cell ${this.id} was parked`));
    parker.resolve(left);
  }

  /** Has the host wake it in its place. */
  #wakeAgain(left: Parked): void {
    this.hostId = "";
    this.#kept = [...left.items];
    this.#calls = new Calls(this.#connection, this.#setting, left.calls);
    this.#expect("an execute", TRANSPORT_MS);
    try {
      this.#asked = this.#wake(this, left.cell);
    } catch (error) {
      this.#conclude(error as CellblockError);
    }
  }

  /** It was not parked, and goes on. */
  #notParked(error: CellblockError): void {
    this.#asked = undefined;
    this.#asksToPark = false;
    if (error instanceof HostLostError) {
      this.#conclude(error);
      return;
    }
    // One that was cancelled is another's than that of whoever has begun to park it since.
    const parker = error instanceof CancelledRequestError ? undefined : this.#takeParker();
    if (!this.#parker) this.#calls.deliver();
    parker?.reject(error instanceof BusyError ? error : new ParkError(error.message));
    this.#ask();
  }

  // Nested calls and notifications

  /** The program calls a tool, or sends a notification. */
  delegated(delegate: number, request: DelegateRequest): void {
    this.#calls.serve(delegate, request, this.id);
  }

  /** The host gives one up. */
  cancelled(delegate: number): void {
    this.#calls.cancelled(delegate);
  }
}
