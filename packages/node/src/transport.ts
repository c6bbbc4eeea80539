// What carries frames to a host and back.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { HEADER_BYTES, MAX_FRAME_BYTES } from "./messages.js";

/** Milliseconds that a host may take to accept a connection, and as long again to shake hands. */
export const PATIENCE_MS = 30_000;

/** Milliseconds that a host may take to end once its input has. */
const EXIT_GRACE_MS = 5_000;

/** Bytes of a child's log that are kept, for the reason of its end. */
const LOG_BYTES = 4_096;

/**
 * What a child keeps of this process's environment: where it finds programs, its cache and its
 * temporary files, and how it logs. No secrets of its parent's.
 */
const KEPT = [
  "PATH",
  "HOME",
  "TMPDIR",
  "LANG",
  "LC_ALL",
  "XDG_CACHE_HOME",
  "CELLBLOCK_LOG",
  "RUST_LOG",
];

/** Who is told what arrives. */
export interface Listener {
  /** A frame's payload. Throws when the host has broken the protocol. */
  frame(payload: Uint8Array): void;
  /** The connection has ended: why, if it is known. Called once. */
  ended(why: string | undefined): void;
}

/** A stream of frames to a host and one back. */
export interface Transport {
  /** Starts to listen. */
  listen(listener: Listener): void;
  /** Writes a whole frame, length included. */
  write(frame: Buffer): void;
  /** Bytes that wait to be written. */
  queued(): number;
  /** Says that no frame follows: the host is to end the connection. */
  end(): void;
  /** Ends the connection at once. */
  abort(): void;
  /** Whether the connection keeps this process from ending. */
  hold(held: boolean): void;
}

/** Splits a stream of bytes into the payloads of frames. */
export class Splitter {
  #chunks: Buffer[] = [];
  #length = 0;

  /** @throws A frame is longer than it may be. */
  *push(chunk: Buffer): Generator<Buffer> {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    while (this.#length >= HEADER_BYTES) {
      const length = this.#peek();
      if (length > MAX_FRAME_BYTES) {
        throw new RangeError(`a frame of ${length} bytes, and at most ${MAX_FRAME_BYTES} fit`);
      }
      if (this.#length < HEADER_BYTES + length) return;
      const all = this.#joined();
      this.#chunks = [all.subarray(HEADER_BYTES + length)];
      this.#length -= HEADER_BYTES + length;
      yield all.subarray(HEADER_BYTES, HEADER_BYTES + length);
    }
  }

  /** Whether a frame has begun and not ended. */
  get isWithin(): boolean {
    return this.#length > 0;
  }

  #peek(): number {
    const first = this.#chunks[0];
    return (first && first.length >= HEADER_BYTES ? first : this.#joined()).readUInt32LE();
  }

  #joined(): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0] : undefined;
    const joined = all ?? Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }
}

/** Reads frames from a stream; returns why it ended, if that is known. */
async function readFrames(stream: Readable, listener: Listener): Promise<string | undefined> {
  const splitter = new Splitter();
  try {
    for await (const chunk of stream) {
      for (const payload of splitter.push(chunk as Buffer)) listener.frame(payload);
    }
  } catch (error) {
    return message(error);
  }
  return splitter.isWithin ? "it ended within a frame" : undefined;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The standard streams of a child of this process. */
export class ChildTransport implements Transport {
  readonly #child: ChildProcess;
  readonly #input: Writable;
  // Counted here: what streams say of themselves is not the same everywhere.
  #queued = 0;
  #log = "";
  #gone = false;

  private constructor(child: ChildProcess, input: Writable) {
    this.#child = child;
    this.#input = input;
    // A host that is written to after its end says more on the way that is read.
    input.on("error", () => {});
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#log = (this.#log + chunk.toString("utf8")).slice(-LOG_BYTES);
    });
  }

  static async open(command: readonly string[]): Promise<ChildTransport> {
    const [program = "", ...rest] = command;
    const kept = KEPT.filter((name) => process.env[name] !== undefined);
    const child = spawn(program, rest, {
      env: Object.fromEntries(kept.map((name) => [name, process.env[name]])),
      stdio: ["pipe", "pipe", "pipe"],
      // In a session of its own, so that Ctrl-C in a terminal reaches this process alone,
      // which decides what becomes of the host.
      detached: true,
    });
    if (!child.stdin) throw new Error("it has no standard streams");
    const transport = new ChildTransport(child, child.stdin);
    await once(child, "spawn");
    return transport;
  }

  listen(listener: Listener): void {
    const exited = new Promise<void>((resolve) => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) resolve();
      else this.#child.once("exit", () => resolve());
    });
    const output = this.#child.stdout;
    if (!output) throw new Error("it has no standard output");
    void readFrames(output, listener).then(async (why) => {
      if (why !== undefined) this.abort();
      this.end();
      const late = setTimeout(() => this.abort(), EXIT_GRACE_MS);
      await exited;
      clearTimeout(late);
      // What it has left behind; from here on its number may be another's.
      this.abort();
      this.#gone = true;
      const { exitCode, signalCode } = this.#child;
      const how = signalCode ? `signal ${signalCode}` : `exit code ${exitCode}`;
      const last = this.#log.trim().split("\n").at(-1);
      listener.ended(why ?? `it ended with ${how}${last ? `: ${last}` : ""}`);
    });
  }

  write(frame: Buffer): void {
    this.#queued += frame.length;
    this.#input.write(frame, () => {
      this.#queued -= frame.length;
    });
  }

  queued(): number {
    return this.#queued;
  }

  end(): void {
    this.#input.end();
  }

  abort(): void {
    if (this.#child.pid === undefined || this.#gone) return;
    try {
      process.kill(-this.#child.pid, "SIGKILL");
    } catch {
      // Nothing of it is left.
    }
  }

  hold(held: boolean): void {
    const { stdin, stdout, stderr } = this.#child;
    for (const each of [this.#child, stdin, stdout, stderr]) {
      // The streams of a child are sockets, though their type does not say so.
      const holder = each as { ref?(): void; unref?(): void } | null;
      if (held) holder?.ref?.();
      else holder?.unref?.();
    }
  }
}

/** A socket, plain or encrypted. */
export class SocketTransport implements Transport {
  readonly #socket: Socket;
  #queued = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", () => {});
  }

  static async open(path: string): Promise<SocketTransport> {
    const socket = connect({ path });
    const late = setTimeout(() => socket.destroy(new Error("no answer")), PATIENCE_MS);
    try {
      await once(socket, "connect");
    } finally {
      clearTimeout(late);
    }
    return new SocketTransport(socket);
  }

  listen(listener: Listener): void {
    void readFrames(this.#socket, listener).then((why) => {
      this.#socket.destroy();
      listener.ended(why);
    });
  }

  write(frame: Buffer): void {
    this.#queued += frame.length;
    this.#socket.write(frame, () => {
      this.#queued -= frame.length;
    });
  }

  queued(): number {
    return this.#queued;
  }

  end(): void {
    this.#socket.end();
  }

  abort(): void {
    this.#socket.destroy();
  }

  hold(held: boolean): void {
    if (held) this.#socket.ref();
    else this.#socket.unref();
  }
}
