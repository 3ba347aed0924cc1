/**
 * One connection of the drop-in dialect: bytes in, requests to the router one after another, answers out.
 *
 * L6, main isolate. Readiness comes edge-triggered from the server's epoll set, so every read goes on until EAGAIN.
 * Source: spec/rest-api.md §1, §1.3.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import type { SocketMessage } from "@ffi/libc/socket.ts";
import { SYS, syscall, word } from "@ffi/libc/syscall.ts";
import type { RefusalReason } from "@vmm/log/counters.ts";
import { PassedDescriptors } from "../passed_descriptors.ts";
import type { Router } from "../router.ts";
import { type ParseResult, RequestParser } from "./request_parser.ts";
import { continueBytes, faultBytes, responseBytes } from "./response_writer.ts";

/** Most descriptors that may wait for their request to be complete. */
const MAX_DESCRIPTORS = 512;
/** After a fault that cannot be recovered from, input is thrown away this long, so that the client can read why. */
const LINGER_MS = 1_000;
const SHUT_WR = 1n;
/** Requests of one connection answered in one turn of the event loop: others, timers and Workers want theirs. */
const REQUESTS_PER_TURN = 8;

/** What a connection needs from its server. */
export interface ConnectionHost {
  readonly router: Router;
  /** Shared by all connections: used between two awaits only. */
  readonly message: SocketMessage;
  readonly countRefusal: (reason: RefusalReason) => void;
  /** The connection is over; its descriptor is closed already. */
  readonly onClosed: (connection: Connection) => void;
}

/** A connection. Methods never throw. */
export class Connection {
  readonly #parser = new RequestParser();
  #descriptors: number[] = [];
  #serving = false;
  #lingering = false;
  #closed = false;
  #writable: PromiseWithResolvers<void> | undefined;
  #requestsThisTurn = 0;

  /** @param isOwn whether the client is this program itself */
  constructor(
    readonly fd: number,
    readonly token: number,
    private readonly host: ConnectionHost,
    readonly isOwn: boolean,
  ) {}

  /** Whether a request is being answered. */
  get busy(): boolean {
    return this.#serving;
  }

  /** The socket can be read (again). */
  onReadable(): void {
    // While one request is served the loop in #serve will come back to reading by itself.
    if (!this.#serving) this.#serve();
  }

  /** The socket can be written (again). */
  onWritable(): void {
    this.#writable?.resolve();
  }

  /** Ends the connection. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.fd);
    for (const fd of this.#descriptors.splice(0)) close(fd);
    this.#writable?.resolve();
    this.host.onClosed(this);
  }

  async #serve(): Promise<void> {
    this.#serving = true;
    this.#requestsThisTurn = 0;
    try {
      while (!this.#closed) {
        const result = this.#lingering ? undefined : this.#parser.next();
        if (result === undefined) {
          if (!this.#read()) break;
          continue;
        }
        await this.#handle(result);
        if (++this.#requestsThisTurn < REQUESTS_PER_TURN) continue;
        // All of this may have been answered in microtasks: without a pause nothing else would ever run.
        await new Promise<void>((resolve) => setImmediate(resolve));
        this.#requestsThisTurn = 0;
      }
    } finally {
      this.#serving = false;
    }
  }

  /** Reads once; false when there is nothing to read now or any more. */
  #read(): boolean {
    const { message } = this.host;
    const count = message.receive(this.fd);
    if (count === -Errno.EAGAIN) return false;
    if (count === -Errno.EINTR) return true;
    const { descriptors } = message;
    if (count <= 0 || this.#lingering) {
      for (const fd of descriptors) close(fd);
      if (count <= 0) this.close();
      return !this.#closed;
    }
    this.#descriptors.push(...descriptors);
    if (message.descriptorsLost || this.#descriptors.length > MAX_DESCRIPTORS) {
      this.host.countRefusal("too_many_descriptors");
      this.close();
      return false;
    }
    this.#parser.push(message.data.subarray(0, count));
    return true;
  }

  async #handle(result: ParseResult): Promise<void> {
    switch (result.kind) {
      case "continue":
        return await this.#write(continueBytes(result.version));
      case "request": {
        const fds = this.#descriptors;
        const passed = fds.length === 0 ? undefined : new PassedDescriptors(fds, close);
        if (passed !== undefined) this.#descriptors = [];
        return await this.#write(responseBytes(await this.host.router(result, passed, this.isOwn)));
      }
      case "fault":
        for (const fd of this.#descriptors.splice(0)) close(fd);
        this.host.countRefusal(result.tooLong ? "too_long" : "malformed");
        await this.#write(faultBytes(result.reason));
        if (result.fatal) this.#linger();
        return;
      default:
        result satisfies never;
    }
  }

  #linger(): void {
    if (this.#closed) return;
    this.#lingering = true;
    syscall(SYS.shutdown, word(this.fd), SHUT_WR);
    setTimeout(() => this.close(), LINGER_MS);
  }

  async #write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    let rest = bytes;
    while (!this.#closed) {
      const count = this.host.message.send(this.fd, rest);
      if (count === rest.length) return;
      if (count >= 0) {
        rest = rest.subarray(count);
      } else if (count === -Errno.EAGAIN) {
        // The writer's bytes are good for now only. The edge comes when the client has read; it cannot have come before this very call said EAGAIN.
        rest = rest.slice();
        this.#writable = Promise.withResolvers();
        await this.#writable.promise;
        this.#writable = undefined;
      } else if (count !== -Errno.EINTR) {
        this.close();
      }
    }
  }
}
