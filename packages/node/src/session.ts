// A session: programs that share tools, limits and stored values.

import type { OnNotify, Serving } from "./calls.js";
import { Cell, type Setting } from "./cell.js";
import {
  CellblockError,
  CellNotFoundError,
  InvalidRequestError,
  ParkError,
  SessionClosedError,
} from "./errors.js";
import { Host } from "./host.js";
import { type Limits, onTheWire } from "./limits.js";
import { yieldMs } from "./messages.js";
import { alone, cancelCalls, nameOf, type Parked } from "./parked.js";
import { PRELUDE, preludeOf } from "./prelude.js";
import { RemoteSession } from "./remote.js";
import type { Result } from "./result.js";
import { delta, StoredValues } from "./stored.js";
import { Toolbox, type Tools } from "./tools.js";

/** What a program is written in; `auto` is TypeScript where it is not valid JavaScript. */
export type Language = "auto" | "js" | "ts";

/**
 * Programs that were answered as running and whose next answer may wait to be asked for; above
 * it, the oldest that have ended are forgotten.
 */
const UNREAD_CELLS = 256;

/** Parked programs whose calls run on; above it, those of the oldest are cancelled. */
const MAX_PARKED = 256;

const NO_TOOLS = new Toolbox({});

export interface SessionOptions {
  /** Functions that programs may call as `tools.NAME(input)`. */
  readonly tools?: Tools;
  /** What each program may use. */
  readonly limits?: Limits;
  /**
   * Values that programs find with `load`; those that they `store` are added to `Session.stored`
   * when they complete.
   */
  readonly stored?: Readonly<Record<string, unknown>>;
  /** Is called with what programs send with `notify`, in order. */
  readonly onNotify?: OnNotify;
  /** Where programs run; a process that this one starts, unless it is given. */
  readonly host?: Host;
}

export interface ExecOptions {
  /**
   * Milliseconds after which to return a result with the status `running` if the program still
   * runs; it goes on, and `wait` gets the rest. A program may ask for the same with
   * `yield_control()`.
   */
  readonly yieldAfterMs?: number;
  /**
   * Whether the program's value is wanted: that of its last expression, or of a `return`, which
   * works at its top only then. It is, unless this is false.
   */
  readonly value?: boolean;
  /** What it is written in; `auto` unless it is given. Types are not checked. */
  readonly language?: Language;
  /** What the program finds where it names none; `en-US` by default. */
  readonly locale?: string;
  /** The same for the time zone; `UTC` by default. */
  readonly timeZone?: string;
  /** Tools for this program instead of the session's. */
  readonly tools?: Tools;
  /** Terminates the program when it is aborted. */
  readonly signal?: AbortSignal;
}

export interface WaitOptions {
  /** As for `exec`. */
  readonly yieldAfterMs?: number;
  /** Gives up the wait when it is aborted; the program goes on. */
  readonly signal?: AbortSignal;
}

export interface ParkOptions {
  /** Gives it up when it is aborted; the program goes on. */
  readonly signal?: AbortSignal;
}

export interface WakeOptions {
  /** As for `exec`. */
  readonly yieldAfterMs?: number;
  /** The tools that it may call, of those that it was started with, instead of the session's. */
  readonly tools?: Tools;
  /**
   * Tools for the calls that it waited for when it was parked, and that this session does not
   * have: each is made again, with the input that it had. One of another tool rejects, for it may
   * have taken effect.
   */
  readonly resume?: Tools;
  /**
   * Whether it is a copy of one that goes on elsewhere: then its `Math.random` goes on from
   * another seed.
   */
  readonly isFork?: boolean;
  /** Terminates the program when it is aborted. */
  readonly signal?: AbortSignal;
}

/**
 * Runs programs that share tools, limits and stored values, each in a sandbox of its own.
 *
 * ```js
 * const session = new Session({ tools: { getPrice } });
 * const result = await session.exec("text(await tools.getPrice({ item: 'apple' }))");
 * console.log(result.text);
 * await session.close();
 * ```
 *
 * Programs of one session run at the same time.
 */
export class Session {
  /** The stored values, which may be changed: the next program finds the change. */
  readonly stored: StoredValues;
  readonly #tools: Toolbox;
  readonly #limits: Record<string, number | string> | undefined;
  readonly #onNotify: OnNotify | undefined;
  readonly #host: Host;
  readonly #cells = new Map<string, Cell>();
  /** What runs on of programs that were parked, by their names. */
  readonly #parked = new Map<string, Parked>();
  #remote: RemoteSession | undefined;
  #opening: Promise<RemoteSession> | undefined;
  #isClosed = false;

  /**
   * @throws {ToolDefinitionError} A tool cannot be one.
   * @throws {NotJsonError} A stored value has no JSON.
   * @throws {RangeError} A limit is not one.
   */
  constructor(options: SessionOptions = {}) {
    this.#tools = new Toolbox(options.tools ?? {});
    this.#limits = options.limits && onTheWire(options.limits);
    this.stored = new StoredValues(options.stored);
    this.#onNotify = options.onNotify;
    this.#host = options.host ?? Host.default();
  }

  /**
   * Runs a program to its end, and returns what it answers. A program that fails is a result,
   * too: `Result.check` makes an error of it.
   *
   * @throws {InvalidRequestError} The program cannot be one, or is too long.
   * @throws {BusyError} As many programs run as may.
   * @throws {HostUnavailableError} There is no host.
   * @throws {HostLostError} The host failed, and the program with it.
   * @throws {SessionClosedError} The session was closed.
   */
  async exec(program: string, options: ExecOptions = {}): Promise<Result> {
    const { yieldAfterMs, value = true, language = "auto", locale, timeZone, signal } = options;
    const tools = options.tools ? new Toolbox(options.tools) : this.#tools;
    signal?.throwIfAborted();
    if (!program.isWellFormed()) throw new InvalidRequestError("it is not valid Unicode");
    const remote = await this.#ready();
    signal?.throwIfAborted();
    const prelude = preludeOf(program);
    const { stored } = this;
    const setting = {
      ...this.#serving(tools),
      stored,
      prelude: prelude.length,
      parked: alone(new Uint8Array()),
    };
    const request = requestOf(tools, prelude + program, yieldAfterMs);
    const seam = { wantsValue: value, language, regional: { locale, timeZone } };
    return this.#run(remote, request, seam, setting, yieldAfterMs, signal);
  }

  /**
   * Waits for a program that was answered as `running`; what it has printed since is in the
   * result.
   *
   * @param cell The result, or its `cellId`.
   * @throws {CellNotFoundError} There is no such program, or its end was returned before.
   * @throws {BusyError} Somebody else waits for it.
   * @throws {HostLostError} The host failed, and the program with it.
   * @throws {SessionClosedError} The session was closed.
   */
  async wait(cell: Result | string, options: WaitOptions = {}): Promise<Result> {
    options.signal?.throwIfAborted();
    const found = this.#find(cell);
    const result = await found.wait(options.yieldAfterMs, options.signal);
    if (result.status !== "running") this.#cells.delete(found.id);
    return result;
  }

  /**
   * Ends a program that was answered as `running`, and returns its last answer.
   *
   * @param cell The result, or its `cellId`.
   * @throws {CellNotFoundError} There is no such program, or its end was returned before.
   * @throws {HostLostError} The host failed, and the program with it.
   * @throws {SessionClosedError} The session was closed.
   */
  async terminate(cell: Result | string): Promise<Result> {
    const found = this.#find(cell);
    const result = await found.terminate();
    this.#cells.delete(found.id);
    return result;
  }

  /**
   * Parks a program that was answered as `running`, once it waits, as bytes. The session has it
   * no more; `wake` lets it go on, in any session of a host with the same key. Calls that it
   * waits for run on until this session is closed, and what they end with is given to it when it
   * is woken here.
   *
   * @param cell The result, or its `cellId`.
   * @throws {ParkError} The program has ended, or is too large.
   * @throws {CellNotFoundError} There is no such program, or its end was returned before.
   * @throws {BusyError} Somebody else waits for it.
   * @throws {HostLostError} The host failed, and the program with it.
   * @throws {SessionClosedError} The session was closed.
   */
  async park(cell: Result | string, options: ParkOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const found = this.#find(cell);
    const left = await found.park(options.signal);
    this.#cells.delete(found.id);
    this.#keepParked(left);
    return left.cell;
  }

  /**
   * Lets a parked program go on where it waited, and returns what it answers. It is a new program
   * with an id of its own, and `exec` says what holds for those. It has the limits with which it
   * was started, less what it has used.
   *
   * @param parked What `park` returned.
   * @throws {ParkError} The bytes are something else, were made with another key or by another
   *   build, or may use more than the session allows.
   * @throws {BusyError} As many programs run as may.
   * @throws {HostUnavailableError} There is no host.
   * @throws {HostLostError} The host failed, and the program with it.
   * @throws {SessionClosedError} The session was closed.
   */
  async wake(parked: Uint8Array, options: WakeOptions = {}): Promise<Result> {
    const { yieldAfterMs, isFork = false, signal } = options;
    const tools = options.tools ? new Toolbox(options.tools) : this.#tools;
    const resume = new Toolbox(options.resume ?? {});
    signal?.throwIfAborted();
    const remote = await this.#ready();
    signal?.throwIfAborted();
    const left = this.#parked.get(nameOf(parked)) ?? alone(parked);
    this.#parked.delete(nameOf(parked));
    const { stored } = this;
    const serving = { ...this.#serving(tools), resume };
    const setting = { ...serving, stored, prelude: PRELUDE.length, parked: left };
    const request = requestOf(tools, "", yieldAfterMs);
    try {
      return await this.#run(
        remote,
        request,
        seamOf(parked, isFork),
        setting,
        yieldAfterMs,
        signal,
      );
    } catch (error) {
      const isRefused = error instanceof CellblockError && error.code === "refused";
      throw isRefused ? new ParkError(error.message) : error;
    }
  }

  /** Ends the session and its programs. The host goes on. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cells.clear();
    for (const left of this.#parked.values()) cancelCalls(left);
    this.#parked.clear();
    const remote = await this.#opening?.catch(() => undefined);
    if (!remote || remote.connection.lost) return;
    const release = remote.connection.hold();
    await remote.close(new SessionClosedError("the session was closed"));
    release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #serving(tools: Toolbox): Serving {
    return { tools, onNotify: this.#onNotify, resume: NO_TOOLS };
  }

  /** The session on its host, once there is room for another request. */
  async #ready(): Promise<RemoteSession> {
    const remote = await this.#connected();
    while (remote.connection.isFull) await remote.connection.emptied();
    return remote;
  }

  /** Starts a program, or wakes one; returns its first answer. */
  async #run(
    remote: RemoteSession,
    request: object,
    seam: object,
    setting: Setting,
    yieldAfterMs: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Result> {
    const send = (cell: Cell, request: object, seam: object) => {
      // Changes of stored values count in the order in which they are sent, so each is found out
      // and sent in one go.
      const now = this.stored.texts();
      const changed = { ...seam, stored: delta(remote.known, now) };
      const operation = { method: "session/execute", sessionId: remote.id, request, seam: changed };
      const id = remote.connection.request(operation, cell);
      remote.known = now;
      return id;
    };
    const cell = new Cell(remote, setting, (cell, parked) =>
      send(cell, requestOf(setting.tools, "", 0), seamOf(parked, false)),
    );
    try {
      const result = await cell.first(() => send(cell, request, seam), yieldAfterMs, signal);
      if (result.status === "running") this.#keep(cell);
      return result;
    } catch (error) {
      // Of one that was not admitted nothing was taken.
      if (error instanceof CellblockError && !cell.hostId) this.#keepParked(setting.parked);
      throw error;
    }
  }

  /** Keeps the calls of a parked program, which run on. */
  #keepParked(left: Parked): void {
    if (left.calls.size === 0 && left.items.length === 0) return;
    if (this.#isClosed) {
      cancelCalls(left);
      return;
    }
    this.#parked.set(nameOf(left.cell), left);
    for (const [name, oldest] of this.#parked) {
      if (this.#parked.size <= MAX_PARKED) break;
      this.#parked.delete(name);
      cancelCalls(oldest);
    }
  }

  /** The session on the newest connection, opened when there is none. */
  async #connected(): Promise<RemoteSession> {
    this.#checkOpen();
    const connection = await this.#host.connection();
    this.#checkOpen();
    if (!this.#opening || this.#remote?.connection !== connection) {
      const remote = new RemoteSession(connection);
      const limits = this.#limits ?? (this.#host.asksForLimits ? {} : undefined);
      const release = connection.hold();
      this.#remote = remote;
      const opening = remote.open(limits).finally(release);
      this.#opening = opening;
      opening.catch(() => {
        if (this.#opening === opening) this.#opening = undefined;
      });
    }
    return this.#opening;
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new SessionClosedError("the session was closed");
  }

  #keep(cell: Cell): void {
    this.#cells.set(cell.id, cell);
    const over = [...this.#cells.values()].filter((each) => each.isOver);
    for (const each of over.slice(0, Math.max(0, this.#cells.size - UNREAD_CELLS))) {
      this.#cells.delete(each.id);
    }
  }

  #find(cell: Result | string): Cell {
    this.#checkOpen();
    const id = typeof cell === "string" ? cell : cell.cellId;
    const found = this.#cells.get(id);
    if (!found) {
      throw new CellNotFoundError(`there is no cell ${id}, or its end was returned before`);
    }
    return found;
  }
}

/** What a host needs to start a program. */
function requestOf(tools: Toolbox, source: string, yieldAfterMs: number | undefined): object {
  return {
    tool_call_id: "",
    enabled_tools: tools.definitions,
    source,
    yield_time_ms: yieldMs(yieldAfterMs),
    max_output_tokens: null,
  };
}

/** What a host needs besides to wake one. */
function seamOf(parked: Uint8Array, isFork: boolean): object {
  const cell = Buffer.from(parked.buffer, parked.byteOffset, parked.byteLength);
  return { wake: { cell: cell.toString("base64"), isFork, restrictsTools: true } };
}
