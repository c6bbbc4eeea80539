// Framed JSON over a WebSocket, for hosts elsewhere: each frame, length included, is one binary
// message.

import { once } from "node:events";
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { WebSocket } from "ws";
import type { Tls } from "./host.js";
import { HEADER_BYTES, MAX_FRAME_BYTES } from "./messages.js";
import { type Listener, PATIENCE_MS, type Transport } from "./transport.js";

/** Milliseconds without a sign of life after which a connection is asked for one, and given up. */
const HEARTBEAT_MS = 20_000;

export class WebSocketTransport implements Transport {
  readonly #socket: WebSocket;
  readonly #stream: () => Socket | undefined;
  #held = true;

  private constructor(socket: WebSocket, stream: () => Socket | undefined) {
    this.#socket = socket;
    this.#stream = stream;
  }

  static async open(
    url: string,
    token: string | undefined,
    tls: Tls | undefined,
  ): Promise<WebSocketTransport> {
    let stream: Socket | undefined;
    const socket = new WebSocket(url, {
      ...(token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }),
      ...tls,
      // A compressed message can be a thousand times as large as it looks.
      perMessageDeflate: false,
      followRedirects: false,
      handshakeTimeout: PATIENCE_MS,
      maxPayload: HEADER_BYTES + MAX_FRAME_BYTES,
      createConnection: ((options: { host: string; port: number; servername?: string }) => {
        stream = url.startsWith("wss:") ? connectTls(options) : connectPlain(options);
        return stream;
      }) as never,
    });
    await once(socket, "open");
    return new WebSocketTransport(socket, () => stream);
  }

  listen(listener: Listener): void {
    let why: string | undefined;
    let isAlive = true;
    const heartbeat = setInterval(() => {
      if (!isAlive) {
        why ??= "no answer to a ping";
        this.abort();
      } else if (this.#socket.readyState === WebSocket.OPEN) {
        isAlive = false;
        this.#socket.ping();
      }
    }, HEARTBEAT_MS);
    heartbeat.unref();
    this.#socket.on("pong", () => {
      isAlive = true;
    });
    this.#socket.on("message", (data: Buffer, isBinary: boolean) => {
      try {
        listener.frame(unwrapped(data, isBinary));
      } catch (error) {
        why ??= error instanceof Error ? error.message : String(error);
        this.abort();
      }
    });
    this.#socket.on("error", (error: Error) => {
      why ??= `WebSocket: ${error.message}`;
    });
    this.#socket.once("close", () => {
      clearInterval(heartbeat);
      listener.ended(why);
    });
  }

  write(frame: Buffer): void {
    // What cannot be written is said when the socket closes.
    this.#socket.send(frame, () => {});
  }

  queued(): number {
    return this.#socket.bufferedAmount;
  }

  end(): void {
    this.#socket.close();
  }

  abort(): void {
    this.#socket.terminate();
  }

  hold(held: boolean): void {
    if (held === this.#held) return;
    this.#held = held;
    if (held) this.#stream()?.ref();
    else this.#stream()?.unref();
  }
}

function unwrapped(message: Buffer, isBinary: boolean): Buffer {
  if (!isBinary) throw new TypeError("a text message, and frames are binary");
  const isWhole =
    message.length >= HEADER_BYTES && message.readUInt32LE() === message.length - HEADER_BYTES;
  if (!isWhole) throw new TypeError("a message that is not one frame");
  return message.subarray(HEADER_BYTES);
}
