// A session on one connection.

import type { Cell } from "./cell.js";
import type { Connection, Recipient } from "./connection.js";
import { CellblockError } from "./errors.js";
import type { DelegateRequest } from "./messages.js";

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
