// One connection to a host: a *generation*. When it fails, everything of it fails with one
// reason, and it is never used again.

import {
  BusyError,
  type CellblockError,
  HostLostError,
  HostUnavailableError,
  InvalidRequestError,
  RefusedError,
} from "./errors.js";
import {
  type DelegateRequest,
  frame,
  frameText,
  type HostMessage,
  hello,
  type OperationValue,
  parse,
  SEAM_CAPABILITY,
  type TaggedResponse,
  VERSION,
} from "./messages.js";
import { PATIENCE_MS, type Transport } from "./transport.js";

/** Milliseconds that a host may take for an answer, beyond the time that it was asked to wait. */
export const TRANSPORT_MS = 60_000;

/** Bytes that may wait to be written before those who send more wait. */
const MAX_QUEUED_BYTES = 64 << 20;

/** Milliseconds between two looks at whether there is room. */
const ROOM_MS = 20;

/** Nested calls and notifications that a host may have open on a connection. */
const MAX_DELEGATES = 1_024;

const CANCELLED = "code-mode request cancelled";
const INVALID = "invalid code-mode execute request: ";

/** The request was cancelled by this side. */
export class CancelledRequestError extends RefusedError {}

/** A request that awaits its answer. */
export interface Pending {
  /** Takes an answer; true when no other follows. Throws for a wrong one. */
  answered(value: OperationValue | TaggedResponse): boolean;
  /** The request failed. */
  failed(error: CellblockError): void;
}

/** A session as its connection knows it. */
export interface Recipient {
  /** A nested call or a notification of a cell; false when nobody can serve it. */
  delegated(cellId: string, delegate: number, request: DelegateRequest): boolean;
  /** The host gives up a nested call or a notification. */
  cancelled(cellId: string, delegate: number): void;
  /** A cell has ended, and its last response waits. */
  ended(cellId: string): void;
  /** The connection is gone. */
  lost(error: CellblockError): void;
}

export class Connection {
  /** Why it is no longer used; undefined while it is. */
  lost: CellblockError | undefined;
  /** Resolved when nothing of it is left. */
  readonly over: Promise<void>;
  #over: () => void = () => {};
  #transport: Transport;
  #closing = false;
  #lastId = 0;
  #held = 0;
  readonly #requests = new Map<number, Pending>();
  readonly #sessions = new Map<string, Recipient>();
  readonly #delegates = new Map<number, { session: Recipient; cellId: string }>();

  private constructor(
    readonly generation: number,
    transport: Transport,
  ) {
    this.#transport = transport;
    this.over = new Promise((resolve) => {
      this.#over = resolve;
    });
  }

  /**
   * Opens a connection and shakes hands.
   *
   * @throws {HostUnavailableError}
   */
  static async open(
    generation: number,
    place: string,
    openTransport: () => Promise<Transport>,
  ): Promise<Connection> {
    let transport: Transport;
    try {
      transport = await openTransport();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new HostUnavailableError(`cannot reach the host ${place}: ${why}`);
    }
    const connection = new Connection(generation, transport);
    await connection.#shakeHands(place);
    // From here on it holds this process only while something is in flight.
    transport.hold(connection.#held > 0);
    return connection;
  }

  #shakeHands(place: string): Promise<void> {
    return new Promise((resolve, reject) => {
      let refused: string | undefined;
      let isOpen = false;
      const late = setTimeout(() => {
        refused ??= `no answer within ${PATIENCE_MS / 1000} s`;
        this.#transport.abort();
      }, PATIENCE_MS);
      this.#transport.listen({
        frame: (payload) => {
          const message = parse(payload);
          if (isOpen) {
            this.#handle(message);
            return;
          }
          refused ??= unsuitable(message);
          if (refused !== undefined) throw new TypeError(refused);
          isOpen = true;
          clearTimeout(late);
          resolve();
        },
        ended: (why) => {
          clearTimeout(late);
          this.#over();
          if (isOpen) {
            this.fail(this.#reason(why));
          } else {
            const reason = refused ?? why ?? "it closed the connection";
            reject(new HostUnavailableError(`the host ${place} is not one: ${reason}`));
          }
        },
      });
      this.#transport.write(hello());
    });
  }

  #reason(why: string | undefined): HostLostError {
    if (this.#closing) return new HostLostError("the connection to the host was closed");
    const how = why === undefined ? "" : `: ${why}`;
    return new HostLostError(`the connection to the host has ended${how}`);
  }

  // Sending

  /** A number that was never used on this connection. */
  nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  /** Requests an operation; returns its id. */
  request(operation: unknown, pending: Pending): number {
    if (this.lost) throw this.lost;
    const id = this.nextId();
    const bytes = frame({ type: "operation/request", id, request: operation });
    this.#requests.set(id, pending);
    this.#transport.write(bytes);
    return id;
  }

  /** Requests an operation with one answer, and returns that. */
  ask(operation: unknown, what: string): Promise<OperationValue | TaggedResponse> {
    return new Promise((resolve, reject) => {
      const late = this.expect(`${what} in time`, TRANSPORT_MS);
      const answered = (value: OperationValue | TaggedResponse) => {
        clearTimeout(late);
        resolve(value);
        return true;
      };
      const failed = (error: CellblockError) => {
        clearTimeout(late);
        reject(error);
      };
      try {
        this.request(operation, { answered, failed });
      } catch (error) {
        clearTimeout(late);
        reject(error);
      }
    });
  }

  /** The host is lost if it does not answer in time, which clearing the timer says it has. */
  expect(what: string, ms: number): NodeJS.Timeout {
    const error = new HostLostError(`the host did not answer ${what}`);
    // Longer times than a timer has are as good as none.
    return setTimeout(() => this.fail(error), Math.min(ms, 2 ** 31 - 1));
  }

  /** Gives up a wait. */
  cancel(id: number): void {
    if (!this.lost) this.#transport.write(frame({ type: "operation/cancel", id }));
  }

  /**
   * Answers a nested call or a notification, unless the host has given it up. `result` is the
   * JSON text of the outcome.
   */
  reply(delegate: number, result: string): void {
    if (!this.#delegates.delete(delegate) || this.lost) return;
    const text = (outcome: string) =>
      `{"type":"delegate/response","id":${delegate},"result":${outcome}}`;
    let bytes: Buffer;
    try {
      bytes = frameText(text(result));
    } catch (error) {
      bytes = frameText(text(failure(`tool result is too large: ${(error as Error).message}`)));
    }
    this.#transport.write(bytes);
  }

  /** The host no longer waits for a nested call, whose cell it has parked. */
  forget(delegate: number): void {
    this.#delegates.delete(delegate);
  }

  /** Whether as much waits to be written as may. Others may have filled it after `emptied`. */
  get isFull(): boolean {
    return !this.lost && this.#transport.queued() > MAX_QUEUED_BYTES;
  }

  /** Waits while it is full. */
  async emptied(): Promise<void> {
    let queued = Number.POSITIVE_INFINITY;
    let late: NodeJS.Timeout | undefined;
    while (this.isFull) {
      if (this.#transport.queued() < queued) {
        queued = this.#transport.queued();
        clearTimeout(late);
        late = this.expect("for a minute: it does not read what it is sent", TRANSPORT_MS);
      }
      await new Promise((resolve) => setTimeout(resolve, ROOM_MS));
    }
    clearTimeout(late);
  }

  /** Keeps this process from ending until what is returned is called. */
  hold(): () => void {
    this.#held += 1;
    if (this.#held === 1) this.#transport.hold(true);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#held -= 1;
      if (this.#held === 0) this.#transport.hold(false);
    };
  }

  // Sessions

  /** What the host sends for this session goes there. */
  addSession(id: string, session: Recipient): void {
    this.#sessions.set(id, session);
  }

  /** Nothing more is expected for this session. */
  removeSession(id: string): void {
    this.#sessions.delete(id);
  }

  // The end

  /** Ends the connection, for the host has broken the protocol. */
  broken(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    this.fail(new HostLostError(`the host broke the protocol: ${why}`));
  }

  /** Ends the connection at once, for a reason that all its requests get. */
  fail(error: CellblockError): void {
    if (this.lost) return;
    this.lost = error;
    const sessions = [...this.#sessions.values()];
    const requests = [...this.#requests.values()];
    this.#sessions.clear();
    this.#requests.clear();
    this.#delegates.clear();
    for (const session of sessions) session.lost(error);
    for (const pending of requests) pending.failed(error);
    this.#transport.abort();
  }

  /** Asks the host to end, and waits until it has; then it is made to. */
  async end(patienceMs: number): Promise<void> {
    this.#closing = true;
    const release = this.hold();
    this.#transport.end();
    const late = setTimeout(() => this.#transport.abort(), patienceMs);
    await this.over;
    clearTimeout(late);
    release();
  }

  // What the host sends

  #handle(message: HostMessage): void {
    try {
      this.#take(message);
    } catch (error) {
      // Said here and not at the end of the stream, which may be long in coming.
      this.broken(error);
      throw error;
    }
  }

  #take(message: HostMessage): void {
    if (this.lost) return;
    switch (message.type) {
      case "operation/response":
      case "execute/initialResponse": {
        const pending = this.#requests.get(message.id);
        if (!pending) {
          throw new TypeError(`an answer to the request ${message.id}, which awaits none`);
        }
        const { result } = message;
        if (result.status === "error") {
          this.#requests.delete(message.id);
          pending.failed(readRefusal(result.message));
        } else if (pending.answered(result.value)) {
          this.#requests.delete(message.id);
        }
        break;
      }
      case "delegate/request":
        this.#delegate(message.id, message.sessionId, message.request);
        break;
      case "delegate/cancel": {
        const served = this.#delegates.get(message.id);
        this.#delegates.delete(message.id);
        served?.session.cancelled(served.cellId, message.id);
        break;
      }
      case "cell/ended":
        this.#sessions.get(message.sessionId)?.ended(message.cellId);
        break;
      case "cell/kept":
        // This client does not outlive its host.
        break;
      case "cell/closed":
        // The last response says the same.
        break;
      default:
        throw new TypeError("a second handshake");
    }
  }

  #delegate(id: number, sessionId: string, request: DelegateRequest): void {
    if (this.#delegates.has(id)) throw new TypeError(`the delegate request ${id} was made twice`);
    if (this.#delegates.size >= MAX_DELEGATES) {
      throw new TypeError(`more than ${MAX_DELEGATES} delegate requests`);
    }
    const session = this.#sessions.get(sessionId);
    // Without one: it was closed a moment ago, with all its cells.
    if (!session) return;
    const cellId = request.type === "tool/invoke" ? request.invocation.cell_id : request.cellId;
    this.#delegates.set(id, { session, cellId });
    if (!session.delegated(cellId, id, request)) {
      this.reply(id, failure("nobody serves the calls of this cell any more"));
    }
  }
}

/** What is wrong with a host that answers a hello so. */
function unsuitable(message: HostMessage): string | undefined {
  switch (message.type) {
    case "connection/ready":
      if (message.selectedVersion !== VERSION) {
        return `it speaks version ${message.selectedVersion} of the protocol`;
      }
      return message.capabilities.includes(SEAM_CAPABILITY)
        ? undefined
        : `it lacks the capability ${SEAM_CAPABILITY}`;
    case "connection/rejected":
      return `it rejected this client: ${JSON.stringify(message.reason)?.slice(0, 512)}`;
    default:
      return `it answered with ${message.type}`;
  }
}

/** A failed outcome as JSON text. */
export function failure(message: string): string {
  return JSON.stringify({ status: "error", message });
}

function readRefusal(text: string): CellblockError {
  if (text === CANCELLED) return new CancelledRequestError(text);
  if (text.startsWith(INVALID)) return new InvalidRequestError(text.slice(INVALID.length));
  if (/^code-mode (host|session) has too many/.test(text)) return new BusyError(text);
  return new RefusedError(text);
}
