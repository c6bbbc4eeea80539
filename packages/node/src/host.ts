// Where programs run: a process of this package, or a host elsewhere.

import { createRequire } from "node:module";
import { isIP } from "node:net";
import { isMainThread } from "node:worker_threads";
import { Connection } from "./connection.js";
import { HostUnavailableError } from "./errors.js";
import { ChildTransport, SocketTransport, type Transport } from "./transport.js";

/** Milliseconds that a host may take to end when it is asked to; then it is killed. */
const EXIT_PATIENCE_MS = 5_000;

/**
 * The host of this package has no limits of its own beyond those that sessions ask for, or have
 * by default; what a machine can bear is said here.
 */
const CEILINGS = [
  "fuel=1000000000000000",
  "step_fuel=1000000000000000",
  "running_time=24h",
  "total_time=30days",
  "memory_bytes=1GiB",
  "host_bytes=1GiB",
  "output_bytes=60MiB",
  "output_items=1000000",
  "calls=1000000000",
  "input_bytes=60MiB",
  "result_bytes=60MiB",
  "timers=1000000",
  "stored_bytes=60MiB",
  "stored_keys=1000000",
  "source_bytes=60MiB",
  "typescript_bytes=4MiB",
];

/** How a host is checked, and how this side proves its own identity. All of it is PEM. */
export interface Tls {
  /** Certificates of the authorities that may have signed the host's; else the system's. */
  readonly ca?: string | Uint8Array;
  /** This side's certificate, for hosts that ask for one. */
  readonly cert?: string | Uint8Array;
  /** Its key. */
  readonly key?: string | Uint8Array;
  /** The name that the host's certificate must have, where it is not the url's. */
  readonly servername?: string;
}

export interface HostOptions {
  /**
   * A host that runs already: `unix:///PATH`, `wss://NAME:PORT`, or, on this machine and on
   * networks that are trusted as a whole, `ws://IP:PORT`.
   */
  readonly url?: string;
  /**
   * A program that serves framed JSON on its standard streams, and its arguments, instead of the
   * one of this package.
   */
  readonly command?: readonly string[];
  /**
   * A file with the key of parked programs, made when missing. Without one they can be woken only
   * while the process lives that has parked them.
   */
  readonly parkKey?: string;
  /** The bearer token that the host wants of its clients. */
  readonly token?: string;
  /** For `wss://`. */
  readonly tls?: Tls;
}

/**
 * A host, and the connection to it that all its sessions share.
 *
 * Without options it is a process of its own, which the first program starts and which ends with
 * this process; each worker thread has one. It keeps this process from ending only while a
 * program is waited for. When a host fails, what was in flight there fails with `HostLostError`,
 * and the next program starts or reaches it again.
 */
export class Host {
  static #default: Host | undefined;

  readonly #place: string;
  readonly #open: () => Promise<Transport>;
  #generation = 0;
  #connection: Promise<Connection> | undefined;
  #current: Connection | undefined;
  #endsWithThread = false;

  /** @internal Whether sessions always say what their limits are: the host itself has none. */
  readonly asksForLimits: boolean;

  /** @throws {TypeError} The options do not go together. */
  constructor(options: HostOptions = {}) {
    [this.#place, this.#open] = transport(options);
    this.asksForLimits = options.url === undefined && options.command === undefined;
  }

  /** The host of this thread, which sessions use unless they are given another. */
  static default(): Host {
    Host.#default ??= new Host();
    return Host.#default;
  }

  /**
   * @internal The connection, opened when there is none.
   * @throws {HostUnavailableError}
   */
  async connection(): Promise<Connection> {
    if (!this.#connection || this.#current?.lost) {
      this.#endWithThread();
      this.#generation += 1;
      this.#current = undefined;
      const opening = Connection.open(this.#generation, this.#place, this.#open);
      this.#connection = opening;
      opening.then(
        (connection) => {
          if (this.#connection === opening) this.#current = connection;
        },
        () => {
          if (this.#connection === opening) this.#connection = undefined;
        },
      );
    }
    return this.#connection;
  }

  /**
   * A worker thread ends its process before it ends itself, for nobody else does away with what
   * is left of one. The main thread leaves that to the system.
   */
  #endWithThread(): void {
    if (isMainThread || this.#endsWithThread) return;
    this.#endsWithThread = true;
    process.on("beforeExit", () => void this.close());
  }

  /**
   * Ends the connection, and the process if it is one of this host. A program that is started
   * later opens it again.
   */
  async close(): Promise<void> {
    const opening = this.#connection;
    this.#connection = undefined;
    const connection = await opening?.catch(() => undefined);
    await connection?.end(EXIT_PATIENCE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * The path of the program `cellblock` of this package.
 *
 * @throws {HostUnavailableError} There is none for this platform.
 */
export function binary(): string {
  const name = `@cellblock/${process.platform}-${process.arch}`;
  try {
    return createRequire(import.meta.url).resolve(`${name}/bin/cellblock`);
  } catch {
    throw new HostUnavailableError(
      `the package ${name} is not installed: install it without leaving out optional ` +
        "dependencies, or give a Host the url of one that runs elsewhere",
    );
  }
}

/** What a host is called in errors, and what opens a connection to it. */
function transport(options: HostOptions): [string, () => Promise<Transport>] {
  const { url, command, parkKey, token, tls } = options;
  if (url !== undefined && command !== undefined) {
    throw new TypeError("a host has a url or a command, not both");
  }
  if (parkKey !== undefined && (url !== undefined || command !== undefined)) {
    throw new TypeError("a host with a url or a command has a key of its own");
  }
  const scheme = url?.match(/^(unix|wss?):\/\//)?.[1];
  if ((token !== undefined || tls) && scheme !== "ws" && scheme !== "wss") {
    throw new TypeError("a token and TLS are for hosts at wss://");
  }
  if (url === undefined) {
    const limits = CEILINGS.flatMap((limit) => ["--limit", limit]);
    const key = parkKey === undefined ? [] : ["--park-key", parkKey];
    const own = command ?? [];
    return command
      ? [own[0] ?? "", () => ChildTransport.open(own)]
      : [
          "cellblock",
          async () =>
            ChildTransport.open([binary(), "host", "--listen", "stdio", ...limits, ...key]),
        ];
  }
  if (scheme === "unix") return [url, () => SocketTransport.open(url.slice("unix://".length))];
  if (scheme === undefined) throw new TypeError("a host is reached over unix, ws or wss");
  if (scheme === "ws" && tls) throw new TypeError("ws:// is not encrypted: use wss://");
  if (scheme === "ws" && token !== undefined && !isLocal(new URL(url).hostname)) {
    throw new TypeError("a token would be sent unencrypted: use wss://");
  }
  return [
    url,
    async () => {
      const { WebSocketTransport } = await import("./websocket.js");
      return WebSocketTransport.open(url, token, tls);
    },
  ];
}

function isLocal(name: string): boolean {
  return name === "localhost" || name === "[::1]" || (isIP(name) === 4 && name.startsWith("127."));
}
